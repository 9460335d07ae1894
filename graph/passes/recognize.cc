#include "graph/passes/recognize.h"

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

bool Near(double a, double b) { return std::fabs(a - b) <= 2e-6 * std::fabs(b); }

// x and c where `id` = op(x, c) with a constant of one element.
std::optional<WithScalar> ScalarUnder(const Rewriter& r, ValueId id, Op op, bool x_first = false) {
  if (!r.ProducerIs(id, op)) return std::nullopt;
  return MatchScalar(r.graph(), r.node(r.Producer(id)), x_first);
}

// x where `id` = op(x), else kNone.
ValueId Under(const Rewriter& r, ValueId id, Op op) {
  return r.ProducerIs(id, op) ? r.node(r.Producer(id)).inputs[0] : ValueId::kNone;
}

// ---- products ----

// A product of x, g and numbers: x^x_count * g^g_count * scale.
struct Product {
  int x_count = 0, g_count = 0;
  double scale = 1;
};

// Reads `id` as such a product; false where another factor occurs.
bool ReadProduct(const Rewriter& r, ValueId id, ValueId x, ValueId g, Product& product, int depth = 0) {
  if (id == x || id == g) {
    ++(id == x ? product.x_count : product.g_count);
    return true;
  }
  if (depth > 5) return false;
  if (const std::optional<WithScalar> quotient = ScalarUnder(r, id, Op::kDiv, true)) {
    product.scale /= quotient->scalar;
    return ReadProduct(r, quotient->x, x, g, product, depth + 1);
  }
  if (const std::optional<WithScalar> scaled = ScalarUnder(r, id, Op::kMul)) {
    product.scale *= scaled->scalar;
    return ReadProduct(r, scaled->x, x, g, product, depth + 1);
  }
  if (!r.ProducerIs(id, Op::kMul)) return false;
  const std::vector<ValueId> factors = r.node(r.Producer(id)).inputs;
  return ReadProduct(r, factors[0], x, g, product, depth + 1) && ReadProduct(r, factors[1], x, g, product, depth + 1);
}

bool IsProduct(const Rewriter& r, ValueId id, ValueId x, ValueId g, int x_count, int g_count, double scale) {
  Product product;
  return ReadProduct(r, id, x, g, product) && product.x_count == x_count && product.g_count == g_count &&
         Near(product.scale, scale);
}

// The factors of a product, its inner products included.
void Factors(const Rewriter& r, ValueId id, std::vector<ValueId>& factors, int depth = 0) {
  factors.push_back(id);
  if (depth > 3) return;
  if (const std::optional<WithScalar> quotient = ScalarUnder(r, id, Op::kDiv, true)) {
    return Factors(r, quotient->x, factors, depth + 1);
  }
  if (!r.ProducerIs(id, Op::kMul)) return;
  for (ValueId factor : r.node(r.Producer(id)).inputs) Factors(r, factor, factors, depth + 1);
}

// The inner argument of tanh in gelu: sqrt(2 / pi) * (x + 0.044715 x³) or the same with x taken out.
bool IsTanhArgument(const Rewriter& r, ValueId id, ValueId x) {
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  std::vector<ValueId> factors;
  Factors(r, id, factors);
  for (ValueId sum : factors) {
    if (!r.ProducerIs(sum, Op::kAdd)) continue;
    const std::vector<ValueId> terms = r.node(r.Producer(sum)).inputs;
    for (int k : {0, 1}) {
      if (terms[k] == x && IsProduct(r, terms[1 - k], x, ValueId::kNone, 3, 0, 0.044715)) {
        return IsProduct(r, id, x, sum, 0, 1, kSqrt2OverPi);
      }
    }
    const std::optional<WithScalar> plus_one = ScalarUnder(r, sum, Op::kAdd);
    if (plus_one && plus_one->scalar == 1 && IsProduct(r, plus_one->x, x, ValueId::kNone, 2, 0, 0.044715)) {
      return IsProduct(r, id, x, sum, 1, 1, kSqrt2OverPi);
    }
  }
  return false;
}

// x where `sum` = 1 + erf(x / sqrt(2)).
ValueId ErfArgument(const Rewriter& r, ValueId erf) {
  const ValueId inner = Under(r, erf, Op::kErf);
  if (inner == ValueId::kNone) return ValueId::kNone;
  if (const auto m = ScalarUnder(r, inner, Op::kMul); m && Near(m->scalar, std::sqrt(0.5))) return m->x;
  if (const auto d = ScalarUnder(r, inner, Op::kDiv, true); d && Near(d->scalar, std::sqrt(2.0))) return d->x;
  return ValueId::kNone;
}

bool BecomeUnary(Rewriter& r, NodeId id, Op op, ValueId x, Attrs attrs = {}) {
  if (r.type(x) != r.type(r.node(id).outputs[0])) return false;
  r.Rebuild(id, MakeNode(op, r.node(id).name, {x}, std::move(attrs)));
  return true;
}

// x * g(x) for the activations that are such a product; `id` is the outermost mul or div.
bool RecognizeProduct(Rewriter& r, NodeId id) {
  const ValueId out = r.node(id).outputs[0];
  if (!IsFloat(r.type(out).dtype)) return false;
  std::vector<ValueId> factors;
  Factors(r, out, factors);
  for (ValueId g : factors) {
    if (const ValueId x = Under(r, g, Op::kSigmoid); x != ValueId::kNone && IsProduct(r, out, x, g, 1, 1, 1)) {
      return BecomeUnary(r, id, Op::kSilu, x);
    }
    if (const ValueId x = Under(r, g, Op::kHardSigmoid); x != ValueId::kNone) {
      const Attrs& attrs = r.node(r.Producer(g)).attrs;
      const bool line = Near(attrs.Float("alpha", 0.2), 1.0 / 6) && attrs.Float("beta", 0.5) == 0.5;
      if (line && IsProduct(r, out, x, g, 1, 1, 1)) return BecomeUnary(r, id, Op::kHardSwish, x);
    }
    if (const ValueId sum = Under(r, g, Op::kClip); sum != ValueId::kNone) {
      const Attrs& attrs = r.node(r.Producer(g)).attrs;
      const std::optional<WithScalar> plus_three = ScalarUnder(r, sum, Op::kAdd);
      const bool line = plus_three && plus_three->scalar == 3 && attrs.Float("min", -1) == 0 &&
                        attrs.Float("max", -1) == 6 && IsProduct(r, out, plus_three->x, g, 1, 1, 1.0 / 6);
      if (line) return BecomeUnary(r, id, Op::kHardSwish, plus_three->x);
    }
    const std::optional<WithScalar> plus_one = ScalarUnder(r, g, Op::kAdd);
    if (!plus_one || plus_one->scalar != 1) continue;
    if (const ValueId x = ErfArgument(r, plus_one->x); x != ValueId::kNone && IsProduct(r, out, x, g, 1, 1, 0.5)) {
      return BecomeUnary(r, id, Op::kGelu, x);
    }
    const ValueId argument = Under(r, plus_one->x, Op::kTanh);
    if (argument == ValueId::kNone) continue;
    for (ValueId x : factors) {
      if (x == g || !IsProduct(r, out, x, g, 1, 1, 0.5) || !IsTanhArgument(r, argument, x)) continue;
      return BecomeUnary(r, id, Op::kGelu, x, MakeAttrs({{"approximate", "tanh"}}));
    }
  }
  return false;
}

// ---- layer norm ----

// The first of the trailing dimensions over which `id` is a mean that keeps them, and what it is the mean of.
struct Mean {
  ValueId x = ValueId::kNone;
  int64_t axis = 0;
};
std::optional<Mean> TrailingMean(const Rewriter& r, ValueId id) {
  if (!r.ProducerIs(id, Op::kReduceMean)) return std::nullopt;
  const Node& node = r.node(r.Producer(id));
  const std::vector<int64_t>& axes = node.attrs.Ints("axes");
  const int64_t rank = r.shape(node.inputs[0]).rank();
  if (axes.empty() || node.attrs.Int("keepdims", 1) == 0 || axes.back() != rank - 1 ||
      axes.back() - axes.front() + 1 != static_cast<int64_t>(axes.size())) {
    return std::nullopt;
  }
  return Mean{node.inputs[0], axes.front()};
}

// Is it x minus its mean from `axis` on?
bool IsDeviation(const Rewriter& r, ValueId id, ValueId x, int64_t axis) {
  if (!r.ProducerIs(id, Op::kSub)) return false;
  const std::vector<ValueId> operands = r.node(r.Producer(id)).inputs;
  const std::optional<Mean> mean = TrailingMean(r, operands[1]);
  return operands[0] == x && mean && mean->x == x && mean->axis == axis;
}

// (x - mean) / sqrt(variance + epsilon), as div(d, s), mul(d, reciprocal(s)) or mul(d, div(1, s)) -> layer_norm(x)
bool RecognizeNormal(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  for (int k : {0, 1}) {
    if (node.op == Op::kDiv && k == 1) break;
    const ValueId d = node.inputs[k];
    ValueId s = node.inputs[1 - k];
    if (node.op == Op::kMul) {
      if (const ValueId inner = Under(r, s, Op::kReciprocal); inner != ValueId::kNone) {
        s = inner;
      } else if (r.ProducerIs(s, Op::kDiv) && ScalarConstant(r.graph(), r.node(r.Producer(s)).inputs[0]) == 1.0) {
        s = r.node(r.Producer(s)).inputs[1];
      } else {
        continue;
      }
    }
    ValueId sum = Under(r, s, Op::kSqrt);
    if (sum == ValueId::kNone) {
      const std::optional<WithScalar> root = ScalarUnder(r, s, Op::kPow, true);
      if (!root || root->scalar != 0.5) continue;
      sum = root->x;
    }
    const std::optional<WithScalar> variance = ScalarUnder(r, sum, Op::kAdd);
    if (!variance || !(variance->scalar >= 0)) continue;
    const std::optional<Mean> mean = TrailingMean(r, variance->x);
    if (!mean || !r.ProducerIs(mean->x, Op::kMul) || !r.ProducerIs(d, Op::kSub)) continue;
    const ValueId x = r.node(r.Producer(d)).inputs[0];
    const std::vector<ValueId> squared = r.node(r.Producer(mean->x)).inputs;
    if (!IsDeviation(r, d, x, mean->axis) || squared[0] != squared[1] || !IsDeviation(r, squared[0], x, mean->axis)) {
      continue;
    }
    return BecomeUnary(r, id, Op::kLayerNorm, x, MakeAttrs({{"axis", mean->axis}, {"epsilon", variance->scalar}}));
  }
  return false;
}

// mul(layer_norm(x), scale) -> layer_norm(x, scale); add(layer_norm(x, scale), bias) -> layer_norm(x, scale, bias)
bool IntoLayerNorm(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  for (int k : {0, 1}) {
    const ValueId normal = node.inputs[k], parameter = node.inputs[1 - k];
    if (!r.ProducerIs(normal, Op::kLayerNorm) || !r.HasOneReader(normal) || !r.graph().IsConstant(parameter)) continue;
    Node joined = r.node(r.Producer(normal));
    const size_t at = node.op == Op::kMul ? 1 : 2;
    if (joined.inputs.size() > at) continue;
    const Shape& shape = r.shape(normal);
    const std::vector<int64_t> inner(shape.begin() + joined.attrs.Int("axis"), shape.end());
    // The parameter's dimensions, without leading ones.
    std::vector<int64_t> dims = r.shape(parameter).dims();
    while (dims.size() > inner.size() && dims[0] == 1) dims.erase(dims.begin());
    if (dims != inner || r.type(normal) != r.type(node.outputs[0])) continue;
    joined.inputs.resize(at, ValueId::kNone);
    joined.inputs.push_back(r.shape(parameter).dims() == inner ? parameter
                                                               : ReshapedConstant(r, parameter, Shape(inner)));
    joined.name = node.name;
    r.Rebuild(id, std::move(joined));
    return true;
  }
  return false;
}

// ---- attention ----

const std::vector<int64_t> kHeadSplit = {0, 2, 1, 3};

// Takes numbers that multiply `id` into `scale`.
ValueId WithoutScale(const Rewriter& r, ValueId id, double& scale) {
  for (int depth = 0; depth < 3; ++depth) {
    if (const auto m = ScalarUnder(r, id, Op::kMul)) {
      scale *= m->scalar;
      id = m->x;
    } else if (const auto d = ScalarUnder(r, id, Op::kDiv, true)) {
      scale /= d->scalar;
      id = d->x;
    }
  }
  return id;
}

// Numbers so low that they swallow any score that is added to them, in every type.
constexpr double kNoScore = -1e30;

// The product of queries and keys below `id`, and what stands between.
struct Scores {
  ValueId q = ValueId::kNone, k = ValueId::kNone, mask = ValueId::kNone;
  bool keys_last = false;  // k is [B, H, D, T]
  double scale = 1;
  // where(keep, scores, lowest), the same as adding 0 or lowest; `chosen` is the scores' operand of it.
  NodeId where = NodeId::kNone;
  int chosen = 0;
};

// Behind the product there may be one addition and one choice, in either order.
std::optional<Scores> ReadScores(const Rewriter& r, ValueId id, Scores scores = {}) {
  {
    Scores found = scores;
    const ValueId product = WithoutScale(r, id, found.scale);
    if (r.ProducerIs(product, Op::kMatmul) && r.type(product) == r.type(id)) {
      const Node& node = r.node(r.Producer(product));
      if (node.attrs.Int("transpose_a", 0)) return std::nullopt;
      found.q = WithoutScale(r, node.inputs[0], found.scale);
      found.k = WithoutScale(r, node.inputs[1], found.scale);
      found.keys_last = node.attrs.Int("transpose_b", 0) == 0;
      return found;
    }
  }
  if (r.ProducerIs(id, Op::kAdd) && scores.mask == ValueId::kNone) {
    const std::vector<ValueId> terms = r.node(r.Producer(id)).inputs;
    for (int k : {0, 1}) {
      Scores inner = scores;
      inner.mask = terms[1 - k];
      if (r.type(terms[k]) != r.type(id)) continue;
      if (std::optional<Scores> found = ReadScores(r, terms[k], inner)) return found;
    }
  }
  if (r.ProducerIs(id, Op::kWhere) && scores.where == NodeId::kNone) {
    const std::vector<ValueId> operands = r.node(r.Producer(id)).inputs;
    for (int k : {1, 2}) {
      const std::optional<double> lowest = ScalarConstant(r.graph(), operands[3 - k]);
      if (!lowest || !(*lowest <= kNoScore) || r.type(operands[k]) != r.type(id)) continue;
      scores.where = r.Producer(id);
      scores.chosen = k;
      return ReadScores(r, operands[k], scores);
    }
  }
  return std::nullopt;
}

// matmul(softmax(scale * q kᵀ + mask), v) -> attention(q, k, v, mask); the mask may be a choice of the lowest number
bool RecognizeAttention(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const ValueId weights = node.inputs[0], v = node.inputs[1];
  if (node.attrs.Int("transpose_a", 0) || node.attrs.Int("transpose_b", 0)) return false;
  if (!r.ProducerIs(weights, Op::kSoftmax) || !r.HasOneReader(weights) || r.shape(weights).rank() != 4 ||
      r.shape(v).rank() != 4 || r.node(r.Producer(weights)).attrs.Int("axis") != 3) {
    return false;
  }
  const ValueId score = r.node(r.Producer(weights)).inputs[0];
  if (!r.HasOneReader(score)) return false;
  const std::optional<Scores> scores = ReadScores(r, score);
  if (!scores || !std::isfinite(scores->scale)) return false;
  const DType dtype = r.type(node.outputs[0]).dtype;
  for (ValueId operand : {scores->q, scores->k, v}) {
    if (r.type(operand).dtype != dtype || r.shape(operand).rank() != 4) return false;
    for (int d : {0, 1}) {  // without broadcasting over batch or heads
      if (r.shape(operand)[d] != r.shape(node.outputs[0])[d]) return false;
    }
  }
  ValueId k = scores->k;
  if (scores->keys_last) {
    std::vector<int64_t> perm = {0, 1, 3, 2};
    if (r.ProducerIs(k, Op::kTranspose)) {  // straight from where the keys come from
      perm = ComposePerms(r.node(r.Producer(k)).attrs.Ints("perm"), perm);
      k = r.node(r.Producer(k)).inputs[0];
    }
    if (!IsIdentityPerm(perm)) k = r.Emit(id, Op::kTranspose, {k}, MakeAttrs({{"perm", perm}}), node.name + ".keys");
    if (!r.status().ok()) return false;
  }
  ValueId mask = scores->mask;
  if (scores->where != NodeId::kNone) {
    const Node where = r.node(scores->where);
    std::vector<ValueId> choice = where.inputs;
    choice[scores->chosen] = r.Constant(where.name + ".kept", Tensor::Full(dtype, Shape(), 0));
    const ValueId term = r.Emit(id, Op::kWhere, std::move(choice), {}, where.name + ".mask");
    if (!r.status().ok()) return false;
    mask = mask == ValueId::kNone ? term : r.Emit(id, Op::kAdd, {mask, term}, {}, where.name + ".masks");
    if (!r.status().ok()) return false;
  }
  std::vector<ValueId> inputs = {scores->q, k, v};
  if (mask != ValueId::kNone) inputs.push_back(mask);
  r.Rebuild(id, MakeNode(Op::kAttention, node.name, std::move(inputs), MakeAttrs({{"scale", scores->scale}})));
  return true;
}

// attention of three head splits -> transpose(attention of what they split) in layout "bshd"
bool AttentionOfSplits(Rewriter& r, NodeId id) {
  Node node = r.node(id);
  if (node.attrs.String("layout", "bhsd") != "bhsd") return false;
  for (int k = 0; k < 3; ++k) {
    if (!r.ProducerIs(node.inputs[k], Op::kTranspose)) return false;
    const Node& split = r.node(r.Producer(node.inputs[k]));
    if (split.attrs.Ints("perm") != kHeadSplit) return false;
    node.inputs[k] = split.inputs[0];
  }
  node.attrs.Set("layout", "bshd");
  const ValueId out = r.Emit(id, node);
  if (!r.status().ok()) return false;
  r.Rebuild(id, MakeNode(Op::kTranspose, node.name + ".heads", {out}, MakeAttrs({{"perm", kHeadSplit}})));
  return true;
}

}  // namespace

Status Recognize(Graph& graph) {
  Rewriter r(graph);
  for (NodeId id; r.Next(id);) {
    const Node& node = r.node(id);
    if (node.epilogue) continue;
    switch (node.op) {
      case Op::kMul:
        if (!RecognizeProduct(r, id) && !RecognizeNormal(r, id)) IntoLayerNorm(r, id);
        break;
      case Op::kDiv:
        if (!RecognizeProduct(r, id)) RecognizeNormal(r, id);
        break;
      case Op::kAdd: IntoLayerNorm(r, id); break;
      case Op::kMatmul: RecognizeAttention(r, id); break;
      case Op::kAttention: AttentionOfSplits(r, id); break;
      default: break;
    }
  }
  return std::move(r).Finish();
}

}  // namespace tessera
