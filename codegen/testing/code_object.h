// CodeObject: what AMD's loader would read in a linked code object, and which instructions each kernel has. For tests
// that look at machine code without a card.
//
//   ASSIGN_OR_RETURN(CodeObject object, ReadCodeObject(image.bytes, target));
//   object.kernels[0].instructions["v_dot4_i32_i8"]                 // 32
//   object.kernels[0].Count("v_mfma_")                              // of all whose names begin so
//
// Formats: LLVM, "User Guide for AMDGPU Backend", code object V4 metadata. Values only. Tested by amdgpu_test.cc.
#ifndef TESSERA_CODEGEN_TESTING_CODE_OBJECT_H_
#define TESSERA_CODEGEN_TESTING_CODE_OBJECT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "codegen/target.h"

namespace tessera {

struct KernelCode {
  std::string name;
  // Of the metadata note.
  int64_t scratch_bytes = 0;  // of a lane's private memory
  int64_t vgpr_spills = 0, sgpr_spills = 0;
  bool dynamic_stack = false;
  int64_t static_shared_bytes = 0;
  int64_t args_bytes = 0;
  int64_t vgprs = 0, agprs = 0, sgprs = 0;  // vgprs: of both kinds together where the chip has one file for them
  int64_t wave = 0, max_threads = 0;
  std::vector<std::string> hidden_args;  // "hidden_block_count_x", …
  // Of the machine code: how often each mnemonic stands there, without encodings' endings (_e32, _e64, _vi …).
  std::map<std::string, int> instructions;
  int64_t code_bytes = 0;

  int Count(std::string_view prefix) const;
};

struct CodeObject {
  std::vector<KernelCode> kernels;     // by name
  std::vector<std::string> undefined;  // symbols that nobody in it defines
};

// kInternal for what is no code object, or holds bytes that are no instruction of the target's chip.
StatusOr<CodeObject> ReadCodeObject(std::span<const std::byte> bytes, const Target& target);

// Waves that one of the chip's SIMD units holds with a kernel's registers, and blocks of `threads` that a compute unit
// holds with them and `shared_bytes` of its memory. Sources: AMD's instruction set documents; LLVM, AMDGPUBaseInfo.
int64_t WavesPerSimd(const KernelCode& kernel, const Target& target);
int64_t BlocksPerUnit(const KernelCode& kernel, int64_t threads, int64_t shared_bytes, const Target& target);

// What a kernel of ours must keep, one line for each rule that it breaks: no scratch, no spills, no hidden arguments,
// `args` arguments of 8 bytes, the target's wave, nothing static in shared memory. Empty for a good kernel.
std::vector<std::string> FaultsOf(const KernelCode& kernel, int64_t args, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TESTING_CODE_OBJECT_H_
