// KernelRunner: one KernelSpec, compiled and loaded, to be called from tests and benchmarks without a graph or a
// device.
//
//   ASSIGN_OR_RETURN(KernelRunner run, KernelRunner::Make(step.kernel, target));
//   run(args, 0, step.tasks);
//
// Thread-compatible; the caller guarantees that arguments have the sizes that the kernel expects.
#ifndef TESSERA_CODEGEN_EMIT_TESTING_KERNEL_RUNNER_H_
#define TESSERA_CODEGEN_EMIT_TESTING_KERNEL_RUNNER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "codegen/plan.h"
#include "codegen/target.h"
#include "runtime/library.h"

namespace tessera {

class KernelRunner {
 public:
  static StatusOr<KernelRunner> Make(const KernelSpec& kernel, const Target& target);

  // Tasks [begin, end). `scratch` may be nullptr where the kernel uses none.
  void operator()(const std::vector<void*>& args, int64_t begin, int64_t end, void* scratch = nullptr) const {
    function_(args.data(), begin, end, scratch);
  }
  int64_t code_bytes() const { return static_cast<int64_t>(library_.code().size()); }

 private:
  KernelLibrary library_;
  void (*function_)(void* const* args, int64_t begin, int64_t end, void* scratch) = nullptr;
};

// The kernel's assembly, for people.
StatusOr<std::string> KernelAssembly(const KernelSpec& kernel, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TESTING_KERNEL_RUNNER_H_
