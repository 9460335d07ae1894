// Element-wise ops of one operand. ONNX semantics; README.md beside this file states each.
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

using Context = const OpContext&;

// One scalar operation, whose reference is `plain`.
template <typename Arithmetic, typename Plain>
OpDef FloatOp(std::string_view doc, Arithmetic, Plain) {
  return ElementwiseOp(
      doc, 1, &InferMap<TypeClass::kFloat>, [](Context, Scalars x) { return Arithmetic()(x[0]); },
      [](Context, const double* x) { return Plain()(x[0]); });
}

// Half to even without the help of the rounding mode.
double RoundHalfToEven(double x) {
  if (!std::isfinite(x)) return x;
  const double below = std::floor(x), fraction = x - below;
  const bool up = fraction > 0.5 || (fraction == 0.5 && std::fmod(below, 2) != 0);
  return std::copysign(up ? below + 1 : below, x);
}

// What a float becomes as an element of the integer type `to`: truncated, saturated, NaN as 0.
Wide TruncateSaturated(DType to, double x) {
  if (std::isnan(x)) return 0;
  const Wide low = MinInt(to);
  const Wide high = to == DType::kU64 ? static_cast<Wide>(UINT64_MAX) : static_cast<Wide>(MaxInt(to));
  if (x <= static_cast<double>(low)) return low;
  if (x >= static_cast<double>(high)) return high;
  return static_cast<Wide>(x);
}

StatusOr<std::vector<TensorType>> InferCast(const OpContext& c) {
  return std::vector<TensorType>{{c.attrs.Type("to"), c.shape(0)}};
}

Body CastBody(const OpContext& c) {
  BodyBuilder b;
  const DType to = c.attrs.Type("to");
  Scalar value = b.Input(c.dtype(0));
  // The cast to i32 saturates to i32 and the narrowing then wraps, so the bounds of a narrower integer come first.
  if (IsFloat(c.dtype(0)) && IsInteger(to) && TypeInfo(to).bits < 32) {
    value = Min(Max(value, static_cast<double>(MinInt(to))), static_cast<double>(MaxInt(to)));
  }
  return b.Finish(b.Cast(value, to));
}

void CastReference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const RefTensor& x = *inputs[0];
  RefTensor& out = outputs[0];
  const DType to = c.attrs.Type("to");
  // Doubles stand for f32 values in every reference, so only narrower floats round here.
  const bool rounds = IsFloat(to) && TypeInfo(to).bits < 32;
  for (int64_t k = 0; k < x.size(); ++k) {
    const double value = x.is_float() ? x.f[k] : static_cast<double>(WideAt(x, k));
    if (IsFloat(to)) {
      out.f[k] = rounds ? RoundToFloat(to, value) : value;
    } else if (IsBool(to)) {
      out.i[k] = value != 0;
    } else {
      Store(out, k, x.is_float() ? TruncateSaturated(to, value) : WideAt(x, k));
    }
  }
}

Scalar SignScalar(Scalar x) {
  BodyBuilder& b = *x.builder;
  const Scalar zero = b.Const(x.type(), 0);
  // Zeros (of either sign) and NaN pass through.
  const Scalar positive = Select(Less(zero, x), b.Const(x.type(), 1), x);
  return IsUnsigned(x.type()) ? positive : Select(Less(x, zero), b.Const(x.type(), -1), positive);
}

Scalar IsInfScalar(Context c, Scalars x) {
  BodyBuilder& b = *x[0].builder;
  const bool positive = c.attrs.Int("positive", 1) != 0, negative = c.attrs.Int("negative", 1) != 0;
  const Scalar infinite = Unary(ScalarOp::kIsInf, x[0]);
  if (positive && negative) return infinite;
  if (!positive && !negative) return b.Const(DType::kBool, 0);
  const Scalar side = positive ? Less(0.0, x[0]) : Less(x[0], 0.0);
  return b.Op(ScalarOp::kAnd, {infinite, side});
}

}  // namespace

OpDef MakeNegOp() {
  return ElementwiseOp(
      "-x; integers wrap.", 1, &InferMap<TypeClass::kNumber>,  //
      [](Context, Scalars x) { return -x[0]; },                //
      [](Context, const double* x) { return -x[0]; },          //
      [](Context, const Wide* x) { return -x[0]; });
}

OpDef MakeAbsOp() {
  return ElementwiseOp(
      "|x|; the lowest integer stays as it is.", 1, &InferMap<TypeClass::kNumber>,  //
      [](Context, Scalars x) { return Abs(x[0]); },
      [](Context, const double* x) { return std::signbit(x[0]) ? -x[0] : x[0]; },
      [](Context, const Wide* x) { return x[0] < 0 ? -x[0] : x[0]; });
}

OpDef MakeSignOp() {
  return ElementwiseOp(
      "-1, 0 or 1; NaN stays NaN.", 1, &InferMap<TypeClass::kNumber>,
      [](Context, Scalars x) { return SignScalar(x[0]); },
      [](Context, const double* x) { return x[0] > 0 ? 1 : (x[0] < 0 ? -1 : x[0]); },
      [](Context, const Wide* x) { return Wide{x[0] > 0} - Wide{x[0] < 0}; });
}

OpDef MakeFloorOp() {
  return FloatOp(
      "The largest integer <= x.", [](Scalar x) { return Floor(x); }, [](double x) { return std::floor(x); });
}
OpDef MakeCeilOp() {
  return FloatOp(
      "The smallest integer >= x.", [](Scalar x) { return Unary(ScalarOp::kCeil, x); },
      [](double x) { return std::ceil(x); });
}
OpDef MakeRoundOp() {
  return FloatOp(
      "The nearest integer; halves go to the even one.", [](Scalar x) { return RoundEven(x); },
      [](double x) { return RoundHalfToEven(x); });
}
OpDef MakeExpOp() {
  return FloatOp("e to the power x.", [](Scalar x) { return Exp(x); }, [](double x) { return std::exp(x); });
}
OpDef MakeLogOp() {
  return FloatOp(
      "The natural logarithm; NaN below 0.", [](Scalar x) { return Log(x); }, [](double x) { return std::log(x); });
}
OpDef MakeSqrtOp() {
  return FloatOp(
      "The square root; NaN below 0.", [](Scalar x) { return Sqrt(x); }, [](double x) { return std::sqrt(x); });
}
OpDef MakeReciprocalOp() {
  return FloatOp("1 / x.", [](Scalar x) { return 1.0 / x; }, [](double x) { return 1 / x; });
}
OpDef MakeSinOp() {
  return FloatOp(
      "The sine of x radians.", [](Scalar x) { return Unary(ScalarOp::kSin, x); },
      [](double x) { return std::sin(x); });
}
OpDef MakeCosOp() {
  return FloatOp(
      "The cosine of x radians.", [](Scalar x) { return Unary(ScalarOp::kCos, x); },
      [](double x) { return std::cos(x); });
}
OpDef MakeErfOp() {
  return FloatOp("The error function.", [](Scalar x) { return Erf(x); }, [](double x) { return std::erf(x); });
}
OpDef MakeTanhOp() {
  return FloatOp("The hyperbolic tangent.", [](Scalar x) { return Tanh(x); }, [](double x) { return std::tanh(x); });
}

OpDef MakeNotOp() {
  return ElementwiseOp(
      "Logical not of a bool, bitwise not of an integer.", 1, &InferMap<TypeClass::kBitwise>,
      [](Context, Scalars x) { return Unary(ScalarOp::kNot, x[0]); },  //
      NoMeaning{}, [](Context c, const Wide* x) { return IsBool(c.dtype(0)) ? Wide{x[0] == 0} : -1 - x[0]; });
}

OpDef MakeIsNanOp() {
  return ElementwiseOp(
      "Is x NaN?", 1, &InferPredicate<TypeClass::kFloat>,
      [](Context, Scalars x) { return Unary(ScalarOp::kIsNan, x[0]); },
      [](Context, const double* x) { return x[0] != x[0]; });
}

OpDef MakeIsInfOp() {
  const auto plain = [](Context c, const double* x) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return (x[0] == kInfinity && c.attrs.Int("positive", 1) != 0) ||
           (x[0] == -kInfinity && c.attrs.Int("negative", 1) != 0);
  };
  return WithAttrs(ElementwiseOp(
                       "Is x infinite, on the side or sides asked for?", 1, &InferPredicate<TypeClass::kFloat>,
                       [](Context c, Scalars x) { return IsInfScalar(c, x); }, plain),
                   {{"positive", AttrKind::kInt, false, "1 (default): +inf counts"},
                    {"negative", AttrKind::kInt, false, "1 (default): -inf counts"}});
}

OpDef MakeCastOp() {
  OpDef def = {};
  def.doc = "x in another type: floats to integers truncate and saturate, integers wrap, to bool is x != 0.";
  def.attrs = {{"to", AttrKind::kDType, true, "the type of the result"}};
  def.infer = &InferCast;
  def.reference = &CastReference;
  def.body = &CastBody;
  def.compute = [](Context c) { return ElementwiseCompute(c, CastBody(c)); };
  return def;
}

}  // namespace tessera
