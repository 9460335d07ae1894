// Element-wise TFLite operators.
#include "models/import/tflite/handlers.h"

namespace tessera::tflite_handlers {
namespace {

// The fused activation of a binary operator's options; the four kinds of options differ only in name.
tfl::Activation FusedActivation(const TfliteNode& node) {
  if (const auto* add = node.options<tfl::AddOptions>()) return add->fused_activation_function();
  if (const auto* sub = node.options<tfl::SubOptions>()) return sub->fused_activation_function();
  if (const auto* mul = node.options<tfl::MulOptions>()) return mul->fused_activation_function();
  if (const auto* div = node.options<tfl::DivOptions>()) return div->fused_activation_function();
  return tfl::Activation::NONE;
}

TfliteResults ClipTo(TfliteNode& node, double low, double high) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  return node.Emit(Op::kClip, {x}, MakeAttrs({{"min", low}, {"max", high}}));
}

}  // namespace

TfliteResults ImportUnaryOp(TfliteNode& node, Op op) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  return node.Emit(op, {x});
}

TfliteResults ImportBinaryOp(TfliteNode& node, Op op, bool swapped) {
  ASSIGN_OR_RETURN(ValueId a, node.real(0));
  ASSIGN_OR_RETURN(ValueId b, node.real(1));
  if (swapped) std::swap(a, b);
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(op, {a, b}));
  return node.Activate(y, FusedActivation(node));
}

TfliteResults ImportNotEqual(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId a, node.real(0));
  ASSIGN_OR_RETURN(const ValueId b, node.real(1));
  ASSIGN_OR_RETURN(const ValueId equal, node.Emit(Op::kEqual, {a, b}));
  return node.Emit(Op::kNot, {equal});
}

TfliteResults ImportSquaredDifference(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId a, node.real(0));
  ASSIGN_OR_RETURN(const ValueId b, node.real(1));
  ASSIGN_OR_RETURN(const ValueId difference, node.Emit(Op::kSub, {a, b}));
  return node.Emit(Op::kMul, {difference, difference});
}

TfliteResults ImportFloorDiv(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId a, node.real(0));
  ASSIGN_OR_RETURN(const ValueId b, node.real(1));
  if (IsFloat(node.dtype(a))) {
    ASSIGN_OR_RETURN(const ValueId quotient, node.Emit(Op::kDiv, {a, b}));
    return node.Emit(Op::kFloor, {quotient});
  }
  // (a - mod(a, b)) / b, where mod has the divisor's sign.
  ASSIGN_OR_RETURN(const ValueId rest, node.Emit(Op::kMod, {a, b}));
  ASSIGN_OR_RETURN(const ValueId multiple, node.Emit(Op::kSub, {a, rest}));
  return node.Emit(Op::kDiv, {multiple, b});
}

TfliteResults ImportAddN(TfliteNode& node) {
  ASSIGN_OR_RETURN(ValueId sum, node.real(0));
  for (int k = 1; k < node.num_inputs(); ++k) {
    if (!node.has(k)) return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
    ASSIGN_OR_RETURN(const ValueId x, node.real(k));
    ASSIGN_OR_RETURN(sum, node.Emit(Op::kAdd, {sum, x}));
  }
  return sum;
}

TfliteResults ImportSelect(TfliteNode& node) {
  ValueId condition = node.raw(0);
  ASSIGN_OR_RETURN(const ValueId a, node.real(1));
  ASSIGN_OR_RETURN(const ValueId b, node.real(2));
  // SELECT takes a vector along the first dim; SELECT_V2 broadcasts, where a vector of that length would not fit.
  if (node.rank(condition) == 1 && node.rank(a) > 1 && node.shape(condition)[0] == node.shape(a)[0] &&
      node.shape(condition)[0] != node.shape(a)[node.rank(a) - 1]) {
    std::vector<int64_t> dims(node.rank(a), 1);
    dims[0] = node.shape(a)[0];
    ASSIGN_OR_RETURN(condition, node.Reshape(condition, std::move(dims)));
  }
  return node.Emit(Op::kWhere, {condition, a, b});
}

TfliteResults ImportRelu6(TfliteNode& node) { return ClipTo(node, 0, 6); }
TfliteResults ImportReluN1To1(TfliteNode& node) { return ClipTo(node, -1, 1); }
TfliteResults ImportRelu0To1(TfliteNode& node) { return ClipTo(node, 0, 1); }

TfliteResults ImportLeakyRelu(TfliteNode& node) {
  ASSIGN_OR_RETURN(const auto* options, node.required_options<tfl::LeakyReluOptions>());
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  return node.Emit(Op::kLeakyRelu, {x}, MakeAttrs({{"alpha", double{options->alpha()}}}));
}

TfliteResults ImportPrelu(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const ValueId slope, node.real(1));
  return node.Emit(Op::kPrelu, {x, slope});
}

TfliteResults ImportGelu(TfliteNode& node) {
  const auto* options = node.options<tfl::GeluOptions>();
  const bool approximate = options != nullptr && options->approximate();
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  return node.Emit(Op::kGelu, {x}, MakeAttrs({{"approximate", std::string(approximate ? "tanh" : "none")}}));
}

TfliteResults ImportRsqrt(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const ValueId root, node.Emit(Op::kSqrt, {x}));
  return node.Emit(Op::kReciprocal, {root});
}

TfliteResults ImportSquare(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  return node.Emit(Op::kMul, {x, x});
}

TfliteResults ImportCast(TfliteNode& node) { return node.Cast(node.raw(0), node.output(0).type.dtype); }

TfliteResults ImportDequantize(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  return node.Cast(x, node.output(0).type.dtype);  // f16 weights are widened here
}

TfliteResults ImportPass(TfliteNode& node) { return node.real(0); }

// A constant with SparsityParameters was made dense when it was read; its mask stays with it.
TfliteResults ImportDensify(TfliteNode& node) { return node.raw(0); }

}  // namespace tessera::tflite_handlers
