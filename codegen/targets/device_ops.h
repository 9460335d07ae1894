// DeviceOps: what a GPU's kernels do beyond plain LLVM IR (barriers, shuffles, matrix products, asynchronous copies),
// as calls of declared functions that a last pass replaces.
//
//   IrValue other = DeviceOp(b, "gpu.shuffle_xor", {value, b.ir().getInt32(16)});
//   IrValue d = DeviceOp(b, "nv.mma.m16n8k16.f32.f16", {a0, a1, a2, a3, b0, b1, c0, c1, c2, c3});   // a struct of 4
//   f32
//
// device_ops.def is the one table. In the IR such an op is a call of `tessera.<name>`; LowerDeviceOps turns it into
// LLVM's intrinsic or the assembly text of its row, and emulate.h, for the target simt, into a call of its stand-in. So
// emitters hold no assembly text, and what runs on the host in tests is the IR that goes to the chip. An unknown name,
// operands of other types, and a chip without the op are errors there that name kernel and op; while the kernel is
// written, a call of an unknown name gives what the most similar name would. Tested by device_ops_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_DEVICE_OPS_H_
#define TESSERA_CODEGEN_TARGETS_DEVICE_OPS_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "codegen/target.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"

namespace tessera {

enum class DeviceOpEffects : uint8_t { kFree, kWarp, kWave, kWarpReads, kWarpWrites, kMemory, kBlock, kPlace, kGroup };

// A row of the table, as it stands there.
struct DeviceOpRow {
  std::string_view name, result, operands;
  DeviceOpEffects effects;
  std::string_view chip, text, constraints;

  bool IsConvergent() const { return effects != DeviceOpEffects::kFree && effects != DeviceOpEffects::kMemory; }
};

std::span<const DeviceOpRow> AllDeviceOps();
// Null for a name that the table lacks.
const DeviceOpRow* FindDeviceOp(std::string_view name);
// Does the table say that the target's chip has this op?
bool ChipHasDeviceOp(std::string_view name, const Target& target);
// Which operands of the op must be constants.
std::vector<unsigned> DeviceOpConstants(const DeviceOpRow& row);
// The type that a call of the op has.
llvm::FunctionType* DeviceOpType(const DeviceOpRow& row, llvm::LLVMContext& context);

// Writes a call of the op at the builder's place.
llvm::Value* DeviceOp(llvm::IRBuilderBase& ir, std::string_view name, llvm::ArrayRef<llvm::Value*> operands);

// The row of a called device op, null for any other call. kInternal for unknown names, wrong types, and chips that lack
// it, also for names that look like LLVM's intrinsics and are none.
StatusOr<const DeviceOpRow*> CheckDeviceOp(const llvm::CallInst& call, const Target& target);

// Replaces all device ops of the module for `target`'s chip.
Status LowerDeviceOps(llvm::Module& module, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_DEVICE_OPS_H_
