#include "codegen/emit/vector_math.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/IntrinsicsX86.h"

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
  // To 2 units in the last place, of f32 whose divisor's reciprocal is a normal number: on GPUs, where a division is a
  // call, in two instructions.
  IrValue QuickDiv(IrValue a, IrValue c) const {
    if (!b_.target().IsGpu() || is_double()) return Div(a, c);
    if (lanes() == 1) return Mul(a, DeviceOp(b_, "gpu.rcp_approx", {c}));
    IrValue reciprocals = llvm::PoisonValue::get(type_);
    for (int l = 0; l < lanes(); ++l) {
      const auto at = static_cast<uint64_t>(l);
      IrValue one = DeviceOp(b_, "gpu.rcp_approx", {ir_.CreateExtractElement(c, at)});
      reciprocals = ir_.CreateInsertElement(reciprocals, one, at);
    }
    return Mul(a, reciprocals);
  }
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

  KernelBuilder& b_;
  llvm::IRBuilder<>& ir_;
  llvm::Type* type_;
};

// Rounding to integers and conversion to int_type in one addition: in x + magic, magic = 1.5·2^mantissa_bits, the unit
// of the last place is 1, so that the low bits of the sum are the integer. LLVM's conversions that saturate become
// scalar code on x86; this needs |x| < 2^(mantissa_bits - 1), which callers see to, and gives garbage (not poison)
// elsewhere.
struct Rounded {
  IrValue whole;  // as a float
  IrValue bits;   // of x + magic: the integer is bits - MagicBits(m), and bits << mantissa_bits is that of the integer
};

double Magic(const Math& m) { return std::ldexp(1.5, m.mantissa_bits()); }
IrValue MagicBits(const Math& m) { return m.I(m.is_double() ? 0x4338000000000000 : 0x4b400000); }

Rounded RoundOf(const Math& m, IrValue x_plus_magic) {
  return {m.Sub(x_plus_magic, m.C(Magic(m))), m.ToBits(x_plus_magic)};
}

// 2^n for the n of a Rounded, if that is a normal number or n = -(bias), which gives 0.
IrValue PowerOfTwo(const Math& m, const Rounded& n) {
  IrValue exponent = m.ir_.CreateShl(n.bits, m.I(m.mantissa_bits()));
  return m.FromBits(m.ir_.CreateAdd(exponent, m.I(m.exponent_bias() << m.mantissa_bits())));
}

// value · 2^n for any n by one instruction, where there is one: AVX-512's scalef, which rounds subnormal results
// correctly. Lanes outside `keep` (nullptr: none) become 0. nullptr where there is no such instruction.
IrValue ScaleInOne(const Math& m, IrValue value, IrValue n, IrValue keep = nullptr) {
  const int bits = m.lanes() * (m.is_double() ? 64 : 32);
  if (!m.b_.target().has_avx512 || bits != 512) return nullptr;
  const auto id =
      m.is_double() ? llvm::Intrinsic::x86_avx512_mask_scalef_pd_512 : llvm::Intrinsic::x86_avx512_mask_scalef_ps_512;
  llvm::Type* mask_type = m.ir_.getIntNTy(static_cast<unsigned>(m.lanes()));
  IrValue mask = keep == nullptr ? llvm::Constant::getAllOnesValue(mask_type) : m.ir_.CreateBitCast(keep, mask_type);
  constexpr int kCurrentRounding = 4;
  return m.ir_.CreateIntrinsic(id, {}, {value, n, m.C(0), mask, m.ir_.getInt32(kCurrentRounding)});
}

// ln2 in two pieces, the first short enough that n times it is exact.
double Ln2High(const Math& m) { return m.is_double() ? 6.93147180369123816490e-01 : 0.693359375; }
double Ln2Low(const Math& m) { return m.is_double() ? 1.90821492927058770002e-10 : -2.12194440054690583e-4; }
constexpr double kLog2E = 1.4426950408889634;

// n and expm1(r) of the reduction x = n·ln2 + r.
struct ExpParts {
  Rounded n;
  IrValue q;  // expm1(r), |r| <= ln2 / 2
};

ExpParts ReduceExp(const Math& m, IrValue x) {
  const Rounded n = RoundOf(m, m.Fma(x, m.C(kLog2E), m.C(Magic(m))));
  IrValue r = m.Fma(n.whole, m.C(-Ln2High(m)), x);
  r = m.Fma(n.whole, m.C(-Ln2Low(m)), r);
  // expm1(r) = r + r²·(1/2! + r/3! + …)
  std::vector<double> coefficients;
  double factorial = 2;
  for (int k = 2; k <= (m.is_double() ? 14 : 8); ++k) {
    coefficients.push_back(1 / factorial);
    factorial *= k + 1;
  }
  return {n, m.Fma(m.Mul(r, r), m.Horner(r, coefficients), r)};
}

// e^r for f32, |r| <= ln2 / 2: the smallest largest relative error of degree 5 that is exact at 0 (9.2e-8).
IrValue ExpOfSmall(const Math& m, IrValue r) {
  return m.Horner(
      r, {1.0, 0.9999997063123514, 0.4999914784017655, 0.1666763813023917, 0.04189815970939971, 0.008290271925131256});
}

// An odd function f32 -> f32 by table: f(x) = x·g(|x|), g a polynomial of `degree` on each of 16 cells of `width`
// around k·width, found by a permutation of one register for each coefficient. |x| above 15.5 cells counts as that;
// there f must be flat. About half of the work of a rational function. Only where 16 lanes are a register (AVX-512).
IrValue OddByTable(const Math& m, IrValue x, double (*f)(double), double width, int degree) {
  constexpr int kCells = 16;
  const auto g = [&](double a) {
    a = std::max(std::fabs(a), 1e-8);
    return f(a) / a;
  };
  // Interpolation at Chebyshev's nodes, by divided differences, then as powers of the distance from the cell's centre.
  std::vector<std::vector<double>> coefficients(degree + 1, std::vector<double>(kCells));
  for (int cell = 0; cell < kCells; ++cell) {
    std::vector<double> nodes, differences;
    for (int k = 0; k <= degree; ++k) {
      nodes.push_back(width / 2 * std::cos(3.14159265358979323846 * (k + 0.5) / (degree + 1)));
      differences.push_back(g(cell * width + nodes[k]));
    }
    for (int order = 1; order <= degree; ++order) {
      for (int k = degree; k >= order; --k) {
        differences[k] = (differences[k] - differences[k - 1]) / (nodes[k] - nodes[k - order]);
      }
    }
    std::vector<double> powers(degree + 1, 0.0);
    for (int k = degree; k >= 0; --k) {  // powers = powers · (u - nodes[k]) + differences[k]
      for (int d = degree; d >= 0; --d) powers[d] = (d > 0 ? powers[d - 1] : 0.0) - nodes[k] * powers[d];
      powers[0] += differences[k];
    }
    for (int d = 0; d <= degree; ++d) coefficients[d][cell] = powers[d];
  }
  // A little below the edge, which would round to a seventeenth cell.
  IrValue a = m.ClampBelow(m.Abs(x), (kCells - 0.51) * width);
  // The unit of the last place of a + magic is one cell: its low bits are the cell's number, and that is all that the
  // permutation looks at.
  const double magic = 1.5 * 0x1p23 * width;
  IrValue sum = m.Add(a, m.C(magic));
  IrValue u = m.Sub(a, m.Sub(sum, m.C(magic)));
  IrValue cell = m.ToBits(sum);
  IrValue value = nullptr;
  for (int d = degree; d >= 0; --d) {
    std::vector<float> row(coefficients[d].begin(), coefficients[d].end());
    IrValue table = llvm::ConstantDataVector::get(m.ir_.getContext(), row);
    IrValue coefficient = m.ir_.CreateIntrinsic(llvm::Intrinsic::x86_avx512_permvar_sf_512, {}, {table, cell});
    value = value == nullptr ? coefficient : m.Fma(value, u, coefficient);
  }
  return m.CopySign(m.Mul(a, value), x);
}

bool HasOddTables(const Math& m) { return m.b_.target().has_avx512 && !m.is_double() && m.lanes() == 16; }

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
  return m.Fma(nf, m.C(Ln2High(m)), m.Fma(nf, m.C(Ln2Low(m)), log_mant));
}

// One of sin (quadrant 0) and cos (quadrant 1), computed in f64.
IrValue SinQuadrant(KernelBuilder& b, IrValue x, int quadrant) {
  const bool narrow = !x->getType()->getScalarType()->isDoubleTy();
  const int lanes = KernelBuilder::LanesOf(x);
  IrValue wide = narrow ? b.ir().CreateFPExt(x, b.VectorType(DType::kF64, lanes)) : x;
  const Math m(b, wide);
  const Rounded n = RoundOf(m, m.Fma(wide, m.C(0.63661977236758134308), m.C(Magic(m))));
  IrValue r = m.Fma(n.whole, m.C(-1.57079632673412561417), wide);  // the first 33 bits of π/2
  r = m.Fma(n.whole, m.C(-6.07710050630396597660e-11), r);         // the next 33
  r = m.Fma(n.whole, m.C(-2.02226624879595063154e-21), r);
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
  IrValue q = m.ir_.CreateAdd(n.bits, m.I(quadrant));
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
  Rounded n;
  IrValue value = nullptr;
  if (m.is_double()) {
    const ExpParts parts = ReduceExp(m, x);
    n = parts.n;
    value = m.Add(parts.q, m.C(1));
  } else {
    n = RoundOf(m, m.Fma(x, m.C(kLog2E), m.C(Magic(m))));
    IrValue r = m.Fma(n.whole, m.C(-Ln2High(m)), x);
    value = ExpOfSmall(m, m.Fma(n.whole, m.C(-Ln2Low(m)), r));
  }
  if (IrValue scaled = ScaleInOne(m, value, n.whole)) return scaled;
  // 2^n in two steps: n reaches beyond the normal exponents on both sides.
  IrValue whole = m.ir_.CreateSub(n.bits, MagicBits(m));
  IrValue half = m.ir_.CreateAShr(whole, m.I(1));
  const auto power = [&](IrValue k) {
    return m.FromBits(m.ir_.CreateShl(m.ir_.CreateAdd(k, m.I(m.exponent_bias())), m.I(m.mantissa_bits())));
  };
  return m.Mul(m.Mul(value, power(half)), power(m.ir_.CreateSub(whole, half)));
}

IrValue EmitExpNonPositive(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  if (m.is_double()) return EmitExp(b, x);
  // ln2 in one piece: its error, 2e-9 for each n, is far below what the rounding of x itself leaves of e^x.
  const auto rest = [&](IrValue n) { return ExpOfSmall(m, m.Fma(n, m.C(-0.6931471805599453), x)); };
  if (m.b_.target().has_avx512 && m.lanes() == 16) {
    IrValue n = EmitRoundEven(b, m.Mul(x, m.C(kLog2E)));
    // Also what -∞ makes of r, NaN, is masked away; a NaN in x is not.
    return ScaleInOne(m, rest(n), n, m.ir_.CreateFCmpUGE(x, m.C(-87.3)));
  }
  // At -88 and below n is -127, whose power of two comes out as 0.
  x = m.ClampAbove(x, -88.0);
  const Rounded n = RoundOf(m, m.Fma(x, m.C(kLog2E), m.C(Magic(m))));
  return m.Mul(rest(n.whole), PowerOfTwo(m, n));
}

IrValue EmitExpm1(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  // Below this the result is -1; above, exp itself is close enough and cannot overflow midway.
  const double high = m.is_double() ? 300.0 : 60.0;
  IrValue clamped = m.ClampAbove(m.ClampBelow(x, high), -50.0);
  const ExpParts parts = ReduceExp(m, clamped);
  IrValue scale = PowerOfTwo(m, parts.n);
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
  if (HasOddTables(m)) return OddByTable(m, x, &std::tanh, 0.5, 5);
  // Beyond this tanh rounds to 1.
  IrValue magnitude = m.ClampBelow(m.Abs(x), m.is_double() ? 20.0 : 10.0);
  const ExpParts parts = ReduceExp(m, m.Add(magnitude, magnitude));
  IrValue scale = PowerOfTwo(m, parts.n);
  IrValue e = m.Fma(parts.q, scale, m.Sub(scale, m.C(1)));
  return m.CopySign(m.Div(e, m.Add(e, m.C(2))), x);
}

IrValue EmitErf(KernelBuilder& b, IrValue x) {
  const Math m(b, x);
  if (HasOddTables(m)) return OddByTable(m, x, &std::erf, 0.25, 4);
  IrValue magnitude = m.Abs(x);
  if (!m.is_double()) {
    // The rational function is odd too: on GPUs, which have minima and maxima but no sign to copy, it takes the sign.
    const bool with_sign = b.target().IsGpu();
    IrValue a = m.ClampBelow(with_sign ? x : magnitude, 3.92);
    if (with_sign) a = m.ClampAbove(a, -3.92);
    IrValue z = m.Mul(a, a);
    IrValue p = m.Horner(z, {1.1283791462001438, 0.19040527825878606, 0.052748566801443575, 0.0037655652390242997,
                             0.0002848814655083831, 2.050095803489616e-06});
    IrValue q = m.Horner(z, {1.0, 0.5020750257474798, 0.11410862085370206, 0.014969114429305198, 0.0011625227075050606,
                             3.809173592998998e-05});
    IrValue value = m.ClampBelow(m.Mul(a, m.QuickDiv(p, q)), 1.0);
    return with_sign ? m.ClampAbove(value, -1.0) : m.CopySign(value, x);
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
