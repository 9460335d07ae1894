#include "codegen/emit/vector_math.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include "llvm/IR/Intrinsics.h"

namespace tessera {
namespace {

// A KernelBuilder fixed to the type of one operand, so that formulas below read as formulas.
class Math {
 public:
  Math(KernelBuilder& builder, IrValue x) : b_(builder), ir_(builder.ir()), type_(x->getType()) {}

  bool is_double() const { return type_->getScalarType()->isDoubleTy(); }
  int lanes() const {
    auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(type_);
    return vector == nullptr ? 1 : static_cast<int>(vector->getNumElements());
  }
  IrValue C(double value) const { return llvm::ConstantFP::get(type_, value); }
  llvm::Type* int_type() const {
    llvm::Type* element = is_double() ? ir_.getInt64Ty() : static_cast<llvm::Type*>(ir_.getInt32Ty());
    return lanes() == 1 ? element : llvm::FixedVectorType::get(element, lanes());
  }
  IrValue I(int64_t value) const { return llvm::ConstantInt::get(int_type(), static_cast<uint64_t>(value), true); }
  int mantissa_bits() const { return is_double() ? 52 : 23; }
  int64_t exponent_bias() const { return is_double() ? 1023 : 127; }
  IrValue ToBits(IrValue x) const { return ir_.CreateBitCast(x, int_type()); }
  IrValue FromBits(IrValue x) const { return ir_.CreateBitCast(x, type_); }

  IrValue Fma(IrValue a, IrValue c, IrValue d) const { return b_.Fma(a, c, d); }
  IrValue Add(IrValue a, IrValue c) const { return ir_.CreateFAdd(a, c); }
  IrValue Sub(IrValue a, IrValue c) const { return ir_.CreateFSub(a, c); }
  IrValue Mul(IrValue a, IrValue c) const { return ir_.CreateFMul(a, c); }
  IrValue Div(IrValue a, IrValue c) const { return ir_.CreateFDiv(a, c); }
  IrValue Abs(IrValue a) const { return ir_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, a); }
  IrValue CopySign(IrValue magnitude, IrValue sign) const {
    return ir_.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, magnitude, sign);
  }
  // Ordered comparisons: false for NaN.
  IrValue Less(IrValue a, IrValue c) const { return ir_.CreateFCmpOLT(a, c); }
  IrValue Equal(IrValue a, IrValue c) const { return ir_.CreateFCmpOEQ(a, c); }
  IrValue IsNan(IrValue a) const { return ir_.CreateFCmpUNO(a, a); }
  IrValue Select(IrValue condition, IrValue a, IrValue c) const { return ir_.CreateSelect(condition, a, c); }
  // NaN stays NaN.
  IrValue ClampBelow(IrValue x, double high) const { return Select(Less(C(high), x), C(high), x); }
  IrValue ClampAbove(IrValue x, double low) const { return Select(Less(x, C(low)), C(low), x); }

  // coefficients[0] + x·(coefficients[1] + x·(…)).
  IrValue Horner(IrValue x, const std::vector<double>& coefficients) const {
    IrValue sum = C(coefficients.back());
    for (size_t k = coefficients.size() - 1; k-- > 0;) sum = Fma(sum, x, C(coefficients[k]));
    return sum;
  }
  // 2^n for integers n (as int_type) within the normal range.
  IrValue PowerOfTwo(IrValue n) const {
    return FromBits(ir_.CreateShl(ir_.CreateAdd(n, I(exponent_bias())), I(mantissa_bits())));
  }

  KernelBuilder& b_;
  llvm::IRBuilder<>& ir_;
  llvm::Type* type_;
};

// n and expm1(r) of the reduction x = n·ln2 + r.
struct ExpParts {
  IrValue n;  // as int_type
  IrValue q;  // expm1(r), |r| <= ln2 / 2
};

ExpParts ReduceExp(const Math& m, IrValue x) {
  IrValue n = EmitRoundEven(m.b_, m.Mul(x, m.C(1.4426950408889634)));
  // ln2 in two pieces, the first short enough that n times it is exact.
  const double high = m.is_double() ? 6.93147180369123816490e-01 : 0.693359375;
  const double low = m.is_double() ? 1.90821492927058770002e-10 : -2.12194440054690583e-4;
  IrValue r = m.Fma(n, m.C(-high), x);
  r = m.Fma(n, m.C(-low), r);
  // expm1(r) = r + r²·(1/2! + r/3! + …)
  std::vector<double> coefficients;
  double factorial = 2;
  for (int k = 2; k <= (m.is_double() ? 14 : 8); ++k) {
    coefficients.push_back(1 / factorial);
    factorial *= k + 1;
  }
  IrValue q = m.Fma(m.Mul(r, r), m.Horner(r, coefficients), r);
  IrValue ni = m.ir_.CreateIntrinsic(llvm::Intrinsic::fptosi_sat, {m.int_type(), m.type_}, {n});
  return {ni, q};
}

// Above and below these, exp has reached infinity and zero.
double ExpMax(const Math& m) { return m.is_double() ? 710.0 : 89.0; }
double ExpMin(const Math& m) { return m.is_double() ? -746.0 : -104.5; }

// log(x) for positive normal x, by x = 2^n · mant, mant in [sqrt(1/2), sqrt(2)).
IrValue LogOfNormal(const Math& m, IrValue x, IrValue extra_exponent) {
  IrValue bits = m.ToBits(x);
  const int64_t sqrt_half = m.is_double() ? 0x3fe6a09e667f3bcd : 0x3f3504f3;
  const int64_t one = m.is_double() ? 0x3ff0000000000000 : 0x3f800000;
  // Adding (1 - sqrt(1/2)) in bits carries into the exponent exactly when the mantissa is at least sqrt 2's.
  IrValue shifted = m.ir_.CreateAdd(bits, m.I(one - sqrt_half));
  IrValue n = m.ir_.CreateSub(m.ir_.CreateAShr(shifted, m.I(m.mantissa_bits())), m.I(m.exponent_bias()));
  IrValue mant = m.FromBits(m.ir_.CreateSub(bits, m.ir_.CreateShl(n, m.I(m.mantissa_bits()))));
  IrValue nf = m.ir_.CreateSIToFP(m.ir_.CreateAdd(n, extra_exponent), m.type_);
  IrValue f = m.Sub(mant, m.C(1));
  IrValue s = m.Div(f, m.Add(mant, m.C(1)));
  IrValue z = m.Mul(s, s);
  // log(mant) = 2s + 2s·(z/3 + z²/5 + …); written as f - s·(f - tail) it keeps the digits of f.
  std::vector<double> coefficients;
  for (int k = 3; k <= (m.is_double() ? 23 : 11); k += 2) coefficients.push_back(2.0 / k);
  IrValue tail = m.Mul(z, m.Horner(z, coefficients));
  IrValue log_mant = m.Sub(f, m.Mul(s, m.Sub(f, tail)));
  const double high = m.is_double() ? 6.93147180369123816490e-01 : 0.693359375;
  const double low = m.is_double() ? 1.90821492927058770002e-10 : -2.12194440054690583e-4;
  return m.Fma(nf, m.C(high), m.Fma(nf, m.C(low), log_mant));
}

// One of sin (quadrant 0) and cos (quadrant 1), computed in f64.
IrValue SinQuadrant(KernelBuilder& b, IrValue x, int quadrant) {
  const bool narrow = !x->getType()->getScalarType()->isDoubleTy();
  const int lanes = KernelBuilder::LanesOf(x);
  IrValue wide = narrow ? b.ir().CreateFPExt(x, b.VectorType(DType::kF64, lanes)) : x;
  const Math m(b, wide);
  IrValue n = EmitRoundEven(b, m.Mul(wide, m.C(0.63661977236758134308)));
  IrValue r = m.Fma(n, m.C(-1.57079632673412561417), wide);  // the first 33 bits of π/2
  r = m.Fma(n, m.C(-6.07710050630396597660e-11), r);         // the next 33
  r = m.Fma(n, m.C(-2.02226624879595063154e-21), r);
  IrValue z = m.Mul(r, r);
  std::vector<double> sin_terms, cos_terms;
  double factorial = 1;
  for (int k = 1; k <= 18; ++k) {
    factorial *= k;
    const double sign = (k / 2) % 2 == 0 ? 1 : -1;
    (k % 2 == 1 ? sin_terms : cos_terms).push_back(sign / factorial);
  }
  IrValue sine = m.Mul(r, m.Horner(z, sin_terms));
  cos_terms.insert(cos_terms.begin(), 1.0);
  IrValue cosine = m.Horner(z, cos_terms);
  IrValue q =
      m.ir_.CreateAdd(m.ir_.CreateIntrinsic(llvm::Intrinsic::fptosi_sat, {m.int_type(), m.type_}, {n}), m.I(quadrant));
  IrValue swap = m.ir_.CreateICmpNE(m.ir_.CreateAnd(q, m.I(1)), m.I(0));
  IrValue negate = m.ir_.CreateICmpNE(m.ir_.CreateAnd(q, m.I(2)), m.I(0));
  IrValue value = m.Select(swap, cosine, sine);
  value = m.Select(negate, m.ir_.CreateFNeg(value), value);
  IrValue infinite = m.Equal(m.Abs(wide), m.C(std::numeric_limits<double>::infinity()));
  value = m.Select(infinite, m.C(std::numeric_limits<double>::quiet_NaN()), value);
  return narrow ? b.ir().CreateFPTrunc(value, x->getType()) : value;
}

// Rounding intrinsics are single instructions from SSE4.1 on; older machines would call a library. Adding and taking
// away 1.5·2^mantissa rounds to an integer, half to even.
bool HasRounding(const KernelBuilder& b) { return b.target().vector_bits >= 256; }

IrValue RoundByMagic(const Math& m, IrValue x) {
  const double magic = std::ldexp(1.5, m.mantissa_bits());
  IrValue rounded = m.Sub(m.Add(m.Abs(x), m.C(magic)), m.C(magic));
  IrValue small = m.Less(m.Abs(x), m.C(std::ldexp(1.0, m.mantissa_bits() - 1)));
  return m.Select(small, m.CopySign(rounded, x), x);
}

}  // namespace

IrValue EmitRoundEven(KernelBuilder& b, IrValue x) {
  if (HasRounding(b)) return b.ir().CreateUnaryIntrinsic(llvm::Intrinsic::roundeven, x);
  return RoundByMagic(Math(b, x), x);
}

IrValue EmitFloor(KernelBuilder& b, IrValue x) {
  if (HasRounding(b)) return b.ir().CreateUnaryIntrinsic(llvm::Intrinsic::floor, x);
  const Math m(b, x);
  IrValue rounded = RoundByMagic(m, x);
  return m.CopySign(m.Select(m.Less(x, rounded), m.Sub(rounded, m.C(1)), rounded), x);
}

IrValue EmitCeil(KernelBuilder& b, IrValue x) {
  if (HasRounding(b)) return b.ir().CreateUnaryIntrinsic(llvm::Intrinsic::ceil, x);
  const Math m(b, x);
  IrValue rounded = RoundByMagic(m, x);
  return m.CopySign(m.Select(m.Less(rounded, x), m.Add(rounded, m.C(1)), rounded), x);
}

IrValue EmitTrunc(KernelBuilder& b, IrValue x) {
  if (HasRounding(b)) return b.ir().CreateUnaryIntrinsic(llvm::Intrinsic::trunc, x);
  const Math m(b, x);
  return m.CopySign(EmitFloor(b, m.Abs(x)), x);
}

IrValue EmitExp(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  x = m.ClampAbove(m.ClampBelow(x, ExpMax(m)), ExpMin(m));
  const ExpParts parts = ReduceExp(m, x);
  // 2^n in two steps: n reaches beyond the normal exponents on both sides.
  IrValue half = m.ir_.CreateAShr(parts.n, m.I(1));
  IrValue rest = m.ir_.CreateSub(parts.n, half);
  IrValue value = m.Add(parts.q, m.C(1));
  return m.Mul(m.Mul(value, m.PowerOfTwo(half)), m.PowerOfTwo(rest));
}

IrValue EmitExpNonPositive(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  if (m.is_double()) return EmitExp(b, x);
  // Where the exponent of the result would be below the normal ones, it is 0; the clamp keeps n in range till then.
  const double lowest = -87.33;
  IrValue tiny = m.Less(x, m.C(lowest));
  x = m.Select(tiny, m.C(lowest), x);
  IrValue n = EmitRoundEven(b, m.Mul(x, m.C(1.4426950408889634)));
  IrValue r = m.Fma(n, m.C(-0.693359375), x);
  r = m.Fma(n, m.C(2.12194440054690583e-4), r);
  // e^r on [-ln2/2, ln2/2], the smallest largest relative error (2e-9) of degree 6; both first coefficients round to 1.
  IrValue value =
      m.Horner(r, {1.0, 1.0, 0.499999920751, 0.166664200721, 0.0416682261893, 0.00837482405059, 0.00138368357425});
  IrValue scale = m.PowerOfTwo(m.ir_.CreateIntrinsic(llvm::Intrinsic::fptosi_sat, {m.int_type(), m.type_}, {n}));
  return m.Select(tiny, m.C(0), m.Mul(value, scale));
}

IrValue EmitExpm1(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  // Below this the result is -1; above, exp itself is close enough and cannot overflow midway.
  const double high = m.is_double() ? 300.0 : 60.0;
  IrValue clamped = m.ClampAbove(m.ClampBelow(x, high), -50.0);
  const ExpParts parts = ReduceExp(m, clamped);
  IrValue scale = m.PowerOfTwo(parts.n);
  IrValue value = m.Fma(parts.q, scale, m.Sub(scale, m.C(1)));
  value = m.Select(m.Less(m.C(high), x), EmitExp(b, x), value);
  return m.Select(m.Equal(x, m.C(0)), x, value);  // keeps -0
}

IrValue EmitLog(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double smallest_normal = m.is_double() ? 0x1p-1022 : 0x1p-126;
  const int lift = m.is_double() ? 54 : 25;
  IrValue tiny = m.Less(x, m.C(smallest_normal));
  IrValue lifted = m.Select(tiny, m.Mul(x, m.C(std::ldexp(1.0, lift))), x);
  IrValue value = LogOfNormal(m, lifted, m.Select(tiny, m.I(-lift), m.I(0)));
  value = m.Select(m.Equal(x, m.C(kInfinity)), x, value);
  value = m.Select(m.Equal(x, m.C(0)), m.C(-kInfinity), value);
  value = m.Select(m.Less(x, m.C(0)), m.C(std::numeric_limits<double>::quiet_NaN()), value);
  return m.Select(m.IsNan(x), x, value);
}

IrValue EmitLog1p(KernelBuilder& b, IrValue x) {
  // Goldberg's correction: the rounding error of u = 1 + x divides out of log(u) · x / (u - 1).
  const Math m(b, x);
  IrValue u = m.Add(x, m.C(1));
  IrValue difference = m.Sub(u, m.C(1));
  IrValue log_u = EmitLog(b, u);
  IrValue exact = m.Equal(difference, m.C(0));
  IrValue divisor = m.Select(exact, m.C(1), difference);
  IrValue value = m.Mul(log_u, m.Div(x, divisor));
  IrValue infinite = m.Equal(x, m.C(std::numeric_limits<double>::infinity()));
  value = m.Select(infinite, x, value);
  value = m.Select(m.Equal(x, m.C(-1)), m.C(-std::numeric_limits<double>::infinity()), value);
  return m.Select(exact, x, value);
}

IrValue EmitTanh(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  // Beyond this tanh rounds to 1.
  IrValue magnitude = m.ClampBelow(m.Abs(x), m.is_double() ? 20.0 : 10.0);
  const ExpParts parts = ReduceExp(m, m.Add(magnitude, magnitude));
  IrValue scale = m.PowerOfTwo(parts.n);
  IrValue e = m.Fma(parts.q, scale, m.Sub(scale, m.C(1)));
  return m.CopySign(m.Div(e, m.Add(e, m.C(2))), x);
}

IrValue EmitErf(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  IrValue magnitude = m.Abs(x);
  if (!m.is_double()) {
    IrValue a = m.ClampBelow(magnitude, 3.92);
    IrValue z = m.Mul(a, a);
    IrValue p = m.Horner(z, {1.1283791462001438, 0.19040527825878606, 0.052748566801443575, 0.0037655652390242997,
                             0.0002848814655083831, 2.050095803489616e-06});
    IrValue q = m.Horner(z, {1.0, 0.5020750257474798, 0.11410862085370206, 0.014969114429305198, 0.0011625227075050606,
                             3.809173592998998e-05});
    IrValue value = m.ClampBelow(m.Mul(a, m.Div(p, q)), 1.0);
    return m.CopySign(value, x);
  }
  // Kummer: erf(a) = 2a/sqrt(π) · exp(-a²) · Σ (2a²)^n / (1·3·5·…·(2n+1)); all terms positive, 70 suffice below 4.
  IrValue a = m.ClampBelow(magnitude, 4.0);
  IrValue z = m.Mul(a, a);
  IrValue sum = m.C(1);
  for (int n = 70; n >= 1; --n) sum = m.Fma(m.Mul(sum, z), m.C(2.0 / (2 * n + 1)), m.C(1));
  IrValue near = m.Mul(m.Mul(m.Mul(a, m.C(1.1283791670955126)), EmitExp(b, m.ir_.CreateFNeg(z))), sum);
  // Asymptotic: erfc(a) = exp(-a²) / (a·sqrt(π)) · (1 - 1/(2a²) + 3/(2a²)² - …).
  IrValue far_a = m.ClampAbove(m.ClampBelow(magnitude, 7.0), 4.0);
  IrValue w = m.Div(m.C(0.5), m.Mul(far_a, far_a));
  IrValue series = m.C(1);
  for (int n = 12; n >= 1; --n) series = m.Fma(m.Mul(series, w), m.C(-(2.0 * n - 1)), m.C(1));
  IrValue tail =
      m.Div(m.Mul(EmitExp(b, m.ir_.CreateFNeg(m.Mul(far_a, far_a))), series), m.Mul(far_a, m.C(1.7724538509055161)));
  IrValue value = m.Select(m.Less(magnitude, m.C(4.0)), near, m.Sub(m.C(1), tail));
  return m.CopySign(m.Select(m.IsNan(x), x, value), x);
}

IrValue EmitSin(KernelBuilder& b, IrValue x) { return SinQuadrant(b, x, 0); }
IrValue EmitCos(KernelBuilder& b, IrValue x) { return SinQuadrant(b, x, 1); }

IrValue EmitPow(KernelBuilder& b, IrValue x, IrValue y) {
  const int lanes = KernelBuilder::LanesOf(x);
  if (!x->getType()->getScalarType()->isDoubleTy()) {
    llvm::Type* wide = b.VectorType(DType::kF64, lanes);
    IrValue value = EmitPow(b, b.ir().CreateFPExt(x, wide), b.ir().CreateFPExt(y, wide));
    return b.ir().CreateFPTrunc(value, x->getType());
  }
  const Math m(b, x);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  IrValue magnitude = EmitExp(b, m.Mul(y, EmitLog(b, m.Abs(x))));
  IrValue whole = m.Equal(EmitTrunc(b, y), y);
  IrValue half = m.Mul(y, m.C(0.5));
  IrValue odd = m.ir_.CreateAnd(whole, m.ir_.CreateFCmpUNE(EmitTrunc(b, half), half));
  IrValue negative = m.ir_.CreateICmpSLT(m.ToBits(x), m.I(0));  // counts -0
  IrValue value = m.Select(m.ir_.CreateAnd(negative, odd), m.ir_.CreateFNeg(magnitude), magnitude);
  IrValue finite_base = m.ir_.CreateFCmpOLT(m.Abs(x), m.C(kInfinity));
  IrValue no_real = m.ir_.CreateAnd(m.ir_.CreateAnd(m.Less(x, m.C(0)), finite_base), m.ir_.CreateNot(whole));
  value = m.Select(no_real, m.C(std::numeric_limits<double>::quiet_NaN()), value);
  // (-1)^±inf and 1^anything are 1, as is anything^0.
  IrValue y_infinite = m.Equal(m.Abs(y), m.C(kInfinity));
  IrValue one = m.ir_.CreateOr(m.Equal(x, m.C(1)), m.Equal(y, m.C(0)));
  one = m.ir_.CreateOr(one, m.ir_.CreateAnd(m.Equal(m.Abs(x), m.C(1)), y_infinite));
  return m.Select(one, m.C(1), value);
}

IrValue EmitRem(KernelBuilder& b, IrValue x, IrValue y) {
  const int lanes = KernelBuilder::LanesOf(x);
  if (!x->getType()->getScalarType()->isDoubleTy()) {
    llvm::Type* wide = b.VectorType(DType::kF64, lanes);
    IrValue value = EmitRem(b, b.ir().CreateFPExt(x, wide), b.ir().CreateFPExt(y, wide));
    return b.ir().CreateFPTrunc(value, x->getType());
  }
  const Math m(b, x);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  IrValue a = m.Abs(x), d = m.Abs(y);
  IrValue quotient = EmitTrunc(b, m.Div(a, d));
  IrValue r = m.Fma(m.ir_.CreateFNeg(quotient), d, a);
  r = m.Select(m.Less(r, m.C(0)), m.Add(r, d), r);
  r = m.Select(m.Less(r, d), r, m.Sub(r, d));
  r = m.Select(m.Equal(d, m.C(kInfinity)), a, r);
  IrValue bad = m.ir_.CreateOr(m.Equal(d, m.C(0)), m.Equal(a, m.C(kInfinity)));
  r = m.Select(bad, m.C(std::numeric_limits<double>::quiet_NaN()), r);
  return m.CopySign(r, x);
}

}  // namespace tessera
