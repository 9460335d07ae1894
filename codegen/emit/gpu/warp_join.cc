#include "codegen/emit/gpu/warp_join.h"

#include "llvm/IR/DataLayout.h"
#include "llvm/IR/Module.h"

namespace tessera {

IrValue ShuffleXor(KernelBuilder& b, IrValue value, int mask) {
  llvm::IRBuilder<>& ir = b.ir();
  llvm::Type* type = value->getType();
  const auto words = [&](IrValue word) {
    return DeviceOp(b, "gpu.shuffle_xor", {word, ir.getInt32(static_cast<uint32_t>(mask))});
  };
  const unsigned bits = type->getPrimitiveSizeInBits().getFixedValue();
  if (bits < 32) return ir.CreateTrunc(words(ir.CreateZExt(value, ir.getInt32Ty())), type);
  if (bits == 32) return ir.CreateBitCast(words(ir.CreateBitCast(value, ir.getInt32Ty())), type);
  TES_CHECK(bits == 64, bits);
  auto* pair = llvm::FixedVectorType::get(ir.getInt32Ty(), 2);
  IrValue halves = ir.CreateBitCast(value, pair), result = llvm::PoisonValue::get(pair);
  for (uint64_t k = 0; k < 2; ++k) {
    result = ir.CreateInsertElement(result, words(ir.CreateExtractElement(halves, k)), k);
  }
  return ir.CreateBitCast(result, type);
}

IrValue JoinLanes(KernelBuilder& b, IrValue value, int width, const JoinFunction& join) {
  TES_CHECK(width <= kWarp && (width & (width - 1)) == 0, width);
  for (int mask = width / 2; mask > 0; mask /= 2) value = join(value, ShuffleXor(b, value, mask));
  return value;
}

IrValue JoinThreads(KernelBuilder& b, IrValue value, int width, const JoinFunction& join) {
  if (width <= kWarp) return JoinLanes(b, value, width, join);
  llvm::IRBuilder<>& ir = b.ir();
  value = JoinLanes(b, value, kWarp, join);
  const int warps = width / kWarp;
  const bool is_bit = value->getType()->isIntegerTy(1);
  if (is_bit) value = ir.CreateZExt(value, ir.getInt32Ty());
  llvm::Type* type = value->getType();
  const int64_t bytes = static_cast<int64_t>(type->getPrimitiveSizeInBits().getFixedValue() / 8);
  IrValue shared = b.Shared(warps * bytes);
  IrValue thread = b.ThreadId();
  const auto place = [&](IrValue k) { return ir.CreateInBoundsGEP(type, shared, ir.CreateZExt(k, ir.getInt64Ty())); };
  IrValue first = ir.CreateICmpEQ(ir.CreateAnd(thread, kWarp - 1), ir.getInt32(0));
  b.If("first_lane", first, [&] { ir.CreateStore(value, place(ir.CreateLShr(thread, 5))); });
  b.Barrier();
  value = ir.CreateLoad(type, place(ir.CreateAnd(thread, static_cast<uint64_t>(warps - 1))));
  if (is_bit) value = ir.CreateTrunc(value, ir.getInt1Ty());
  return JoinLanes(b, value, warps, join);
}

}  // namespace tessera
