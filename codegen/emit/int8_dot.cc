#include "codegen/emit/int8_dot.h"

#include "llvm/IR/IntrinsicsAArch64.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace tessera {
namespace {

IrValue Call(KernelBuilder& b, llvm::Intrinsic::ID id, const IrValues& args) {
  return b.ir().CreateIntrinsic(id, {}, args);
}

}  // namespace

bool HasDotBytes(const Target& target) { return target.has_vnni || target.has_avx_vnni || target.has_i8mm; }

IrValue EmitDotPairs(KernelBuilder& b, IrValue sum, IrValue x, IrValue w) {
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(sum);
  if (b.target().kind != TargetKind::kX86) {
    const auto low = [&](IrValue pair) { return ir.CreateAShr(ir.CreateShl(pair, 16), 16); };
    sum = ir.CreateAdd(sum, ir.CreateMul(low(x), low(w)));
    return ir.CreateAdd(sum, ir.CreateMul(ir.CreateAShr(x, 16), ir.CreateAShr(w, 16)));
  }
  if (HasDotBytes(b.target())) {
    const llvm::Intrinsic::ID id = lanes == 16  ? llvm::Intrinsic::x86_avx512_vpdpwssd_512
                                   : lanes == 8 ? llvm::Intrinsic::x86_avx512_vpdpwssd_256
                                                : llvm::Intrinsic::x86_avx512_vpdpwssd_128;
    TES_CHECK(lanes == 16 || lanes == 8 || lanes == 4, lanes);
    return Call(b, id, {sum, x, w});
  }
  auto* pairs = llvm::FixedVectorType::get(ir.getInt16Ty(), 2 * lanes);
  const llvm::Intrinsic::ID id = lanes == 16  ? llvm::Intrinsic::x86_avx512_pmaddw_d_512
                                 : lanes == 8 ? llvm::Intrinsic::x86_avx2_pmadd_wd
                                              : llvm::Intrinsic::x86_sse2_pmadd_wd;
  TES_CHECK(lanes == 16 || lanes == 8 || lanes == 4, lanes);
  return ir.CreateAdd(sum, Call(b, id, {ir.CreateBitCast(x, pairs), ir.CreateBitCast(w, pairs)}));
}

IrValue EmitDotShort(KernelBuilder& b, IrValue sum, IrValue x, IrValue w) {
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(sum);
  TES_CHECK(lanes == 16 || lanes == 8, lanes);
  auto* bytes = llvm::FixedVectorType::get(ir.getInt8Ty(), 4 * lanes);
  auto* words = llvm::FixedVectorType::get(ir.getInt16Ty(), 2 * lanes);
  IrValue products =
      Call(b, lanes == 16 ? llvm::Intrinsic::x86_avx512_pmaddubs_w_512 : llvm::Intrinsic::x86_avx2_pmadd_ub_sw,
           {ir.CreateBitCast(x, bytes), ir.CreateBitCast(w, bytes)});
  return ir.CreateBitCast(ir.CreateAdd(ir.CreateBitCast(sum, words), products), sum->getType());
}

IrValue EmitDotBytes(KernelBuilder& b, IrValue sum, IrValue x, IrValue w) {
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(sum);
  if (b.target().has_i8mm) {
    TES_CHECK(lanes == 4, lanes);
    auto* bytes = llvm::FixedVectorType::get(ir.getInt8Ty(), 16);
    return ir.CreateIntrinsic(llvm::Intrinsic::aarch64_neon_usdot, {sum->getType(), bytes},
                              {sum, ir.CreateBitCast(x, bytes), ir.CreateBitCast(w, bytes)});
  }
  if (HasDotBytes(b.target())) {
    const llvm::Intrinsic::ID id = lanes == 16  ? llvm::Intrinsic::x86_avx512_vpdpbusd_512
                                   : lanes == 8 ? llvm::Intrinsic::x86_avx512_vpdpbusd_256
                                                : llvm::Intrinsic::x86_avx512_vpdpbusd_128;
    TES_CHECK(lanes == 16 || lanes == 8 || lanes == 4, lanes);
    return Call(b, id, {sum, x, w});
  }
  // Bytes 0 and 2 of each lane as 16-bit numbers, then bytes 1 and 3.
  auto* pairs = llvm::FixedVectorType::get(ir.getInt16Ty(), 2 * lanes);
  IrValue x_pairs = ir.CreateBitCast(x, pairs), w_pairs = ir.CreateBitCast(w, pairs);
  IrValue even = EmitDotPairs(b, sum, ir.CreateAnd(x_pairs, 255), ir.CreateAShr(ir.CreateShl(w_pairs, 8), 8));
  return EmitDotPairs(b, even, ir.CreateLShr(x_pairs, 8), ir.CreateAShr(w_pairs, 8));
}

}  // namespace tessera
