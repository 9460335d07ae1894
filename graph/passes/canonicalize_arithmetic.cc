// Rules about what is computed: identities, operations with one constant, casts, reductions of nothing.
#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/op.h"
#include "graph/passes/canonicalize_rules.h"
#include "graph/passes/constants.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The node's only result becomes another value.
bool Become(Rewriter& r, NodeId id, ValueId value) { return r.Replace(r.node(id).outputs[0], value); }

bool BecomeNode(Rewriter& r, NodeId id, Op op, std::vector<ValueId> inputs, Attrs attrs = {}) {
  r.Rebuild(id, MakeNode(op, r.node(id).name, std::move(inputs), std::move(attrs)));
  return true;
}

DType ResultType(const Rewriter& r, NodeId id) { return r.type(r.node(id).outputs[0]).dtype; }

// Sums start from +0, and +0 + x is never -0.
bool CannotBeNegativeZero(const Rewriter& r, ValueId id) {
  for (Op op : {Op::kMatmul, Op::kConv, Op::kReduceSum, Op::kReduceSumSquare, Op::kReduceL1, Op::kExp, Op::kAbs,
                Op::kSigmoid}) {
    if (r.ProducerIs(id, op)) return true;
  }
  return false;
}

// add(c, x) -> add(x, c): a constant stands second
bool ConstantSecond(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (!r.graph().IsConstant(node.inputs[0]) || r.graph().IsConstant(node.inputs[1])) return false;
  return BecomeNode(r, id, node.op, {node.inputs[1], node.inputs[0]}, node.attrs);
}

// add(x, 0) -> x
bool AddZero(Rewriter& r, NodeId id) {
  const std::optional<WithScalar> match = MatchScalar(r.graph(), r.node(id));
  if (!match || match->scalar != 0) return false;
  const bool exact = !IsFloat(ResultType(r, id)) || std::signbit(match->scalar) || CannotBeNegativeZero(r, match->x);
  return exact && Become(r, id, match->x);
}

// sub(x, 0) -> x; sub(x, c) -> add(x, -c)
bool SubConstant(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const ValueId subtrahend = node.inputs[1];
  if (!r.graph().IsConstant(subtrahend) || r.graph().IsConstant(node.inputs[0])) return false;
  if (!IsFloat(ResultType(r, id))) {
    const std::optional<WithScalar> match = MatchScalar(r.graph(), node, true);
    return match && match->scalar == 0 && Become(r, id, match->x);
  }
  const Value& constant = r.value(subtrahend);
  Tensor negated(constant.constant.dtype(), constant.constant.shape());
  for (int64_t k = 0; k < negated.num_elements(); ++k) negated.Set(k, -constant.constant.Get(k));
  if (constant.tesa) negated = constant.tesa->ApplyTo(negated);  // what is absent stays +0
  const ValueId c = r.Constant(std::string(constant.name), std::move(negated), std::optional(constant.tesa));
  return BecomeNode(r, id, Op::kAdd, {node.inputs[0], c});
}

// mul(x, 1) -> x
bool MulOne(Rewriter& r, NodeId id) {
  const std::optional<WithScalar> match = MatchScalar(r.graph(), r.node(id));
  return match && match->scalar == 1 && Become(r, id, match->x);
}

// div(x, 1) -> x; div(x, c) -> mul(x, 1 / c) where c is a power of two, so that both round alike
bool DivConstant(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const std::optional<WithScalar> match = MatchScalar(r.graph(), node, true);
  if (!match) return false;
  if (match->scalar == 1) return Become(r, id, match->x);
  const DType dtype = ResultType(r, id);
  int exponent = 0;
  if (!IsFloat(dtype) || std::fabs(std::frexp(match->scalar, &exponent)) != 0.5) return false;
  const Tensor inverse = Tensor::Full(dtype, r.shape(node.inputs[1]), 1 / match->scalar);
  // Not where the reciprocal leaves the type's normal range.
  if (inverse.Get(0) * match->scalar != 1 || std::abs(exponent) > 13) return false;
  const std::string name = r.value(node.inputs[1]).name + ".inverse";
  return BecomeNode(r, id, Op::kMul, {match->x, r.Constant(name, inverse)});
}

// pow(x, 1) -> x; pow(x, 2) -> mul(x, x); pow(x, 3) -> mul(mul(x, x), x)
bool PowConstant(Rewriter& r, NodeId id) {
  const std::optional<WithScalar> match = MatchScalar(r.graph(), r.node(id), true);
  if (!match || !IsFloat(ResultType(r, id))) return false;
  if (match->scalar == 1) return Become(r, id, match->x);
  if (match->scalar == 2) return BecomeNode(r, id, Op::kMul, {match->x, match->x});
  if (match->scalar != 3) return false;
  const ValueId square = r.Emit(id, Op::kMul, {match->x, match->x}, {}, r.node(id).name + ".square");
  return BecomeNode(r, id, Op::kMul, {square, match->x});
}

// max(x, c) -> clip(x) {min = c}; min(x, c) -> clip(x) {max = c}
bool BoundByConstant(Rewriter& r, NodeId id) {
  const std::optional<WithScalar> match = MatchScalar(r.graph(), r.node(id));
  if (!match || std::isnan(match->scalar)) return false;
  Attrs attrs;
  attrs.Set(r.node(id).op == Op::kMax ? "min" : "max", match->scalar);
  return BecomeNode(r, id, Op::kClip, {match->x}, std::move(attrs));
}

// clip(x) {min = -inf, max = inf} -> x; clip(x) {min = 0} -> relu(x)
bool ClipForms(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const double low = node.attrs.Float("min", -kInfinity), high = node.attrs.Float("max", kInfinity);
  if (high == kInfinity && low == -kInfinity) return Become(r, id, node.inputs[0]);
  if (high == kInfinity && low == 0) return BecomeNode(r, id, Op::kRelu, {node.inputs[0]});
  return false;
}

// What relu and clip let through; as in clip, the upper bound wins.
struct Bounds {
  double low = -kInfinity, high = kInfinity;
  double Apply(double x) const { return std::min(std::max(x, low), high); }
};
std::optional<Bounds> BoundsOf(const Node& node) {
  if (node.epilogue) return std::nullopt;
  if (node.op == Op::kRelu) return Bounds{.low = 0};
  if (node.op != Op::kClip) return std::nullopt;
  return Bounds{node.attrs.Float("min", -kInfinity), node.attrs.Float("max", kInfinity)};
}

// clip(relu(x)) {max = 6} -> clip(x) {min = 0, max = 6}, and so on
bool ClipOfClip(Rewriter& r, NodeId id) {
  const NodeId inner = r.Producer(r.node(id).inputs[0]);
  if (inner == NodeId::kNone) return false;
  const std::optional<Bounds> outer_bounds = BoundsOf(r.node(id)), bounds = BoundsOf(r.node(inner));
  if (!bounds || bounds->low > bounds->high || outer_bounds->low > outer_bounds->high) return false;
  Attrs attrs;
  const double low = outer_bounds->Apply(bounds->low), high = outer_bounds->Apply(bounds->high);
  if (low > -kInfinity) attrs.Set("min", low);
  if (high < kInfinity) attrs.Set("max", high);
  return BecomeNode(r, id, Op::kClip, {r.node(inner).inputs[0]}, std::move(attrs));
}

// Does every value of `narrow` survive a cast to `wide` and back?
bool Holds(DType wide, DType narrow) {
  if (wide == narrow || IsBool(narrow)) return true;
  if (IsBool(wide)) return false;
  const int wide_bits = TypeInfo(wide).bits, narrow_bits = TypeInfo(narrow).bits;
  if (IsFloat(narrow)) {
    if (!IsFloat(wide)) return false;
    if (wide == DType::kF64) return true;
    return wide == DType::kF32 && narrow_bits < 32;
  }
  if (IsFloat(wide)) return wide == DType::kF64 ? narrow_bits <= 32 : wide == DType::kF32 && narrow_bits <= 16;
  // Between integers the way back undoes the wrapping.
  return wide_bits >= narrow_bits;
}

// cast(x) to the type of x -> x; cast(cast(x)) back to the type of x -> x where the type between holds all of it
bool CastToSame(Rewriter& r, NodeId id) {
  const ValueId x = r.node(id).inputs[0];
  const DType to = ResultType(r, id);
  if (r.type(x).dtype == to) return Become(r, id, x);
  if (!r.ProducerIs(x, Op::kCast)) return false;
  const ValueId source = r.node(r.Producer(x)).inputs[0];
  return r.type(source).dtype == to && Holds(r.type(x).dtype, to) && Become(r, id, source);
}

// reduce_sum(x) {axes = []} -> x; over axes of extent 1: reshape(x)
bool ReduceOfOne(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  for (int64_t axis : node.attrs.Ints("axes")) {
    if (r.shape(node.inputs[0])[static_cast<int>(axis)] != 1) return false;
  }
  const ValueId out = node.outputs[0];
  if (r.type(out).dtype != r.type(node.inputs[0]).dtype) return false;
  if (r.shape(out) == r.shape(node.inputs[0])) return Become(r, id, node.inputs[0]);
  Attrs attrs;
  attrs.Set("shape", r.shape(out).dims());
  return BecomeNode(r, id, Op::kReshape, {node.inputs[0]}, std::move(attrs));
}

// avg_pool(x) of one window that is all of x -> reduce_mean(x); max_pool -> reduce_max
bool GlobalPool(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const Shape& shape = r.shape(node.inputs[0]);
  const std::vector<int64_t>& kernel = node.attrs.Ints("kernel");
  const int first = node.attrs.String("layout") == "nhwc" ? 1 : 2;
  std::vector<int64_t> axes;
  for (size_t i = 0; i < kernel.size(); ++i) {
    const int d = first + static_cast<int>(i);
    const bool whole = kernel[i] == shape[d] && (kernel[i] == 1 || node.attrs.Ints("dilations")[i] == 1) &&
                       node.attrs.Ints("pads")[i] == 0 && node.attrs.Ints("pads")[kernel.size() + i] == 0 &&
                       r.shape(node.outputs[0])[d] == 1;
    if (!whole) return false;
    axes.push_back(d);
  }
  Attrs attrs;
  attrs.Set("axes", std::move(axes));
  return BecomeNode(r, id, node.op == Op::kMaxPool ? Op::kReduceMax : Op::kReduceMean, {node.inputs[0]},
                    std::move(attrs));
}

// quantize(dequantize(x, s, z), s, z) -> x
bool QuantizeOfDequantize(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (!r.ProducerIs(node.inputs[0], Op::kDequantize)) return false;
  const Node& inner = r.node(r.Producer(node.inputs[0]));
  const bool same = inner.inputs.size() == node.inputs.size() &&
                    std::equal(node.inputs.begin() + 1, node.inputs.end(), inner.inputs.begin() + 1) &&
                    inner.attrs.Int("axis", -1) == node.attrs.Int("axis", -1) &&
                    inner.attrs.Int("block_size", 0) == node.attrs.Int("block_size", 0) &&
                    r.type(inner.inputs[0]).dtype == ResultType(r, id) && TypeInfo(ResultType(r, id)).bits <= 8;
  // A scale of 0, inf or NaN loses x.
  if (!same || !r.graph().IsConstant(node.inputs[1])) return false;
  const Tensor& scales = r.value(node.inputs[1]).constant;
  for (int64_t k = 0; k < scales.num_elements(); ++k) {
    if (!(scales.Get(k) > 1e-30 && scales.Get(k) < 1e30)) return false;
  }
  return Become(r, id, inner.inputs[0]);
}

constexpr Rule kRules[] = {
    {Op::kAdd, ConstantSecond},
    {Op::kMul, ConstantSecond},
    {Op::kMin, ConstantSecond},
    {Op::kMax, ConstantSecond},
    {Op::kAdd, AddZero},
    {Op::kSub, SubConstant},
    {Op::kMul, MulOne},
    {Op::kDiv, DivConstant},
    {Op::kPow, PowConstant},
    {Op::kMax, BoundByConstant},
    {Op::kMin, BoundByConstant},
    {Op::kClip, ClipForms},
    {Op::kClip, ClipOfClip},
    {Op::kRelu, ClipOfClip},
    {Op::kCast, CastToSame},
    {Op::kReduceSum, ReduceOfOne},
    {Op::kReduceMean, ReduceOfOne},
    {Op::kReduceMax, ReduceOfOne},
    {Op::kReduceMin, ReduceOfOne},
    {Op::kReduceProd, ReduceOfOne},
    {Op::kReduceLogSumExp, ReduceOfOne},
    {Op::kAvgPool, GlobalPool},
    {Op::kMaxPool, GlobalPool},
    {Op::kQuantize, QuantizeOfDequantize},
};

}  // namespace

std::span<const Rule> ArithmeticRules() { return kRules; }

bool ReadThroughExpand(Rewriter& r, NodeId id) {
  Node node = r.node(id);
  for (ValueId& input : node.inputs) {
    if (!r.ProducerIs(input, Op::kExpand)) continue;
    const ValueId expanded = std::exchange(input, r.node(r.Producer(input)).inputs[0]);
    const StatusOr<std::vector<TensorType>> types = InferTypes(r.graph(), node);
    if (types.ok() && types->at(0) == r.type(node.outputs[0])) {
      r.Rebuild(id, std::move(node));
      return true;
    }
    input = expanded;
  }
  return false;
}

}  // namespace tessera
