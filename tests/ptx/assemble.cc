// Assembles a file of PTX with nvJitLink as the driver cuda does, and prints its version and the size of the cubin; the
// assembler's words and status 1 where it refuses. For nvjitlink_test.py.
//
//   TESSERA_NVJITLINK=/usr/lib/libnvJitLink.so.13 assemble kernels.ptx sm_90a
#include <cstdio>

#include "base/file.h"
#include "runtime/drivers/cuda_assembler.h"

namespace tessera {
namespace {

Status Assemble(const char* path, const char* arch) {
  ASSIGN_OR_RETURN(const std::string ptx, ReadFile(path));
  ASSIGN_OR_RETURN(const NvJitLink* nvjitlink, OpenNvJitLink());
  ASSIGN_OR_RETURN(const std::string cubin, nvjitlink->Assemble(ptx, arch, path));
  std::printf("nvJitLink %d.%d: %zu bytes, %s\n", nvjitlink->major, nvjitlink->minor, cubin.size(),
              cubin.substr(0, 4) ==
                      "\x7f"
                      "ELF"
                  ? "ELF"
                  : "not ELF");
  return OkStatus();
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: assemble FILE.ptx ARCH\n");
    return 2;
  }
  const tessera::Status status = tessera::Assemble(argv[1], argv[2]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
