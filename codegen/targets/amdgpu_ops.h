// Device ops on AMD chips: what each row `gpu.…` of device_ops.def becomes there.
//
//   llvm::Value* value = WriteAmdgpuOp(ir, call, row, target);      // beside the call, which stays
//
// A warp is 32 lanes wherever emitters speak of one; a wave of 64 lanes is two of them side by side, of which each
// talks to itself: shuffles add the half's first lane, votes cut their half out of the wave's. Instructions that chips
// lack are made of others, exactly: bytes without and with sign are multiplied as signed ones, 128 lower.
// Tested by codegen/amdgpu_test.cc; values by the host's stand-ins, which say what an op means.
#ifndef TESSERA_CODEGEN_TARGETS_AMDGPU_OPS_H_
#define TESSERA_CODEGEN_TARGETS_AMDGPU_OPS_H_

#include <string_view>

#include "codegen/target.h"
#include "llvm/IR/IRBuilder.h"

namespace tessera {

// Is there a way to write the op?
bool AmdgpuHas(std::string_view op);
// What the call of `op` gives; null for void. The op is one that AmdgpuHas.
llvm::Value* WriteAmdgpuOp(llvm::IRBuilderBase& ir, const llvm::CallInst& call, std::string_view op,
                           const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_AMDGPU_OPS_H_
