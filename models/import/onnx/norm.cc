// Normalisations. Layer normalisation with unusual scales or further outputs is written out.
#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// (x - mean) and 1 / sqrt(variance + epsilon) over `axes`, dims kept.
struct Moments {
  ValueId mean, variance, deviation, inverse;
};

StatusOr<Moments> EmitMoments(const OnnxNode& node, ValueId x, std::vector<int64_t> axes, double epsilon) {
  const Attrs over = MakeAttrs({{"axes", std::move(axes)}, {"keepdims", int64_t{1}}});
  Moments m;
  ASSIGN_OR_RETURN(m.mean, node.Emit(Op::kReduceMean, {x}, over));
  ASSIGN_OR_RETURN(m.deviation, node.Emit(Op::kSub, {x, m.mean}));
  ASSIGN_OR_RETURN(const ValueId square, node.Emit(Op::kMul, {m.deviation, m.deviation}));
  ASSIGN_OR_RETURN(m.variance, node.Emit(Op::kReduceMean, {square}, over));
  ASSIGN_OR_RETURN(const ValueId shifted, node.EmitScalar(Op::kAdd, m.variance, epsilon));
  ASSIGN_OR_RETURN(const ValueId root, node.Emit(Op::kSqrt, {shifted}));
  ASSIGN_OR_RETURN(m.inverse, node.Emit(Op::kReciprocal, {root}));
  return m;
}

// layer_norm from `axis` on, then scale and bias (either may be kNone), which broadcast to the normalised dims.
StatusOr<ValueId> EmitLayerNorm(const OnnxNode& node, ValueId x, ValueId scale, ValueId bias, int64_t axis,
                                double epsilon) {
  const Shape shape = node.shape(x);
  const Shape tail(std::vector<int64_t>(shape.begin() + axis, shape.end()));
  const Attrs attrs = MakeAttrs({{"axis", axis}, {"epsilon", epsilon}});
  const auto fits = [&](ValueId v) {
    return v == ValueId::kNone || (node.shape(v) == tail && node.dtype(v) == node.dtype(x));
  };
  if (scale != ValueId::kNone && fits(scale) && fits(bias)) {
    std::vector<ValueId> inputs = {x, scale};
    if (bias != ValueId::kNone) inputs.push_back(bias);
    return node.Emit(Op::kLayerNorm, std::move(inputs), attrs);
  }
  ASSIGN_OR_RETURN(ValueId y, node.Emit(Op::kLayerNorm, {x}, attrs));
  for (const auto& [op, operand] : {std::pair(Op::kMul, scale), std::pair(Op::kAdd, bias)}) {
    if (operand == ValueId::kNone) continue;
    ASSIGN_OR_RETURN(const ValueId typed, node.Cast(operand, node.dtype(x)));
    ASSIGN_OR_RETURN(y, node.Emit(op, {y, typed}));
    if (node.shape(y) != shape) {
      return node.Error(ErrorCode::kShapeMismatch, "a scale or bias ", node.type(operand), " does not fit ", shape);
    }
  }
  return y;
}

}  // namespace

Imported ImportBatchNormalization(OnnxNode& node) {
  const ValueId x = node.in(0);
  const double epsilon = node.Float("epsilon", 1e-5f);
  if (node.opset() < 9 && node.Int("spatial", 1) == 0) {
    return node.Error(ErrorCode::kOpUnsupported, "spatial = 0 is not supported");
  }
  std::vector<ValueId> vectors;
  for (int k = 1; k <= 4; ++k) {
    ASSIGN_OR_RETURN(const ValueId vector, node.Cast(node.in(k), node.dtype(x)));
    vectors.push_back(vector);
  }
  const bool training =
      node.opset() >= 14 ? node.Int("training_mode", 0) != 0 : node.opset() < 7 && node.Int("is_test", 0) == 0;
  if (!training) {
    return node.Emit(Op::kBatchNorm, {x, vectors[0], vectors[1], vectors[2], vectors[3]},
                     MakeAttrs({{"epsilon", epsilon}}));
  }
  // In training the moments are those of this batch, and the running ones move towards them.
  if (node.rank(x) < 2) return node.Error(ErrorCode::kShapeMismatch, "expected [N,C,…], found ", node.type(x));
  std::vector<int64_t> axes = {0};
  for (int d = 2; d < node.rank(x); ++d) axes.push_back(d);
  const int64_t channels = node.shape(x)[1];
  ASSIGN_OR_RETURN(const Moments m, EmitMoments(node, x, axes, epsilon));
  ASSIGN_OR_RETURN(const ValueId mean, node.Reshape(m.mean, {channels}));
  ASSIGN_OR_RETURN(const ValueId variance, node.Reshape(m.variance, {channels}));
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(Op::kBatchNorm, {x, vectors[0], vectors[1], mean, variance},
                                              MakeAttrs({{"epsilon", epsilon}})));
  std::vector<ValueId> outputs = {y};
  const double momentum = node.Float("momentum", 0.9f);
  for (const auto& [running, current] : {std::pair(vectors[2], mean), std::pair(vectors[3], variance)}) {
    ASSIGN_OR_RETURN(const ValueId old_part, node.EmitScalar(Op::kMul, running, momentum));
    ASSIGN_OR_RETURN(const ValueId new_part, node.EmitScalar(Op::kMul, current, 1 - momentum));
    ASSIGN_OR_RETURN(const ValueId moved, node.Emit(Op::kAdd, {old_part, new_part}));
    outputs.push_back(moved);
  }
  return outputs;
}

Imported ImportLayerNormalization(OnnxNode& node) {
  const ValueId x = node.in(0);
  const double epsilon = node.Float("epsilon", 1e-5f);
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", -1), node.rank(x)));
  ASSIGN_OR_RETURN(const ValueId y, EmitLayerNorm(node, x, node.in(1), node.in(2), axis, epsilon));
  std::vector<ValueId> outputs = {y};
  if (node.wants(1) || node.wants(2)) {
    std::vector<int64_t> axes;
    for (int64_t d = axis; d < node.rank(x); ++d) axes.push_back(d);
    ASSIGN_OR_RETURN(const Moments m, EmitMoments(node, x, std::move(axes), epsilon));
    outputs.push_back(m.mean);
    outputs.push_back(m.inverse);
  }
  return outputs;
}

Imported ImportInstanceNormalization(OnnxNode& node) {
  const ValueId x = node.in(0);
  const Shape s = node.shape(x);
  if (s.rank() < 3) return node.Error(ErrorCode::kShapeMismatch, "expected [N,C,…], found ", node.type(x));
  int64_t plane = 1;
  for (int d = 2; d < s.rank(); ++d) plane *= s[d];
  ASSIGN_OR_RETURN(ValueId y, node.Reshape(x, {s[0], s[1], plane}));
  ASSIGN_OR_RETURN(
      y, node.Emit(Op::kLayerNorm, {y}, MakeAttrs({{"axis", int64_t{2}}, {"epsilon", node.Float("epsilon", 1e-5f)}})));
  ASSIGN_OR_RETURN(y, node.BinaryAlong(Op::kMul, y, node.in(1), 1));
  ASSIGN_OR_RETURN(y, node.AddAlong(y, node.in(2), 1));
  return node.Reshape(y, s.dims());
}

// layer_norm(input + skip + bias) over the last dim (com.microsoft); operands input, skip, gamma, beta, bias; the
// fourth output is the sum.
Imported ImportSkipLayerNormalization(OnnxNode& node) {
  ASSIGN_OR_RETURN(ValueId sum, node.Emit(Op::kAdd, {node.in(0), node.in(1)}));
  if (node.has(4)) {
    ASSIGN_OR_RETURN(sum, node.Emit(Op::kAdd, {sum, node.in(4)}));
  }
  if (node.wants(1) || node.wants(2)) {
    return node.Error(ErrorCode::kOpUnsupported, "the outputs mean and inv_std_var are not supported");
  }
  if (node.rank(sum) < 1) return node.Error(ErrorCode::kShapeMismatch, "expected a tensor, found a scalar");
  ASSIGN_OR_RETURN(const ValueId y,
                   EmitLayerNorm(node, sum, node.in(2), node.in(3), node.rank(sum) - 1, node.Float("epsilon", 1e-12f)));
  return std::vector<ValueId>{y, ValueId::kNone, ValueId::kNone, sum};
}

}  // namespace tessera
