#include "codegen/testing/device_op_probe.h"

#include <algorithm>
#include <string>
#include <vector>

#include "codegen/emit/kernel_builder.h"

namespace tessera {
namespace {

// A number that the op takes where it must be a constant.
uint32_t ConstantFor(const DeviceOpRow& row) { return row.name.find("setmaxnreg") == std::string_view::npos ? 1 : 40; }

void Emit(KernelBuilder& b, const DeviceOpRow& row) {
  llvm::IRBuilder<>& ir = b.ir();
  llvm::FunctionType* type = DeviceOpType(row, b.context());
  const std::vector<unsigned> constants = DeviceOpConstants(row);
  IrValues operands;
  for (unsigned k = 0; k < type->getNumParams(); ++k) {
    llvm::Type* operand = type->getParamType(k);
    if (std::find(constants.begin(), constants.end(), k) != constants.end()) {
      operands.push_back(ir.getInt32(ConstantFor(row)));
    } else if (operand->isPointerTy()) {
      operands.push_back(ir.CreateAddrSpaceCast(ir.CreateLoad(ir.getPtrTy(), b.arg(0)), operand));
    } else {
      operands.push_back(ir.CreateLoad(operand, b.arg(0), /*isVolatile=*/true));
    }
  }
  const bool asynchronous = row.name.rfind("nv.wgmma.m", 0) == 0;
  if (asynchronous) DeviceOp(b, "nv.wgmma.fence", {});
  IrValue result = DeviceOp(b, row.name, operands);
  if (asynchronous) {
    DeviceOp(b, "nv.wgmma.commit", {});
    auto* members = llvm::cast<llvm::StructType>(result->getType());
    const unsigned count = members->getNumElements();
    IrValues accumulators = {ir.getInt32(0)};
    for (unsigned k = 0; k < count; ++k) accumulators.push_back(ir.CreateExtractValue(result, k));
    const std::string of = members->getElementType(0)->isFloatTy() ? "f32x" : "s32x";
    result = DeviceOp(b, "nv.wgmma.wait." + of + std::to_string(count), accumulators);
  }
  if (row.name == "nv.wgmma.commit") DeviceOp(b, "nv.wgmma.wait", {ir.getInt32(0)});
  if (!result->getType()->isVoidTy()) ir.CreateStore(result, b.arg(0), /*isVolatile=*/true);
}

}  // namespace

KernelSpec DeviceOpProbe(const DeviceOpRow& row) {
  KernelSpec spec;
  spec.family = "probe";
  spec.key = "device op " + std::string(row.name);
  spec.num_args = 1;
  spec.block_threads = 128;
  spec.blocks_per_unit = 1;
  spec.emit = [&row](KernelBuilder& b) { Emit(b, row); };
  return spec;
}

}  // namespace tessera
