#include "codegen/emit/testing/sparse_product.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "codegen/compile.h"
#include "codegen/target.h"
#include "runtime/device.h"

namespace tessera {
namespace {

// Bytes that end where memory ends.
class GuardedBytes {
 public:
  explicit GuardedBytes(int64_t size) {
    constexpr int64_t kPage = 4096;
    const int64_t pages = (size + kPage - 1) / kPage * kPage;
    mapped_ = pages + 2 * kPage;
    base_ = static_cast<std::byte*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TES_CHECK(base_ != MAP_FAILED, "mmap");
    TES_CHECK(mprotect(base_ + kPage, std::max(pages, kPage), PROT_READ | PROT_WRITE) == 0, "mprotect");
    data_ = base_ + kPage + pages - size;
  }
  GuardedBytes(GuardedBytes&& other) noexcept {
    std::swap(base_, other.base_), std::swap(mapped_, other.mapped_), std::swap(data_, other.data_);
  }
  ~GuardedBytes() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }
  std::byte* data() const { return data_; }

 private:
  std::byte* base_ = nullptr;
  int64_t mapped_ = 0;
  std::byte* data_ = nullptr;
};

}  // namespace

StatusOr<std::vector<std::vector<Tensor>>> RunGuarded(const Graph& graph, std::span<const Tensor> inputs,
                                                      const std::string& level, const std::string& emitter,
                                                      const std::vector<int>& threads) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget(level));
  // For the last count: whoever runs it, the results are the same.
  CompileOptions options = {.threads = 1, .only_emitter = emitter};
  options.run_threads = threads.back();
  ASSIGN_OR_RETURN(CompileResult compiled, Compile(graph, target, options));
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenDevice("host"));
  std::vector<std::vector<Tensor>> results;
  for (const int count : threads) {
    ASSIGN_OR_RETURN(std::unique_ptr<Executable> executable, device->Load(compiled.program, {.threads = count}));
    std::vector<GuardedBytes> memory;
    std::vector<const void*> from;
    std::vector<void*> to;
    for (const Tensor& input : inputs) {
      memory.emplace_back(input.byte_size());
      std::memcpy(memory.back().data(), input.bytes().data(), input.byte_size());
      from.push_back(memory.back().data());
    }
    for (const ProgramPort& port : compiled.program->outputs) {
      memory.emplace_back(ByteSize(port.type.dtype, port.type.shape.num_elements()));
      to.push_back(memory.back().data());
    }
    RETURN_IF_ERROR(executable->Run(from, to));
    results.emplace_back();
    for (size_t k = 0; k < to.size(); ++k) {
      Tensor output(compiled.program->outputs[k].type.dtype, compiled.program->outputs[k].type.shape);
      std::memcpy(output.mutable_bytes().data(), to[k], output.byte_size());
      results.back().push_back(std::move(output));
    }
  }
  return results;
}

}  // namespace tessera
