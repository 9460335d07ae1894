// attention: scaled dot products of queries and keys, softmax over the keys, and the mean of the values it weighs.
//
//   out[b, h, s, :] = sum over t of softmax over t (scale * q[b, h, s, :] . k[b, h, t, :] + mask[b, h, s, t]) * v[b, h,
//   t, :]
//
// Layout "bshd" has positions before heads in q, k, v and the result, as projections write them; a mask stays [B, H, S,
// T].
#include <algorithm>
#include <cmath>
#include <limits>

#include "graph/ops/common.h"
#include "graph/ops/contraction.h"

namespace tessera {
namespace {

struct Extents {
  int64_t batch, heads, queries, keys, depth, value_depth;
  bool positions_first;  // layout "bshd"

  Shape scores() const { return {batch, heads, queries, keys}; }
  // b, h, position, d in the order of the operands' layout.
  template <typename T>
  std::vector<T> Ordered(T b, T h, T position, T d) const {
    return positions_first ? std::vector<T>{b, position, h, d} : std::vector<T>{b, h, position, d};
  }
  Shape Operand(int64_t positions, int64_t columns) const { return Shape(Ordered(batch, heads, positions, columns)); }
};

bool PositionsFirst(const OpContext& c) { return c.attrs.String("layout", "bhsd") == "bshd"; }

Extents ExtentsOf(const OpContext& c) {
  const Shape &q = c.shape(0), &v = c.shape(2);
  const bool positions_first = PositionsFirst(c);
  const int head = positions_first ? 2 : 1, position = positions_first ? 1 : 2;
  return {q[0], q[head], q[position], v[position], q[3], v[3], positions_first};
}

StatusOr<std::vector<TensorType>> Infer(const OpContext& c) {
  if (const std::string layout = c.attrs.String("layout", "bhsd"); layout != "bhsd" && layout != "bshd") {
    return Error(ErrorCode::kAttributeInvalid, "expected layout \"bhsd\" or \"bshd\", found \"", layout, "\"");
  }
  for (int k = 0; k < 3; ++k) {
    RETURN_IF_ERROR(CheckType(c, k, TypeClass::kFloat));
    RETURN_IF_ERROR(CheckSameType(c, k, 0));
    if (c.shape(k).rank() == 4) continue;
    return Error(ErrorCode::kShapeMismatch, "operand ", k, ": expected ",
                 PositionsFirst(c) ? "[batch, positions, heads, depth]" : "[batch, heads, positions, depth]",
                 ", found ", c.input(k));
  }
  const Extents e = ExtentsOf(c);
  RETURN_IF_ERROR(CheckShapeIs(c, 1, e.Operand(e.keys, e.depth)));
  RETURN_IF_ERROR(CheckShapeIs(c, 2, e.Operand(e.keys, e.value_depth)));
  if (e.keys == 0) {
    return Error(ErrorCode::kShapeMismatch, "operand 1: expected at least one key, found ", c.input(1));
  }
  RETURN_IF_ERROR(CheckShape(c.dtype(0), e.scores()));
  if (c.has_input(3)) {
    RETURN_IF_ERROR(CheckSameType(c, 3, 0));
    RETURN_IF_ERROR(CheckBroadcastsTo(c, 3, e.scores()));
  }
  if (const double scale = c.attrs.Float("scale"); !std::isfinite(scale)) {
    return Error(ErrorCode::kAttributeInvalid, "expected a finite scale, found ", scale);
  }
  return std::vector<TensorType>{{c.dtype(0), e.Operand(e.queries, e.value_depth)}};
}

void Reference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const Extents e = ExtentsOf(c);
  const RefTensor &q = *inputs[0], &k = *inputs[1], &v = *inputs[2];
  const RefTensor* mask = inputs.size() > 3 ? inputs[3] : nullptr;
  const double scale = c.attrs.Float("scale");
  // The mask's position for a score: its steps along b, h, s, t, zero where it broadcasts.
  std::vector<int64_t> mask_steps(4, 0);
  if (mask != nullptr) {
    const Shape& shape = mask->type.shape;
    const std::vector<int64_t> strides = shape.Strides();
    for (int d = 0; d < shape.rank(); ++d) mask_steps[4 - shape.rank() + d] = shape[d] == 1 ? 0 : strides[d];
  }
  // Where a row of d begins: head counts over the batch as well.
  const auto row_of = [&](int64_t head, int64_t position, int64_t positions) {
    if (!e.positions_first) return head * positions + position;
    return (head / e.heads * positions + position) * e.heads + head % e.heads;
  };
  std::vector<double> weights(e.keys);
  for (int64_t row = 0; row < e.batch * e.heads * e.queries; ++row) {
    const int64_t head = row / e.queries, s = row % e.queries;
    const double* query = q.f.data() + row_of(head, s, e.queries) * e.depth;
    for (int64_t t = 0; t < e.keys; ++t) {
      const double* key = k.f.data() + row_of(head, t, e.keys) * e.depth;
      double dot = 0;
      for (int64_t d = 0; d < e.depth; ++d) dot += query[d] * key[d];
      weights[t] = dot * scale;
      if (mask == nullptr) continue;
      weights[t] += mask->f[head / e.heads * mask_steps[0] + head % e.heads * mask_steps[1] + s * mask_steps[2] +
                            t * mask_steps[3]];
    }
    // Shifting by the largest keeps exp finite and cancels in the quotient.
    double largest = -std::numeric_limits<double>::infinity();
    for (double weight : weights) largest = std::isnan(largest) || weight <= largest ? largest : weight;
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    double* out = outputs[0].f.data() + row_of(head, s, e.queries) * e.value_depth;
    for (int64_t t = 0; t < e.keys; ++t) {
      const double* value = v.f.data() + row_of(head, t, e.keys) * e.value_depth;
      for (int64_t d = 0; d < e.value_depth; ++d) out[d] += weights[t] / sum * value[d];
    }
  }
}

// Five stages; scores, their maxima, the exponentials and their sums are temporaries in the compute type.
Compute MakeCompute(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Extents e = ExtentsOf(c);
  const DType type = ComputeType(c.dtype(0));
  const Shape scores = e.scores(), rows = {e.batch, e.heads, e.queries};
  compute.temps = {{type, scores}, {type, rows}, {type, scores}, {type, rows}};
  const BufferRef score = Temp(0), largest = Temp(1), weight = Temp(2), sum = Temp(3);

  {  // for b, h, s, t | d:  score = scale * add q[b, h, s, d] * k[b, h, t, d] + mask[b, h, s, t]
    Stage stage = {.name = "scores", .extents = scores.dims(), .parallel_rank = 4};
    stage.extents.push_back(e.depth);
    stage.reads = {{.buffer = In(0), .view = c.shape(0), .index = e.Ordered(Axis(0), Axis(1), Axis(2), Axis(4))},
                   {.buffer = In(1), .view = c.shape(1), .index = e.Ordered(Axis(0), Axis(1), Axis(3), Axis(4))}};
    stage.body = ProductBody(c.dtype(0), c.dtype(1));
    stage.combiner = Combiner::kAdd;
    BodyBuilder b;
    Scalar scaled = b.InputAt(0, type) * c.attrs.Float("scale");
    if (c.has_input(3)) {
      stage.finish_reads = {Broadcast(In(3), c.shape(3), scores)};
      scaled = scaled + b.InputAt(1, c.dtype(3));
    }
    stage.finish = b.Finish(scaled);
    stage.write = Elementwise(score, scores);
    compute.stages.push_back(std::move(stage));
  }
  const auto reduce_keys = [&](std::string name, BufferRef from, Combiner combiner, BufferRef to) {
    Stage stage = {.name = std::move(name), .extents = scores.dims(), .parallel_rank = 3};
    stage.reads = {Elementwise(from, scores)};
    stage.body = IdentityBody(type);
    stage.combiner = combiner;
    stage.write = Elementwise(to, rows);
    compute.stages.push_back(std::move(stage));
  };
  reduce_keys("row_max", score, Combiner::kMax, largest);
  {
    BodyBuilder b;
    const Scalar x = b.Input(type), shift = b.Input(type);
    compute.stages.push_back(MapStage("exp", scores, {Elementwise(score, scores), Elementwise(largest, rows)},
                                      b.Finish(Exp(x - shift)), weight));
  }
  reduce_keys("row_sum", weight, Combiner::kAdd, sum);
  {  // for b, h, s, e (in the layout's order) | t:  out = add weight[b, h, s, t] * v[b, h, t, e] / sum[b, h, s]
    const Shape& out = c.outputs[0].shape;
    const IndexExpr h = Axis(e.positions_first ? 2 : 1), s = Axis(e.positions_first ? 1 : 2);
    Stage stage = {.name = "weigh", .extents = out.dims(), .parallel_rank = 4};
    stage.extents.push_back(e.keys);
    stage.reads = {{.buffer = weight, .view = scores, .index = {Axis(0), h, s, Axis(4)}},
                   {.buffer = In(2), .view = c.shape(2), .index = e.Ordered(Axis(0), h, Axis(4), Axis(3))}};
    stage.body = ProductBody(type, c.dtype(2));
    stage.combiner = Combiner::kAdd;
    stage.finish_reads = {{.buffer = sum, .view = rows, .index = {Axis(0), h, s}}};
    BodyBuilder b;
    const Scalar weighed = b.InputAt(0, type), total = b.InputAt(1, type);
    stage.finish = b.Finish(weighed / total);
    stage.write = Elementwise(Out(), out);
    compute.stages.push_back(std::move(stage));
  }
  return compute;
}

}  // namespace

OpDef MakeAttentionOp() {
  OpDef def = {};
  def.doc = "softmax(scale * q k^T + mask) v for each head; q [B,H,S,D], k [B,H,T,D], v [B,H,T,E], mask added.";
  def.min_inputs = 3;
  def.max_inputs = 4;
  def.attrs = {
      {"scale", AttrKind::kFloat, true, "usually 1 / sqrt(D)"},
      {"layout", AttrKind::kString, false, "bhsd (default), or bshd: positions before heads in q, k, v, result"}};
  def.infer = &Infer;
  def.reference = &Reference;
  def.compute = &MakeCompute;
  return def;
}

}  // namespace tessera
