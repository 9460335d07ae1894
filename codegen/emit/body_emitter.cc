#include "codegen/emit/body_emitter.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "codegen/emit/body_bounds.h"
#include "codegen/emit/vector_math.h"
#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/IntrinsicsX86.h"
#include "tesa/tensor.h"

namespace tessera {
namespace {

// One instruction's operands, brought to a common number of lanes.
class InstEmitter {
 public:
  InstEmitter(KernelBuilder& b, DType operand) : b_(b), ir_(b.ir()), type_(operand) {}

  IrValue Emit(ScalarOp op, IrValue x, IrValue y) {
    if (IsFloat(type_)) return EmitFloat(op, x, y);
    return EmitInt(op, x, y);
  }

 private:
  IrValue EmitFloat(ScalarOp op, IrValue x, IrValue y) {
    switch (op) {
      case ScalarOp::kAdd: return ir_.CreateFAdd(x, y);
      case ScalarOp::kSub: return ir_.CreateFSub(x, y);
      case ScalarOp::kMul: return ir_.CreateFMul(x, y);
      case ScalarOp::kDiv: return FloatDiv(x, y);
      case ScalarOp::kRem: return EmitRem(b_, x, y);
      case ScalarOp::kPow: return EmitPow(b_, x, y);
      case ScalarOp::kMin: return MinMax(x, y, /*take_greater=*/false);
      case ScalarOp::kMax: return MinMax(x, y, /*take_greater=*/true);
      case ScalarOp::kNeg: return ir_.CreateFNeg(x);
      case ScalarOp::kAbs: return ir_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x);
      case ScalarOp::kFloor: return EmitFloor(b_, x);
      case ScalarOp::kCeil: return EmitCeil(b_, x);
      case ScalarOp::kTrunc: return EmitTrunc(b_, x);
      case ScalarOp::kRoundEven: return EmitRoundEven(b_, x);
      case ScalarOp::kSqrt: return ir_.CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, x);
      case ScalarOp::kExp: return EmitExp(b_, x);
      case ScalarOp::kLog: return EmitLog(b_, x);
      case ScalarOp::kLog1p: return EmitLog1p(b_, x);
      case ScalarOp::kExpm1: return EmitExpm1(b_, x);
      case ScalarOp::kErf: return EmitErf(b_, x);
      case ScalarOp::kTanh: return EmitTanh(b_, x);
      case ScalarOp::kSin: return EmitSin(b_, x);
      case ScalarOp::kCos: return EmitCos(b_, x);
      case ScalarOp::kEq: return ir_.CreateFCmpOEQ(x, y);
      case ScalarOp::kNe: return ir_.CreateFCmpUNE(x, y);
      case ScalarOp::kLt: return ir_.CreateFCmpOLT(x, y);
      case ScalarOp::kLe: return ir_.CreateFCmpOLE(x, y);
      case ScalarOp::kIsNan: return ir_.CreateFCmpUNO(x, x);
      case ScalarOp::kIsInf:
        return ir_.CreateFCmpOEQ(ir_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x),
                                 llvm::ConstantFP::getInfinity(x->getType()));
      default: break;
    }
    TES_CHECK(false, "float op ", ScalarInfo(op).name);
    return nullptr;
  }

  // NaN passes on. The select form `c > x ? c : x` is one instruction and keeps a NaN in x; a constant is no NaN, so it
  // goes first and nothing more is needed.
  IrValue MinMax(IrValue x, IrValue y, bool take_greater) {
    if (llvm::isa<llvm::Constant>(y)) std::swap(x, y);
    IrValue takes_x = take_greater ? ir_.CreateFCmpOGT(x, y) : ir_.CreateFCmpOLT(x, y);
    IrValue value = ir_.CreateSelect(takes_x, x, y);
    if (llvm::isa<llvm::Constant>(x)) return value;
    return ir_.CreateSelect(ir_.CreateFCmpUNO(x, x), x, value);
  }

  IrValue EmitInt(ScalarOp op, IrValue x, IrValue y) {
    const bool is_unsigned = IsUnsigned(type_);
    const int bits = TypeInfo(type_).bits;
    const auto constant = [&](int64_t value) {
      return llvm::ConstantInt::get(x->getType(), static_cast<uint64_t>(value), true);
    };
    const bool is_bool = IsBool(type_);
    switch (op) {
      case ScalarOp::kAdd: return is_bool ? ir_.CreateOr(x, y) : ir_.CreateAdd(x, y);
      case ScalarOp::kSub: return is_bool ? ir_.CreateXor(x, y) : ir_.CreateSub(x, y);
      case ScalarOp::kMul: return is_bool ? ir_.CreateAnd(x, y) : ir_.CreateMul(x, y);
      case ScalarOp::kDiv:
      case ScalarOp::kRem: return DivRem(op, x, y);
      case ScalarOp::kPow: return IntPow(x, y);
      case ScalarOp::kMin: return ir_.CreateSelect(Less(x, y), x, y);
      case ScalarOp::kMax: return ir_.CreateSelect(Less(x, y), y, x);
      case ScalarOp::kAnd: return ir_.CreateAnd(x, y);
      case ScalarOp::kOr: return ir_.CreateOr(x, y);
      case ScalarOp::kXor: return ir_.CreateXor(x, y);
      case ScalarOp::kShl:
      case ScalarOp::kShr: {
        if (is_bool) return ir_.CreateAnd(x, ir_.CreateNot(y));
        IrValue fits = ir_.CreateICmpULT(y, constant(bits));
        IrValue by = ir_.CreateSelect(fits, y, constant(0));
        IrValue shifted =
            op == ScalarOp::kShl ? ir_.CreateShl(x, by) : (is_unsigned ? ir_.CreateLShr(x, by) : ir_.CreateAShr(x, by));
        return ir_.CreateSelect(fits, shifted, constant(0));
      }
      case ScalarOp::kNot: return ir_.CreateNot(x);
      case ScalarOp::kNeg: return is_bool ? x : ir_.CreateNeg(x);
      case ScalarOp::kAbs:
        if (is_unsigned || is_bool) return x;
        return ir_.CreateSelect(ir_.CreateICmpSLT(x, constant(0)), ir_.CreateNeg(x), x);
      case ScalarOp::kFloor:
      case ScalarOp::kCeil:
      case ScalarOp::kTrunc:
      case ScalarOp::kRoundEven: return x;
      case ScalarOp::kEq: return ir_.CreateICmpEQ(x, y);
      case ScalarOp::kNe: return ir_.CreateICmpNE(x, y);
      case ScalarOp::kLt: return Less(x, y);
      case ScalarOp::kLe: return ir_.CreateNot(Less(y, x));
      default: break;
    }
    TES_CHECK(false, "integer op ", ScalarInfo(op).name);
    return nullptr;
  }

  IrValue Less(IrValue x, IrValue y) {
    return IsUnsigned(type_) || IsBool(type_) ? ir_.CreateICmpULT(x, y) : ir_.CreateICmpSLT(x, y);
  }

  // On GPUs a division is a call: by a constant it is a product with its reciprocal, to one unit in the last place.
  IrValue FloatDiv(IrValue x, IrValue y) {
    const auto* divisor = llvm::dyn_cast<llvm::Constant>(y);
    if (divisor != nullptr && divisor->getType()->isVectorTy()) divisor = divisor->getSplatValue();
    const auto* number = llvm::dyn_cast_or_null<llvm::ConstantFP>(divisor);
    if (b_.target().IsGpu() && number != nullptr && number->getType()->isFloatTy()) {
      const float inverse = 1 / number->getValueAPF().convertToFloat();
      if (std::isnormal(inverse)) return ir_.CreateFMul(x, llvm::ConstantFP::get(x->getType(), inverse));
    }
    return ir_.CreateFDiv(x, y);
  }

  IrValue DivRem(ScalarOp op, IrValue x, IrValue y) {
    const auto constant = [&](int64_t value) {
      return llvm::ConstantInt::get(x->getType(), static_cast<uint64_t>(value), true);
    };
    const bool is_div = op == ScalarOp::kDiv;
    IrValue zero = ir_.CreateICmpEQ(y, constant(0));
    if (IsUnsigned(type_) || IsBool(type_)) {
      IrValue divisor = ir_.CreateSelect(zero, constant(1), y);
      IrValue value = is_div ? ir_.CreateUDiv(x, divisor) : ir_.CreateURem(x, divisor);
      return ir_.CreateSelect(zero, constant(0), value);
    }
    // The lowest integer divided by -1 would trap: -1 is a negation instead.
    IrValue minus_one = ir_.CreateICmpEQ(y, constant(-1));
    IrValue divisor = ir_.CreateSelect(ir_.CreateOr(zero, minus_one), constant(1), y);
    IrValue value = is_div ? ir_.CreateSDiv(x, divisor) : ir_.CreateSRem(x, divisor);
    value = ir_.CreateSelect(minus_one, is_div ? ir_.CreateNeg(x) : constant(0), value);
    return ir_.CreateSelect(zero, constant(0), value);
  }

  // Square and multiply over all bits of the exponent; negative exponents give 0 except for a base of 1 or -1.
  IrValue IntPow(IrValue x, IrValue y) {
    const auto constant = [&](int64_t value) {
      return llvm::ConstantInt::get(x->getType(), static_cast<uint64_t>(value), true);
    };
    if (IsBool(type_)) return ir_.CreateOr(x, ir_.CreateNot(y));
    const int bits = TypeInfo(type_).bits;
    IrValue result = constant(1), base = x;
    for (int bit = 0; bit < bits - (IsUnsigned(type_) ? 0 : 1); ++bit) {
      IrValue set = ir_.CreateICmpNE(ir_.CreateAnd(ir_.CreateLShr(y, constant(bit)), constant(1)), constant(0));
      result = ir_.CreateSelect(set, ir_.CreateMul(result, base), result);
      base = ir_.CreateMul(base, base);
    }
    if (IsUnsigned(type_)) return result;
    IrValue even = ir_.CreateICmpEQ(ir_.CreateAnd(y, constant(1)), constant(0));
    IrValue minus_one = ir_.CreateSelect(even, constant(1), constant(-1));
    IrValue inverse = ir_.CreateSelect(ir_.CreateICmpEQ(x, constant(1)), constant(1),
                                       ir_.CreateSelect(ir_.CreateICmpEQ(x, constant(-1)), minus_one, constant(0)));
    return ir_.CreateSelect(ir_.CreateICmpSLT(y, constant(0)), inverse, result);
  }

  KernelBuilder& b_;
  llvm::IRBuilder<>& ir_;
  DType type_;
};

// Float to i32, u32, i64 or u64: towards 0, saturating, NaN gives 0. LLVM's intrinsic for that becomes scalar code on
// x86; its plain conversion is an instruction, but undefined for what does not fit, so that is taken out before.
IrValue EmitFloatToInt(KernelBuilder& b, IrValue x, DType to) {
  auto& ir = b.ir();
  llvm::Type* type = b.VectorType(to, KernelBuilder::LanesOf(x));
  const bool is_unsigned = IsUnsigned(to);
  if (b.target().kind != TargetKind::kX86) {
    const auto id = is_unsigned ? llvm::Intrinsic::fptoui_sat : llvm::Intrinsic::fptosi_sat;
    return ir.CreateIntrinsic(id, {type, x->getType()}, {x});
  }
  // The lowest value is a power of two or 0, the first that is too high a power of two: both are exact in any float.
  const int value_bits = TypeInfo(to).bits - (is_unsigned ? 0 : 1);
  llvm::Constant* high = llvm::ConstantFP::get(x->getType(), std::ldexp(1.0, value_bits));
  llvm::Constant* low = llvm::ConstantFP::get(x->getType(), is_unsigned ? 0.0 : -std::ldexp(1.0, value_bits));
  IrValue above = ir.CreateFCmpOGE(x, high);
  IrValue fits = ir.CreateSelect(ir.CreateFCmpOLT(x, high), x, llvm::Constant::getNullValue(x->getType()));
  fits = ir.CreateSelect(ir.CreateFCmpOGT(fits, low), fits, low);
  IrValue value = is_unsigned ? ir.CreateFPToUI(fits, type) : ir.CreateFPToSI(fits, type);
  llvm::Constant* highest = is_unsigned ? llvm::Constant::getAllOnesValue(type)
                                        : llvm::ConstantInt::get(type, static_cast<uint64_t>(MaxInt(to)), true);
  return ir.CreateSelect(above, highest, value);
}

// f32 that i32 holds, to it: one instruction, of x86's or of LLVM's where that is none either. `rounds`: to the
// nearest, of two the even one; otherwise towards 0. NaN gives 0, or with `low_bits` any number whose low 16 bits are
// 0.
IrValue EmitBoundedFloatToInt(KernelBuilder& b, IrValue x, bool rounds, bool low_bits) {
  auto& ir = b.ir();
  using llvm::Intrinsic::ID;
  const int lanes = KernelBuilder::LanesOf(x);
  llvm::Type* type = b.VectorType(DType::kI32, lanes);
  IrValue value;
  if (lanes == 16) {
    const ID id =
        rounds ? llvm::Intrinsic::x86_avx512_mask_cvtps2dq_512 : llvm::Intrinsic::x86_avx512_mask_cvttps2dq_512;
    constexpr int kCurrentMode = 4;
    value =
        ir.CreateIntrinsic(id, {}, {x, llvm::Constant::getNullValue(type), ir.getInt16(-1), ir.getInt32(kCurrentMode)});
  } else {
    const ID four = rounds ? llvm::Intrinsic::x86_sse2_cvtps2dq : llvm::Intrinsic::x86_sse2_cvttps2dq;
    const ID eight = rounds ? llvm::Intrinsic::x86_avx_cvt_ps2dq_256 : llvm::Intrinsic::x86_avx_cvtt_ps2dq_256;
    value = ir.CreateIntrinsic(lanes == 8 ? eight : four, {}, {x});
  }
  if (low_bits) return value;  // x86 says 0x80000000 where there is no number
  return ir.CreateSelect(ir.CreateFCmpUNO(x, x), llvm::Constant::getNullValue(type), value);
}

// f32 clamped to [0, 255], as i32 to be stored as u8. The upper bound is one of integers, because the instruction that
// stores them takes it along; what is too large for i32 is 0x80000000 then, a large unsigned number. NaN gives 0.
IrValue EmitFloatToByte(KernelBuilder& b, IrValue x, bool rounds) {
  auto& ir = b.ir();
  IrValue zero = llvm::Constant::getNullValue(x->getType());
  x = ir.CreateSelect(ir.CreateFCmpOGT(x, zero), x, zero);
  IrValue value = EmitBoundedFloatToInt(b, x, rounds, /*low_bits=*/true);
  return ir.CreateBinaryIntrinsic(llvm::Intrinsic::umin, value, llvm::ConstantInt::get(value->getType(), 255));
}

IrValue EmitCast(KernelBuilder& b, IrValue x, DType from, DType to) {
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(x);
  llvm::Type* type = b.VectorType(to, lanes);
  if (from == to) return x;
  if (IsBool(to)) {
    return IsFloat(from) ? ir.CreateFCmpUNE(x, llvm::ConstantFP::get(x->getType(), 0.0))
                         : ir.CreateICmpNE(x, llvm::Constant::getNullValue(x->getType()));
  }
  if (IsFloat(from) && IsFloat(to)) return ir.CreateFPCast(x, type);
  if (IsFloat(from)) return EmitFloatToInt(b, x, to);
  const bool zero_extends = IsUnsigned(from) || IsBool(from);
  if (IsFloat(to)) return zero_extends ? ir.CreateUIToFP(x, type) : ir.CreateSIToFP(x, type);
  return zero_extends ? ir.CreateZExtOrTrunc(x, type) : ir.CreateSExtOrTrunc(x, type);
}

// Raising to these constants needs no logarithm.
IrValue PowByConstant(KernelBuilder& b, IrValue x, double exponent) {
  auto& ir = b.ir();
  if (exponent == 1) return x;
  if (exponent == 2) return ir.CreateFMul(x, x);
  if (exponent == 3) return ir.CreateFMul(ir.CreateFMul(x, x), x);
  if (exponent == -1) return ir.CreateFDiv(llvm::ConstantFP::get(x->getType(), 1.0), x);
  return nullptr;
}

// Narrow float to 4-bit or small integers: through storage and back.
IrValue EmitNarrow(KernelBuilder& b, IrValue x, DType storage) {
  if (storage == DType::kI4 || storage == DType::kU4) {
    IrValue low = b.ir().CreateAnd(x, llvm::ConstantInt::get(x->getType(), 15));
    if (storage == DType::kU4) return low;
    IrValue eight = llvm::ConstantInt::get(x->getType(), 8);
    return b.ir().CreateSub(b.ir().CreateXor(low, eight), eight);
  }
  return b.Widen(b.NarrowToStorage(x, storage), storage);
}

// Which instructions may be fused with their neighbours. Rounding to f32 costs nothing, as that is what an f32 register
// holds, but the product of a multiply-add is never rounded: what a `narrow` to f32 reads, and what reads one, stays
// apart. So body and code agree to the bit where every f32 operation is narrowed.
std::vector<bool> Contractable(const Body& body) {
  const auto rounds = [&](int n) {
    const ScalarInst& inst = body.insts[n];
    return inst.op == ScalarOp::kNarrow && inst.imm_int == static_cast<int64_t>(DType::kF32);
  };
  std::vector<bool> may(body.insts.size(), true);
  for (size_t n = 0; n < body.insts.size(); ++n) {
    for (int arg : body.insts[n].args) {
      if (arg < 0) continue;
      if (rounds(static_cast<int>(n))) may[arg] = false;
      if (rounds(arg)) may[n] = false;
    }
  }
  return may;
}

}  // namespace

IrValue EmitBody(KernelBuilder& b, const Body& body, std::span<const IrValue> inputs,
                 const std::function<IrValue(int axis)>& index) {
  IrValues values;
  const std::vector<bool> contractable = Contractable(body);
  const std::vector<ValueBounds> bounds = BoundsOf(body);
  // A cast of f32 to i32 whose value is known to fit; nullptr where it is another.
  const auto bounded_cast = [&](int n) -> IrValue {
    const ScalarInst& inst = body.insts[n];
    const int from = inst.args[0];
    if (body.insts[from].type != DType::kF32 || inst.type != DType::kI32 || b.target().kind != TargetKind::kX86) {
      return nullptr;
    }
    const int lanes = KernelBuilder::LanesOf(values[from]);
    if (lanes != 4 && lanes != (b.target().vector_bits >= 256 ? 8 : 4) && lanes != b.target().Lanes(32)) return nullptr;
    if (bounds[from].low < -0x1p31 || bounds[from].high >= 0x1p31) return nullptr;
    const bool rounds = body.insts[from].op == ScalarOp::kRoundEven;
    const int exact = rounds ? body.insts[from].args[0] : from;
    const Clamp clamp = ClampAt(body, exact);
    if (clamp.bounds.low == 0 && clamp.bounds.high == 255 && OnlyReadAs(body, n, DType::kU8)) {
      return EmitFloatToByte(b, b.Splat(values[clamp.value], lanes), rounds);
    }
    return EmitBoundedFloatToInt(b, b.Splat(values[exact], lanes), rounds, OnlyLowBitsRead(body, n));
  };
  const llvm::IRBuilder<>::FastMathFlagGuard guard(b.ir());
  llvm::FastMathFlags flags = b.ir().getFastMathFlags();
  for (const ScalarInst& inst : body.insts) {
    flags.setAllowContract(contractable[values.size()]);
    b.ir().setFastMathFlags(flags);
    const auto arg = [&](int k) { return values[inst.args[k]]; };
    switch (inst.op) {
      case ScalarOp::kInput: values.push_back(inputs[inst.imm_int]); continue;
      case ScalarOp::kIndex: values.push_back(index(static_cast<int>(inst.imm_int))); continue;
      case ScalarOp::kConst:
        values.push_back(IsFloat(inst.type) ? b.Constant(inst.type, inst.imm) : b.ConstantInt(inst.type, inst.imm_int));
        continue;
      default: break;
    }
    const int arity = ScalarInfo(inst.op).arity;
    int lanes = 1;
    for (int k = 0; k < arity; ++k) lanes = std::max(lanes, KernelBuilder::LanesOf(arg(k)));
    const IrValue x = b.Splat(arg(0), lanes);
    const IrValue y = arity > 1 ? b.Splat(arg(1), lanes) : nullptr;
    const DType operand = body.insts[inst.args[0]].type;
    switch (inst.op) {
      case ScalarOp::kCast: {
        IrValue value = bounded_cast(static_cast<int>(values.size()));
        values.push_back(value != nullptr ? value : EmitCast(b, x, operand, inst.type));
        break;
      }
      case ScalarOp::kNarrow: values.push_back(EmitNarrow(b, x, static_cast<DType>(inst.imm_int))); break;
      case ScalarOp::kSelect: values.push_back(b.ir().CreateSelect(x, y, b.Splat(arg(2), lanes))); break;
      default: {
        const ScalarInst& second = arity > 1 ? body.insts[inst.args[1]] : inst;
        IrValue value = nullptr;
        if (inst.op == ScalarOp::kPow && IsFloat(operand) && second.op == ScalarOp::kConst) {
          value = PowByConstant(b, x, second.imm);
        }
        values.push_back(value != nullptr ? value : InstEmitter(b, operand).Emit(inst.op, x, y));
      }
    }
  }
  return values[body.result];
}

IrValue EmitJoin(KernelBuilder& b, Combiner combiner, DType type, IrValue x, IrValue y) {
  return InstEmitter(b, type).Emit(JoinOp(combiner), x, y);
}

IrValue EmitIdentity(KernelBuilder& b, Combiner combiner, DType type, int lanes) {
  const ScalarValue value = Identity(combiner, type);
  return IsFloat(type) ? b.Constant(type, value.f, lanes) : b.ConstantInt(type, value.i, lanes);
}

IrValue EmitHorizontal(KernelBuilder& b, Combiner combiner, DType type, IrValue vector) {
  int lanes = KernelBuilder::LanesOf(vector);
  while (lanes > 1) {
    TES_CHECK(lanes % 2 == 0, "lanes ", lanes);
    lanes /= 2;
    std::vector<int> low(lanes), high(lanes);
    for (int l = 0; l < lanes; ++l) low[l] = l, high[l] = l + lanes;
    IrValue a = b.ir().CreateShuffleVector(vector, low);
    IrValue c = b.ir().CreateShuffleVector(vector, high);
    if (lanes == 1) {
      a = b.ir().CreateExtractElement(vector, uint64_t{0});
      c = b.ir().CreateExtractElement(vector, uint64_t{1});
    }
    vector = EmitJoin(b, combiner, type, a, c);
  }
  return vector;
}

}  // namespace tessera
