#include "codegen/emit/dot.h"

#include "codegen/emit/int8_dot.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace tessera {
namespace {

bool IsByte(DType type) { return type == DType::kU8 || type == DType::kI8; }

}  // namespace

std::optional<Dot> Dot::Choose(const Target& target, DType a, DType b, std::string* why) {
  if (a == b && (a == DType::kF32 || a == DType::kF64)) return Dot{Kind::kOne, a, b};
  if (IsByte(a) && IsByte(b)) {
    const bool bytes = HasDotBytes(target) && a == DType::kU8 && b == DType::kI8;
    return Dot{bytes ? Kind::kFourBytes : Kind::kWordPairs, a, b};
  }
  if (a == DType::kBF16 && b == DType::kBF16 && target.has_bf16) return Dot{Kind::kTwoBfloats, a, b};
  *why = internal::Join("expected two of f32 or f64, or bytes", target.has_bf16 ? ", or bf16" : "", ", found ", Name(a),
                        " and ", Name(b));
  return std::nullopt;
}

int Dot::instructions(const Target& target) const {
  if (kind == Kind::kOne) return target.has_fma ? 1 : 2;
  if (kind == Kind::kShortSums) return 2;
  if (kind != Kind::kWordPairs && kind != Kind::kWords) return 1;
  return parts() * (HasDotBytes(target) ? 1 : 2);
}

int Dot::multiplications(const Target& target) const { return kind == Kind::kOne ? instructions(target) : parts(); }

std::optional<Dot> Dot::OfShortSums(const Target& target, int largest) {
  if (target.kind != TargetKind::kX86 || target.vector_bits < 256 || HasDotBytes(target)) return std::nullopt;
  // Two products of each unit meet in a sum of 16 bits.
  const int units = INT16_MAX / (2 * 255 * std::max(1, largest));
  if (units < 1) return std::nullopt;
  return Dot{Kind::kShortSums, DType::kU8, DType::kI8, std::min(units, 8)};
}

std::optional<Dot> Dot::OfWords() const {
  if (kind != Kind::kWordPairs) return std::nullopt;
  return Dot{Kind::kWords, DType::kI16, b};
}

std::string Dot::Key() const {
  if (kind == Kind::kOne) return std::string(Name(a));
  if (kind == Kind::kShortSums) return internal::Join(Name(a), "*", Name(b), " in sums of ", short_units);
  return internal::Join(Name(a), "*", Name(b), kind == Kind::kWordPairs ? " by words" : "");
}

IrValue EmitUnit(KernelBuilder& b, const Dot& dot, IrValue pointer, IrValue at, int count) {
  if (dot.kind == Dot::Kind::kOne) return b.Load(pointer, at, dot.a, 1);
  auto& ir = b.ir();
  IrValue address = b.ElementPointer(pointer, at, dot.a);
  const int bits = TypeInfo(dot.a).bits;
  if (count == dot.unit()) return ir.CreateAlignedLoad(ir.getInt32Ty(), address, llvm::Align(bits / 8));
  IrValue unit = nullptr;
  for (int k = 0; k < count; ++k) {
    IrValue element =
        ir.CreateAlignedLoad(ir.getIntNTy(bits), b.ElementPointer(address, b.I64(k), dot.a), llvm::Align(bits / 8));
    element = ir.CreateShl(ir.CreateZExt(element, ir.getInt32Ty()), k * bits);
    unit = unit == nullptr ? element : ir.CreateOr(unit, element);
  }
  return unit;
}

IrValues EmitParts(KernelBuilder& b, const Dot& dot, DType type, IrValue units) {
  if (dot.kind != Dot::Kind::kWordPairs) return {units};
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(units);
  auto* words = llvm::FixedVectorType::get(ir.getInt16Ty(), 2 * lanes);
  IrValue pairs = ir.CreateBitCast(units, words), even, odd;
  if (type == DType::kI8) {
    even = ir.CreateAShr(ir.CreateShl(pairs, 8), 8);
    odd = ir.CreateAShr(pairs, 8);
  } else {
    even = ir.CreateAnd(pairs, llvm::ConstantInt::get(words, 255));
    odd = ir.CreateLShr(pairs, 8);
  }
  return {ir.CreateBitCast(even, units->getType()), ir.CreateBitCast(odd, units->getType())};
}

IrValues EmitDotSplat(KernelBuilder& b, const Dot& dot, IrValue unit, int lanes) {
  return EmitParts(b, dot, dot.a, b.Splat(unit, lanes));
}

IrValue EmitSum(KernelBuilder& b, const Dot& dot, IrValue sum) {
  if (dot.kind != Dot::Kind::kShortSums) return sum;
  const int lanes = KernelBuilder::LanesOf(sum);
  IrValue ones = b.ConstantInt(DType::kI32, 0x10001, lanes);
  return EmitDotPairs(b, b.Zero(DType::kI32, lanes), sum, ones);
}

IrValue EmitDot(KernelBuilder& b, const Dot& dot, const IrValues& a, const IrValues& w, IrValue sum) {
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(sum);
  switch (dot.kind) {
    case Dot::Kind::kOne: return b.Fma(a[0], w[0], sum);
    case Dot::Kind::kFourBytes: return EmitDotBytes(b, sum, a[0], w[0]);
    case Dot::Kind::kShortSums: return EmitDotShort(b, sum, a[0], w[0]);
    case Dot::Kind::kWords: return EmitDotPairs(b, sum, a[0], w[0]);
    case Dot::Kind::kWordPairs: return EmitDotPairs(b, EmitDotPairs(b, sum, a[0], w[0]), a[1], w[1]);
    case Dot::Kind::kTwoBfloats: break;
  }
  auto* bfloats = llvm::FixedVectorType::get(ir.getBFloatTy(), 2 * lanes);
  const llvm::Intrinsic::ID id = lanes == 16  ? llvm::Intrinsic::x86_avx512bf16_dpbf16ps_512
                                 : lanes == 8 ? llvm::Intrinsic::x86_avx512bf16_dpbf16ps_256
                                              : llvm::Intrinsic::x86_avx512bf16_dpbf16ps_128;
  return ir.CreateIntrinsic(id, {}, {sum, ir.CreateBitCast(a[0], bfloats), ir.CreateBitCast(w[0], bfloats)});
}

}  // namespace tessera
