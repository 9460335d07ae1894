// Activations: element-wise ops with a kink or an exponential. ONNX semantics; README.md beside this file states each.
// Each body is written so that f32 neither overflows nor cancels where the function itself is tame.
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

using Context = const OpContext&;

constexpr double kSqrtHalf = 0.70710678118654752440;     // 1 / sqrt(2)
constexpr double kSqrt2OverPi = 0.79788456080286535588;  // sqrt(2 / pi)

double Logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

// A float activation without parameters.
template <typename Arithmetic, typename Plain>
OpDef FloatActivation(std::string_view doc, Arithmetic, Plain) {
  return ElementwiseOp(
      doc, 1, &InferMap<TypeClass::kFloat>, [](Context, Scalars x) { return Arithmetic()(x[0]); },
      [](Context, const double* x) { return Plain()(x[0]); });
}

// ---- clip ----

// A bound as an element of the integer type: infer has seen to it that it is integral or infinite.
int64_t IntegerBound(DType dtype, double bound) { return Tensor::Full(dtype, Shape(), bound).GetInt(0); }

StatusOr<std::vector<TensorType>> InferClip(Context c) {
  for (std::string_view name : {"min", "max"}) {
    if (!c.attrs.Has(name)) continue;
    const double bound = c.attrs.Float(name);
    if (std::isnan(bound)) return Error(ErrorCode::kAttributeInvalid, "expected a number as '", name, "', found NaN");
    if (IsInteger(c.dtype(0)) && std::trunc(bound) != bound) {
      return Error(ErrorCode::kAttributeInvalid, "expected an integral '", name, "' for elements of ", c.dtype(0),
                   ", found ", bound);
    }
  }
  return InferMap<TypeClass::kNumber>(c);
}

Scalar ClipScalar(Context c, Scalar x) {
  BodyBuilder& b = *x.builder;
  const DType dtype = c.dtype(0);
  const auto bound = [&](std::string_view name) {
    const double value = c.attrs.Float(name);
    return IsFloat(dtype) ? b.Const(dtype, value) : b.ConstInt(dtype, IntegerBound(dtype, value));
  };
  if (c.attrs.Has("min")) x = Max(x, bound("min"));
  if (c.attrs.Has("max")) x = Min(x, bound("max"));
  return x;
}

double ClipFloat(Context c, double x) {
  if (c.attrs.Has("min") && x < c.attrs.Float("min")) x = c.attrs.Float("min");
  if (c.attrs.Has("max") && x > c.attrs.Float("max")) x = c.attrs.Float("max");
  return x;
}

Wide ClipInteger(Context c, Wide x) {
  const bool unsigned64 = c.dtype(0) == DType::kU64;
  const Wide lowest = MinInt(c.dtype(0));
  const Wide highest = unsigned64 ? static_cast<Wide>(UINT64_MAX) : static_cast<Wide>(MaxInt(c.dtype(0)));
  const auto saturated = [&](double bound) {
    if (bound <= static_cast<double>(lowest)) return lowest;
    if (bound >= static_cast<double>(highest)) return highest;
    return static_cast<Wide>(bound);
  };
  if (c.attrs.Has("min") && x < saturated(c.attrs.Float("min"))) x = saturated(c.attrs.Float("min"));
  if (c.attrs.Has("max") && x > saturated(c.attrs.Float("max"))) x = saturated(c.attrs.Float("max"));
  return x;
}

// ---- gelu ----

StatusOr<std::vector<TensorType>> InferGelu(Context c) {
  const std::string form = c.attrs.String("approximate", "none");
  if (form != "none" && form != "tanh") {
    return Error(ErrorCode::kAttributeInvalid, "expected approximate = \"none\" or \"tanh\", found \"", form, "\"");
  }
  return InferMap<TypeClass::kFloat>(c);
}

Scalar GeluScalar(Context c, Scalar x) {
  if (c.attrs.String("approximate", "none") == "tanh") {
    return 0.5 * x * (1.0 + Tanh(kSqrt2OverPi * x * (1.0 + 0.044715 * (x * x))));
  }
  return 0.5 * x * (1.0 + Erf(x * kSqrtHalf));
}

double GeluFloat(Context c, double x) {
  if (c.attrs.String("approximate", "none") == "none") return x * std::erfc(-x / std::sqrt(2.0)) / 2;
  const double inner = std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * std::pow(x, 3));
  return x / 2 * (1 + std::tanh(inner));
}

// ---- prelu ----

StatusOr<std::vector<TensorType>> InferPrelu(Context c) {
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kNumber));
  RETURN_IF_ERROR(CheckSameType(c, 1, 0));
  RETURN_IF_ERROR(CheckBroadcastsTo(c, 1, c.shape(0)));
  return std::vector<TensorType>{c.input(0)};
}

}  // namespace

OpDef MakeReluOp() {
  return ElementwiseOp(
      "max(x, 0); NaN stays NaN.", 1, &InferMap<TypeClass::kNumber>,  //
      [](Context, Scalars x) { return Max(x[0], 0); },                //
      [](Context, const double* x) { return x[0] < 0 ? 0 : x[0]; },
      [](Context, const Wide* x) { return x[0] < 0 ? Wide{0} : x[0]; });
}

OpDef MakeClipOp() {
  OpDef def = ElementwiseOp(
      "min(max(x, min), max); bounds saturate to the type of x.", 1, &InferClip,
      [](Context c, Scalars x) { return ClipScalar(c, x[0]); },
      [](Context c, const double* x) { return ClipFloat(c, x[0]); },
      [](Context c, const Wide* x) { return ClipInteger(c, x[0]); });
  return WithAttrs(def,
                   {{"min", AttrKind::kFloat, false, "lower bound; absent: none"},
                    {"max", AttrKind::kFloat, false, "upper bound, which wins where it lies below; absent: none"}});
}

OpDef MakeLeakyReluOp() {
  OpDef def = ElementwiseOp(
      "x < 0 ? alpha * x : x.", 1, &InferMap<TypeClass::kFloat>,
      [](Context c, Scalars x) { return Select(Less(x[0], 0), x[0] * c.attrs.Float("alpha", 0.01), x[0]); },
      [](Context c, const double* x) { return x[0] >= 0 ? x[0] : c.attrs.Float("alpha", 0.01) * x[0]; });
  return WithAttrs(def, {{"alpha", AttrKind::kFloat, false, "slope below 0; default 0.01"}});
}

OpDef MakeEluOp() {
  OpDef def = ElementwiseOp(
      "x < 0 ? alpha * (e^x - 1) : x.", 1, &InferMap<TypeClass::kFloat>,
      [](Context c, Scalars x) {
        const Scalar below = Unary(ScalarOp::kExpm1, x[0]) * c.attrs.Float("alpha", 1);
        return Select(Less(x[0], 0), below, x[0]);
      },
      [](Context c, const double* x) { return x[0] >= 0 ? x[0] : c.attrs.Float("alpha", 1) * (std::exp(x[0]) - 1); });
  return WithAttrs(def, {{"alpha", AttrKind::kFloat, false, "minus the limit at -inf; default 1"}});
}

OpDef MakeSeluOp() {
  static constexpr double kAlpha = 1.67326319217681884765625, kGamma = 1.05070102214813232421875;
  OpDef def = ElementwiseOp(
      "gamma * (x < 0 ? alpha * (e^x - 1) : x).", 1, &InferMap<TypeClass::kFloat>,
      [](Context c, Scalars x) {
        const Scalar below = Unary(ScalarOp::kExpm1, x[0]) * c.attrs.Float("alpha", kAlpha);
        return Select(Less(x[0], 0), below, x[0]) * c.attrs.Float("gamma", kGamma);
      },
      [](Context c, const double* x) {
        const double inner = x[0] >= 0 ? x[0] : c.attrs.Float("alpha", kAlpha) * (std::exp(x[0]) - 1);
        return c.attrs.Float("gamma", kGamma) * inner;
      });
  return WithAttrs(def, {{"alpha", AttrKind::kFloat, false, "default 1.67326319217681884765625"},
                         {"gamma", AttrKind::kFloat, false, "default 1.05070102214813232421875"}});
}

OpDef MakeSigmoidOp() {
  // An exp that overflows to inf gives the limit, 0; below 1 nothing cancels.
  return FloatActivation(
      "1 / (1 + e^-x).", [](Scalar x) { return 1.0 / (1.0 + Exp(-x)); }, [](double x) { return Logistic(x); });
}

OpDef MakeHardSigmoidOp() {
  OpDef def = ElementwiseOp(
      "max(0, min(1, alpha * x + beta)).", 1, &InferMap<TypeClass::kFloat>,
      [](Context c, Scalars x) {
        return Max(Min(x[0] * c.attrs.Float("alpha", 0.2) + c.attrs.Float("beta", 0.5), 1), 0);
      },
      [](Context c, const double* x) {
        const double line = c.attrs.Float("alpha", 0.2) * x[0] + c.attrs.Float("beta", 0.5);
        return line < 0 ? 0 : (line > 1 ? 1 : line);
      });
  return WithAttrs(
      def, {{"alpha", AttrKind::kFloat, false, "default 0.2"}, {"beta", AttrKind::kFloat, false, "default 0.5"}});
}

OpDef MakeHardSwishOp() {
  return FloatActivation(
      "x * max(0, min(1, x / 6 + 1 / 2)).", [](Scalar x) { return x * Max(Min(x * (1.0 / 6) + 0.5, 1), 0); },
      [](double x) {
        const double line = x / 6 + 0.5;
        return x * (line < 0 ? 0 : (line > 1 ? 1 : line));
      });
}

OpDef MakeSiluOp() {
  return FloatActivation(
      "x * sigmoid(x).", [](Scalar x) { return x / (1.0 + Exp(-x)); }, [](double x) { return x * Logistic(x); });
}

OpDef MakeGeluOp() {
  OpDef def = ElementwiseOp(
      "x * (1 + erf(x / sqrt(2))) / 2, or its tanh approximation.", 1, &InferGelu,
      [](Context c, Scalars x) { return GeluScalar(c, x[0]); },
      [](Context c, const double* x) { return GeluFloat(c, x[0]); });
  return WithAttrs(def, {{"approximate", AttrKind::kString, false, "\"none\" (default) or \"tanh\""}});
}

OpDef MakeSoftplusOp() {
  // log(1 + e^x) with the large part taken out, so that exp cannot overflow.
  return FloatActivation(
      "log(1 + e^x).", [](Scalar x) { return Max(x, 0) + Unary(ScalarOp::kLog1p, Exp(-Abs(x))); },
      [](double x) { return x > 30 ? x + std::exp(-x) : std::log1p(std::exp(x)); });
}

OpDef MakeSoftsignOp() {
  return FloatActivation(
      "x / (1 + |x|).", [](Scalar x) { return x / (1.0 + Abs(x)); },
      [](double x) { return x < 0 ? x / (1 - x) : x / (1 + x); });
}

OpDef MakePreluOp() {
  return ElementwiseOp(
      "x < 0 ? slope * x : x; slope broadcasts to x.", 2, &InferPrelu,
      [](Context, Scalars x) { return Select(Less(x[0], 0), x[0] * x[1], x[0]); },
      [](Context, const double* x) { return x[0] < 0 ? x[1] * x[0] : x[0]; },
      [](Context, const Wide* x) { return x[0] < 0 ? WrappedProduct(x[0], x[1]) : x[0]; });
}

}  // namespace tessera
