// Device ops on AMD chips: what the rows `gpu.…` and `amd.…` of device_ops.def become there.
//
//   llvm::Value* value = WriteAmdgpuOp(ir, call, row, target);      // beside the call, which stays
//
// Rows `amd.…` name the intrinsic themselves; its vectors are put together from registers.
//
// A warp is 32 lanes wherever emitters speak of one; a wave of 64 lanes is two of them side by side, of which each
// talks to itself: shuffles add the half's first lane, votes cut their half out of the wave's. Instructions that chips
// lack are made of others, exactly: bytes without and with sign are multiplied as signed ones, 128 lower.
// Tested by codegen/amdgpu_test.cc; values by the host's stand-ins, which say what an op means.
#ifndef TESSERA_CODEGEN_TARGETS_AMDGPU_OPS_H_
#define TESSERA_CODEGEN_TARGETS_AMDGPU_OPS_H_

#include <string_view>

#include "codegen/target.h"
#include "codegen/targets/device_ops.h"
#include "llvm/IR/IRBuilder.h"

namespace tessera {

// Is the row of AMD's chips alone?
bool IsAmdgpuRow(const DeviceOpRow& row);
// Does that chip have the op?
bool AmdgpuHas(const DeviceOpRow& row, std::string_view chip);
// What the call of the row's op gives; null for void. The target's chip has it.
llvm::Value* WriteAmdgpuOp(llvm::IRBuilderBase& ir, const llvm::CallInst& call, const DeviceOpRow& row,
                           const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_AMDGPU_OPS_H_
