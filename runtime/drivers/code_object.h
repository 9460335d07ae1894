// CodeObject: what a code object says of itself, read before AMD's driver gets it.
//
//   ASSIGN_OR_RETURN(CodeObject code, ReadCodeObject(bytes, "the kernels of program 'mlp'"));
//   code.chip                                // "gfx942"
//   code.Find("tessera_gemm_3")->kernarg_bytes
//
// A code object is an ELF file that lld has linked; each kernel k has a symbol k and a descriptor k.kd (LLVM, "User
// Guide for AMDGPU Backend", "Kernel Descriptor"). HIP takes a pointer without a size and believes what lies there, so
// that bytes from outside are checked here first: every table and section lies within them. Tested by
// code_object_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CODE_OBJECT_H_
#define TESSERA_RUNTIME_DRIVERS_CODE_OBJECT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tessera {

struct CodeObjectKernel {
  std::string name;
  int64_t kernarg_bytes = 0;  // of its arguments
  int64_t shared_bytes = 0;   // LDS of a work-group, without what a launch adds
  int64_t scratch_bytes = 0;  // of a work-item's own memory
};

struct CodeObject {
  std::string chip;                       // "gfx942"; "machine 0x4f" where it is none of the chips that targets list
  std::vector<CodeObjectKernel> kernels;  // by name
  const CodeObjectKernel* Find(std::string_view name) const;
};

// kProgramInvalid where the bytes are no code object; `what` names them.
StatusOr<CodeObject> ReadCodeObject(std::span<const std::byte> bytes, std::string_view what);

// The number by which a code object's header names a chip, 0 for one that is not listed.
uint32_t CodeObjectMachine(std::string_view chip);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CODE_OBJECT_H_
