// Element-wise ops of several operands, with NumPy broadcasting. ONNX semantics; README.md beside this file states
// each.
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

using Context = const OpContext&;

template <typename Arithmetic, typename OnFloats, typename OnIntegers>
OpDef ArithmeticOp(std::string_view doc, Arithmetic, OnFloats, OnIntegers) {
  return ElementwiseOp(
      doc, 2, &InferMap<TypeClass::kNumber>, [](Context, Scalars x) { return Arithmetic()(x[0], x[1]); },
      [](Context, const double* x) { return OnFloats()(x[0], x[1]); },
      [](Context, const Wide* x) { return OnIntegers()(x[0], x[1]); });
}

template <typename Arithmetic, typename Plain>
OpDef ComparisonOp(std::string_view doc, decltype(OpDef::infer) infer, Arithmetic, Plain) {
  return ElementwiseOp(
      doc, 2, infer, [](Context, Scalars x) { return Arithmetic()(x[0], x[1]); },
      [](Context, const double* x) { return static_cast<bool>(Plain()(x[0], x[1])); },
      [](Context, const Wide* x) { return static_cast<bool>(Plain()(x[0], x[1])); });
}

StatusOr<std::vector<TensorType>> InferMod(Context c) {
  if (IsFloat(c.dtype(0)) && c.attrs.Int("fmod", 0) == 0) {
    return Error(ErrorCode::kAttributeInvalid, "expected fmod = 1 for elements of ", c.dtype(0), ", found 0");
  }
  return InferMap<TypeClass::kNumber>(c);
}

Scalar ModScalar(Context c, Scalar a, Scalar b) {
  const auto op = [&](ScalarOp name, Scalar x, Scalar y) { return a.builder->Op(name, {x, y}); };
  const Scalar rest = op(ScalarOp::kRem, a, b);
  if (c.attrs.Int("fmod", 0) != 0 || IsUnsigned(c.dtype(0))) return rest;
  // The rest has the sign of the dividend; one divisor more gives it that of the divisor.
  const Scalar zero = a.builder->ConstInt(a.type(), 0);
  const Scalar signs_differ = Less(op(ScalarOp::kXor, rest, b), zero);
  return Select(op(ScalarOp::kAnd, op(ScalarOp::kNe, rest, zero), signs_differ), rest + b, rest);
}

Wide ModInteger(Context c, Wide a, Wide b) {
  if (b == 0) return 0;
  if (c.attrs.Int("fmod", 0) != 0) return a % b;
  return ((a % b) + b) % b;
}

Wide PowInteger(Wide a, Wide b) {
  if (b < 0) {
    // 1 / a^|b|, truncated; 0 to a negative power is 0 like any division by zero.
    if (a == 1) return 1;
    if (a == -1) return b % 2 == 0 ? 1 : -1;
    return 0;
  }
  if (b == 0) return 1;
  const Wide half = PowInteger(a, b / 2);
  const Wide square = WrappedProduct(half, half);
  return b % 2 == 0 ? square : WrappedProduct(square, a);
}

StatusOr<std::vector<TensorType>> InferWhere(Context c) {
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kBool));
  RETURN_IF_ERROR(CheckSameType(c, 2, 1));
  ASSIGN_OR_RETURN(Shape shape, BroadcastOperands(c));
  return std::vector<TensorType>{{c.dtype(1), std::move(shape)}};
}

void WhereReference(Context, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  RefTensor& out = outputs[0];
  ForEachBroadcast(out.type.shape, inputs, [&](int64_t k, const std::vector<int64_t>& at) {
    const int taken = inputs[0]->i[at[0]] != 0 ? 1 : 2;
    out.Set(k, inputs[taken]->Get(at[taken]));
  });
}

}  // namespace

OpDef MakeAddOp() {
  return ArithmeticOp(
      "a + b; integers wrap.", [](Scalar a, Scalar b) { return a + b; }, [](double a, double b) { return a + b; },
      [](Wide a, Wide b) { return a + b; });
}
OpDef MakeSubOp() {
  return ArithmeticOp(
      "a - b; integers wrap.", [](Scalar a, Scalar b) { return a - b; }, [](double a, double b) { return a - b; },
      [](Wide a, Wide b) { return a - b; });
}
OpDef MakeMulOp() {
  return ArithmeticOp(
      "a * b; integers wrap.", [](Scalar a, Scalar b) { return a * b; }, [](double a, double b) { return a * b; },
      [](Wide a, Wide b) { return WrappedProduct(a, b); });
}
OpDef MakeDivOp() {
  return ArithmeticOp(
      "a / b; integers truncate, and give 0 where b is 0.", [](Scalar a, Scalar b) { return a / b; },
      [](double a, double b) { return a / b; }, [](Wide a, Wide b) { return b == 0 ? Wide{0} : a / b; });
}
OpDef MakePowOp() {
  return ArithmeticOp(
      "a to the power b; integers wrap.", [](Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kPow, {a, b}); },
      [](double a, double b) { return std::pow(a, b); }, [](Wide a, Wide b) { return PowInteger(a, b); });
}
OpDef MakeMinOp() {
  return ArithmeticOp(
      "The smaller; NaN if either is.", [](Scalar a, Scalar b) { return Min(a, b); },
      [](double a, double b) { return std::isnan(a) || std::isnan(b) ? a + b : std::fmin(a, b); },
      [](Wide a, Wide b) { return a < b ? a : b; });
}
OpDef MakeMaxOp() {
  return ArithmeticOp(
      "The larger; NaN if either is.", [](Scalar a, Scalar b) { return Max(a, b); },
      [](double a, double b) { return std::isnan(a) || std::isnan(b) ? a + b : std::fmax(a, b); },
      [](Wide a, Wide b) { return a > b ? a : b; });
}

OpDef MakeModOp() {
  OpDef def = ElementwiseOp(
      "The rest of a / b, 0 where an integer b is 0.", 2, &InferMod,
      [](Context c, Scalars x) { return ModScalar(c, x[0], x[1]); },
      [](Context, const double* x) { return std::fmod(x[0], x[1]); },
      [](Context c, const Wide* x) { return ModInteger(c, x[0], x[1]); });
  return WithAttrs(def, {{"fmod", AttrKind::kInt, false,
                          "0 (default, integers only): the sign of b; 1: the sign of a, as C's fmod"}});
}

OpDef MakeEqualOp() {
  return ComparisonOp(
      "a == b.", &InferPredicate<TypeClass::kAny>, [](Scalar a, Scalar b) { return Equal(a, b); },
      [](auto a, auto b) { return a == b; });
}
OpDef MakeLessOp() {
  return ComparisonOp(
      "a < b.", &InferPredicate<TypeClass::kNumber>, [](Scalar a, Scalar b) { return Less(a, b); },
      [](auto a, auto b) { return a < b; });
}
OpDef MakeLessEqualOp() {
  return ComparisonOp(
      "a <= b.", &InferPredicate<TypeClass::kNumber>, [](Scalar a, Scalar b) { return LessEqual(a, b); },
      [](auto a, auto b) { return a <= b; });
}

OpDef MakeAndOp() {
  return ElementwiseOp(
      "Logical and of bools, bitwise and of integers.", 2, &InferMap<TypeClass::kBitwise>,
      [](Context, Scalars x) { return x[0].builder->Op(ScalarOp::kAnd, {x[0], x[1]}); },  //
      NoMeaning{}, [](Context, const Wide* x) { return x[0] & x[1]; });
}
OpDef MakeOrOp() {
  return ElementwiseOp(
      "Logical or of bools, bitwise or of integers.", 2, &InferMap<TypeClass::kBitwise>,
      [](Context, Scalars x) { return x[0].builder->Op(ScalarOp::kOr, {x[0], x[1]}); },  //
      NoMeaning{}, [](Context, const Wide* x) { return x[0] | x[1]; });
}
OpDef MakeXorOp() {
  return ElementwiseOp(
      "Logical exclusive or of bools, bitwise of integers.", 2, &InferMap<TypeClass::kBitwise>,
      [](Context, Scalars x) { return x[0].builder->Op(ScalarOp::kXor, {x[0], x[1]}); },  //
      NoMeaning{}, [](Context, const Wide* x) { return x[0] ^ x[1]; });
}

OpDef MakeWhereOp() {
  const auto arithmetic = [](Context, Scalars x) { return Select(x[0], x[1], x[2]); };
  OpDef def = {};
  def.doc = "c ? a : b, element by element.";
  def.min_inputs = def.max_inputs = 3;
  def.infer = &InferWhere;
  def.reference = &WhereReference;
  def.compute = &ComputeOf<decltype(arithmetic)>;
  def.body = &BodyOf<decltype(arithmetic)>;
  return def;
}

}  // namespace tessera
