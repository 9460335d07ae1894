#include "codegen/emit/testing/kernel_runner.h"

#include "codegen/llvm_module.h"

namespace tessera {

StatusOr<KernelRunner> KernelRunner::Make(const KernelSpec& kernel, const Target& target) {
  const KernelSpec* const specs[] = {&kernel};
  const std::string symbols[] = {"tessera_" + kernel.family};
  ASSIGN_OR_RETURN(const std::vector<std::byte> object, CompileKernels(specs, symbols, target));
  KernelRunner runner;
  ASSIGN_OR_RETURN(runner.library_, KernelLibrary::Load(object, kernel.family));
  void* address = runner.library_.Lookup(symbols[0]);
  TES_CHECK(address != nullptr, symbols[0]);
  runner.function_ = reinterpret_cast<decltype(runner.function_)>(address);
  return runner;
}

StatusOr<std::string> KernelAssembly(const KernelSpec& kernel, const Target& target) {
  const KernelSpec* const specs[] = {&kernel};
  const std::string symbols[] = {"tessera_" + kernel.family};
  ASSIGN_OR_RETURN(const std::vector<std::byte> text, CompileKernels(specs, symbols, target, CodeForm::kAssembly));
  return std::string(reinterpret_cast<const char*>(text.data()), text.size());
}

}  // namespace tessera
