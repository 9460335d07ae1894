// Reductions and the softmax family.
#include "models/import/tflite/handlers.h"

namespace tessera::tflite_handlers {

TfliteResults ImportReduceOp(TfliteNode& node, Op op) {
  const auto* options = node.options<tfl::ReducerOptions>();
  ASSIGN_OR_RETURN(ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const std::vector<int64_t> given, node.ConstInts(1, "axes"));
  ASSIGN_OR_RETURN(std::vector<int64_t> axes, node.Axes(given, node.rank(x)));
  if (axes.empty()) return x;
  const DType dtype = node.dtype(x);
  if (op == Op::kReduceMean && !IsFloat(dtype)) {
    ASSIGN_OR_RETURN(x, node.Cast(x, DType::kF64));
  }
  ASSIGN_OR_RETURN(
      const ValueId y,
      node.Emit(op, {x},
                MakeAttrs({{"axes", axes}, {"keepdims", int64_t{options != nullptr && options->keep_dims()}}})));
  return node.Cast(y, dtype);
}

TfliteResults ImportArgOp(TfliteNode& node, Op op) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  ASSIGN_OR_RETURN(const std::vector<int64_t> given, node.ConstInts(1, "axis"));
  if (given.size() != 1) return node.Error(ErrorCode::kShapeMismatch, "expected one axis, found ", given.size());
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(given[0], node.rank(x)));
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(op, {x}, MakeAttrs({{"axis", axis}, {"keepdims", int64_t{0}}})));
  return node.Cast(y, node.output(0).type.dtype);
}

TfliteResults ImportSoftmax(TfliteNode& node) {
  const auto* options = node.options<tfl::SoftmaxOptions>();
  ASSIGN_OR_RETURN(ValueId x, node.real(0));
  if (node.rank(x) < 1) return node.Error(ErrorCode::kShapeMismatch, "expected a tensor, found a scalar");
  if (options != nullptr && options->beta() != 1) {
    ASSIGN_OR_RETURN(x, node.EmitScalar(Op::kMul, x, options->beta()));
  }
  return node.Emit(Op::kSoftmax, {x}, MakeAttrs({{"axis", int64_t{node.rank(x) - 1}}}));
}

TfliteResults ImportLogSoftmax(TfliteNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  if (node.rank(x) < 1) return node.Error(ErrorCode::kShapeMismatch, "expected a tensor, found a scalar");
  return node.Emit(Op::kLogSoftmax, {x}, MakeAttrs({{"axis", int64_t{node.rank(x) - 1}}}));
}

// x / max(|x|, 1e-6) over the last dim.
TfliteResults ImportL2Normalization(TfliteNode& node) {
  const auto* options = node.options<tfl::L2NormOptions>();
  ASSIGN_OR_RETURN(const ValueId x, node.real(0));
  if (node.rank(x) < 1) return node.Error(ErrorCode::kShapeMismatch, "expected a tensor, found a scalar");
  ASSIGN_OR_RETURN(ValueId norm,
                   node.Emit(Op::kReduceL2, {x},
                             MakeAttrs({{"axes", std::vector<int64_t>{node.rank(x) - 1}}, {"keepdims", int64_t{1}}})));
  ASSIGN_OR_RETURN(norm, node.EmitScalar(Op::kMax, norm, 1e-6));
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(Op::kDiv, {x, norm}));
  return node.Activate(y, options == nullptr ? tfl::Activation::NONE : options->fused_activation_function());
}

}  // namespace tessera::tflite_handlers
