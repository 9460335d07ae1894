#include "codegen/targets/amdgpu_link.h"

#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>

#include "base/file.h"
#include "lld/Common/Driver.h"
#include "llvm/Support/raw_ostream.h"

LLD_HAS_DRIVER(elf)

namespace tessera {
namespace {

// A folder of our own, which goes with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code ignored;
    path_ = (std::filesystem::temp_directory_path(ignored) / "tessera-XXXXXX").string();
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

StatusOr<std::vector<std::byte>> LinkCodeObject(std::string_view object) {
  static std::mutex one_at_a_time;  // lld's state is global
  static bool usable = true;
  const TemporaryFolder folder;
  if (folder.path().empty()) {
    return Error(ErrorCode::kFileUnwritable, "no folder for temporary files could be made to link a GPU's kernels; ",
                 "expected one that may be written in TMPDIR or /tmp");
  }
  const std::string in = folder.path() + "/kernels.o", out = folder.path() + "/kernels.so";
  RETURN_IF_ERROR(WriteFileAtomically(in, object));
  std::string words;
  llvm::raw_string_ostream stream(words);
  {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    if (!usable) return Error(ErrorCode::kInternal, "lld has crashed before in this process");
    const char* args[] = {"ld.lld",   "-shared", "--no-undefined", "--threads=1", "--build-id=none", "-O1",
                          in.c_str(), "-o",      out.c_str()};
    const lld::Result result = lld::lldMain(args, stream, stream, {{lld::Gnu, &lld::elf::link}});
    usable = result.canRunAgain;
    if (result.retCode != 0) return Error(ErrorCode::kInternal, "lld linked no code object: ", words);
  }
  ASSIGN_OR_RETURN(const std::string linked, ReadFile(out));
  const auto* bytes = reinterpret_cast<const std::byte*>(linked.data());
  return std::vector<std::byte>(bytes, bytes + linked.size());
}

}  // namespace tessera
