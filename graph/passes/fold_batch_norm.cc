#include "graph/passes/fold_batch_norm.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// A constant beside a value of the result's shape, under an op with two operands.
struct WithConstant {
  ValueId x = ValueId::kNone;
  ValueId constant = ValueId::kNone;
};

std::optional<WithConstant> MatchConstant(const Rewriter& r, NodeId id) {
  const Node& node = r.node(id);
  if (node.epilogue || !IsFloat(r.type(node.outputs[0]).dtype)) return std::nullopt;
  for (int k : {0, 1}) {
    const ValueId x = node.inputs[k], constant = node.inputs[1 - k];
    if (!r.graph().IsConstant(constant) || r.graph().IsConstant(x)) continue;
    if (r.shape(x) == r.shape(node.outputs[0])) return WithConstant{x, constant};
  }
  return std::nullopt;
}

bool AllFinite(const Tensor& tensor) {
  for (int64_t k = 0; k < tensor.num_elements(); ++k) {
    if (!std::isfinite(tensor.Get(k))) return false;
  }
  return true;
}

// op(a, b) with NumPy broadcasting; nothing where that grows either, or where the result is not finite.
template <typename Function>
std::optional<Tensor> Combine(const Tensor& a, const Tensor& b, Function function) {
  const std::optional<Shape> shape = BroadcastShapes(a.shape(), b.shape());
  if (!shape || shape->num_elements() > std::max(a.num_elements(), b.num_elements())) return std::nullopt;
  Tensor result(a.dtype(), *shape);
  const auto position = [&](const Tensor& t, const std::vector<int64_t>& at) {
    int64_t p = 0;
    for (int d = 0; d < t.shape().rank(); ++d) {
      p = p * t.shape()[d] + (t.shape()[d] == 1 ? 0 : at[at.size() - t.shape().rank() + d]);
    }
    return p;
  };
  int64_t k = 0;
  ForEachIndex(*shape, [&](const std::vector<int64_t>& at) {
    result.Set(k++, function(a.Get(position(a, at)), b.Get(position(b, at))));
  });
  if (!AllFinite(result)) return std::nullopt;
  return result;
}

// batch_norm with constant parameters -> add(mul(x, f), b)
bool ExpandBatchNorm(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  for (size_t k = 1; k < 5; ++k) {
    if (!r.graph().IsConstant(node.inputs[k])) return false;
  }
  const auto parameter = [&](int k) -> const Tensor& { return r.value(node.inputs[k]).constant; };
  const int axis = static_cast<int>(node.attrs.Int("axis", 1)), rank = r.shape(node.inputs[0]).rank();
  const int64_t channels = r.shape(node.inputs[0])[axis];
  std::vector<int64_t> dims(rank - axis, 1);
  dims[0] = channels;
  const DType dtype = r.type(node.inputs[0]).dtype;
  Tensor factor(dtype, Shape(dims)), shift(dtype, Shape(dims));
  for (int64_t c = 0; c < channels; ++c) {
    const double f = parameter(1).Get(c) / std::sqrt(parameter(4).Get(c) + node.attrs.Float("epsilon"));
    factor.Set(c, f);
    shift.Set(c, parameter(2).Get(c) - parameter(3).Get(c) * f);
  }
  if (!AllFinite(factor) || !AllFinite(shift)) return false;
  const ValueId f = r.Constant(node.name + ".factor", factor), b = r.Constant(node.name + ".shift", shift);
  const ValueId scaled = r.Emit(id, Op::kMul, {node.inputs[0], f}, {}, node.name + ".scaled");
  if (r.status().ok()) r.Rebuild(id, MakeNode(Op::kAdd, node.name, {scaled, b}));
  return true;
}

// mul(add(x, c), f) -> add(mul(x, f), c * f)
bool MulOfAdd(Rewriter& r, NodeId id) {
  const std::optional<WithConstant> outer = MatchConstant(r, id);
  if (!outer || !r.ProducerIs(outer->x, Op::kAdd) || !r.HasOneReader(outer->x)) return false;
  const std::optional<WithConstant> inner = MatchConstant(r, r.Producer(outer->x));
  // Only where the factor then goes on into weights.
  if (!inner || !(r.ProducerIs(inner->x, Op::kConv) || r.ProducerIs(inner->x, Op::kMatmul)) ||
      !r.HasOneReader(inner->x) || r.node(id).inputs[0] == r.node(id).inputs[1]) {
    return false;
  }
  const std::optional<Tensor> shift = Combine(r.value(inner->constant).constant, r.value(outer->constant).constant,
                                              [](double c, double f) { return c * f; });
  if (!shift || !AllFinite(r.value(outer->constant).constant)) return false;
  const std::string name = r.node(id).name;
  const ValueId c = r.Constant(std::string(r.value(inner->constant).name), *shift);
  const ValueId scaled = r.Emit(id, Op::kMul, {inner->x, outer->constant}, {}, name + ".scaled");
  if (r.status().ok()) r.Rebuild(id, MakeNode(Op::kAdd, name, {scaled, c}));
  return true;
}

// add(add(x, a), b) -> add(x, a + b), behind a convolution or product
bool AddOfAdd(Rewriter& r, NodeId id) {
  const std::optional<WithConstant> outer = MatchConstant(r, id);
  if (!outer || !r.ProducerIs(outer->x, Op::kAdd) || !r.HasOneReader(outer->x)) return false;
  const std::optional<WithConstant> inner = MatchConstant(r, r.Producer(outer->x));
  // A mul is one that is still on its way into weights.
  if (!inner ||
      !(r.ProducerIs(inner->x, Op::kConv) || r.ProducerIs(inner->x, Op::kMatmul) || r.ProducerIs(inner->x, Op::kMul))) {
    return false;
  }
  const std::optional<Tensor> sum = Combine(r.value(inner->constant).constant, r.value(outer->constant).constant,
                                            [](double a, double b) { return a + b; });
  if (!sum) return false;
  const ValueId c = r.Constant(std::string(r.value(inner->constant).name), *sum);
  r.Rebuild(id, MakeNode(Op::kAdd, r.node(id).name, {inner->x, c}));
  return true;
}

// The factor of each output channel, along dimension `axis` of a result of `rank` dimensions: one value for each
// channel or one for all; nothing where `factor` differs along another dimension.
std::optional<std::vector<double>> PerChannel(const Tensor& factor, int rank, int axis, int64_t channels) {
  const Shape& shape = factor.shape();
  for (int d = 0; d < shape.rank(); ++d) {
    const int result_axis = rank - shape.rank() + d;
    if (shape[d] != 1 && (result_axis != axis || shape[d] != channels)) return std::nullopt;
  }
  std::vector<double> values;
  for (int64_t c = 0; c < channels; ++c) values.push_back(factor.Get(factor.num_elements() == 1 ? 0 : c));
  return values;
}

// mul(conv(x, w), f) -> conv(x, w * f); mul(matmul(a, b), f) -> matmul(a, b * f)
bool MulIntoWeights(Rewriter& r, NodeId id) {
  const std::optional<WithConstant> match = MatchConstant(r, id);
  if (!match || !r.HasOneReader(match->x)) return false;
  const bool conv = r.ProducerIs(match->x, Op::kConv);
  if (!conv && !r.ProducerIs(match->x, Op::kMatmul)) return false;
  Node node = r.node(r.Producer(match->x));
  const Value weights = r.value(node.inputs[1]);
  const DType dtype = weights.type.dtype;
  if (weights.kind != ValueKind::kConstant || !IsFloat(dtype) || TypeInfo(dtype).bits < 32 || weights.quant) {
    return false;
  }
  const int rank = r.shape(match->x).rank();
  const bool channels_first = conv && node.attrs.String("layout") == "nchw";
  const int axis = channels_first ? 1 : rank - 1;
  const Shape& shape = weights.type.shape;
  // The dimension of the weights that is the channel of the result.
  const int of_weights = conv ? 0 : shape.rank() - (node.attrs.Int("transpose_b", 0) ? 2 : 1);
  const int64_t channels = shape[of_weights];
  const std::optional<std::vector<double>> factors =
      PerChannel(r.value(match->constant).constant, rank, axis, channels);
  if (!factors || !std::all_of(factors->begin(), factors->end(), [](double f) { return std::isfinite(f); })) {
    return false;
  }
  Tensor scaled(dtype, shape);
  const int64_t step = shape.Strides()[of_weights];
  for (int64_t k = 0; k < scaled.num_elements(); ++k) {
    scaled.Set(k, weights.constant.Get(k) * (*factors)[k / step % channels]);
  }
  if (!AllFinite(scaled) && AllFinite(weights.constant)) return false;
  if (weights.tesa) scaled = weights.tesa->ApplyTo(scaled);
  node.inputs[1] = r.Constant(weights.name, std::move(scaled), weights.tesa);
  r.Rebuild(id, std::move(node));
  return true;
}

}  // namespace

Status FoldBatchNorm(Graph& graph) {
  Rewriter r(graph);
  for (NodeId id; r.Next(id);) {
    if (r.node(id).epilogue) continue;
    switch (r.node(id).op) {
      case Op::kBatchNorm: ExpandBatchNorm(r, id); break;
      case Op::kMul:
        if (!MulIntoWeights(r, id)) MulOfAdd(r, id);
        break;
      case Op::kAdd: AddOfAdd(r, id); break;
      default: break;
    }
  }
  return std::move(r).Finish();
}

}  // namespace tessera
