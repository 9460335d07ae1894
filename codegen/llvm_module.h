// LlvmModule: a set of kernels becomes the bytes of one object file.
//
//   ASSIGN_OR_RETURN(CompiledObject object, CompileKernels(specs, symbols, target));
//
// One LLVMContext per call, so that calls may run on several threads at once. The middle end runs only a few cheap
// clean-up passes: the emitters write the loops they want, and the full pipeline costs more than code generation and
// gains nothing on such code. The object is position-independent and imports nothing: LLVM is told that there is no
// library, and an undefined symbol is an error here, not at load time. Tested by llvm_module_test.cc.
#ifndef TESSERA_CODEGEN_LLVM_MODULE_H_
#define TESSERA_CODEGEN_LLVM_MODULE_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "codegen/plan.h"
#include "codegen/target.h"

namespace tessera {

enum class CodeForm { kObject, kAssembly, kIr, kOptimizedIr };

// The kernels as object bytes, or as text for people. symbols[i] names specs[i]'s function.
StatusOr<std::vector<std::byte>> CompileKernels(std::span<const KernelSpec* const> specs,
                                                std::span<const std::string> symbols, const Target& target,
                                                CodeForm form = CodeForm::kObject);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_LLVM_MODULE_H_
