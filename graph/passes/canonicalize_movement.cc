// Rules about where elements lie: reshapes, transposes, slices, pads, and contractions that read through them.
#include <algorithm>
#include <utility>

#include "graph/op.h"
#include "graph/passes/canonicalize_rules.h"
#include "graph/passes/constants.h"

namespace tessera {
namespace {

bool Become(Rewriter& r, NodeId id, ValueId value) { return r.Replace(r.node(id).outputs[0], value); }

bool BecomeNode(Rewriter& r, NodeId id, Op op, std::vector<ValueId> inputs, Attrs attrs) {
  r.Rebuild(id, MakeNode(op, r.node(id).name, std::move(inputs), std::move(attrs)));
  return true;
}

Attrs With(std::string_view name, AttrValue value) {
  Attrs attrs;
  attrs.Set(name, std::move(value));
  return attrs;
}

bool BecomeReshape(Rewriter& r, NodeId id, ValueId x) {
  return BecomeNode(r, id, Op::kReshape, {x}, With("shape", r.shape(r.node(id).outputs[0]).dims()));
}

// x where `id` is made from it by `op`, else kNone.
ValueId SourceThrough(const Rewriter& r, ValueId id, Op op) {
  return r.ProducerIs(id, op) ? r.node(r.Producer(id)).inputs[0] : ValueId::kNone;
}

bool AllAre(const std::vector<int64_t>& values, int64_t value) {
  return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v == value; });
}

// reshape, expand, tile, slice, pad, concat that change nothing -> x
bool KeepsAll(Rewriter& r, NodeId id) {
  const Node& node = r.node(id);
  if (r.type(node.inputs[0]) != r.type(node.outputs[0])) return false;
  switch (node.op) {
    case Op::kSlice:
      for (size_t d = 0; d < node.attrs.Ints("sizes").size(); ++d) {
        if (node.attrs.Ints("sizes")[d] > 1 && node.attrs.Ints("steps")[d] != 1) return false;
      }
      break;
    case Op::kPad:
      if (!AllAre(node.attrs.Ints("pads"), 0)) return false;
      break;
    case Op::kConcat:
      if (node.inputs.size() != 1) return false;
      break;
    case Op::kTile:
      if (!AllAre(node.attrs.Ints("repeats"), 1)) return false;
      break;
    default: break;
  }
  return Become(r, id, node.inputs[0]);
}

// reshape(reshape(x)) -> reshape(x)
bool ReshapeOfReshape(Rewriter& r, NodeId id) {
  const ValueId x = SourceThrough(r, r.node(id).inputs[0], Op::kReshape);
  return x != ValueId::kNone && BecomeReshape(r, id, x);
}

// transpose(x) that moves only dimensions of extent 1 -> reshape(x); the identity -> x
bool TransposeOfUnits(Rewriter& r, NodeId id) {
  const Node& node = r.node(id);
  const ValueId x = node.inputs[0];
  if (IsIdentityPerm(node.attrs.Ints("perm"))) return Become(r, id, x);
  return KeepsOrder(r.shape(x), node.attrs.Ints("perm")) && BecomeReshape(r, id, x);
}

// transpose(transpose(x)) -> transpose(x)
bool TransposeOfTranspose(Rewriter& r, NodeId id) {
  const ValueId between = r.node(id).inputs[0];
  const ValueId x = SourceThrough(r, between, Op::kTranspose);
  if (x == ValueId::kNone) return false;
  std::vector<int64_t> perm =
      ComposePerms(r.node(r.Producer(between)).attrs.Ints("perm"), r.node(id).attrs.Ints("perm"));
  return BecomeNode(r, id, Op::kTranspose, {x}, With("perm", std::move(perm)));
}

// expand(x) to as many elements -> reshape(x)
bool ExpandByUnits(Rewriter& r, NodeId id) {
  const ValueId x = r.node(id).inputs[0];
  return r.shape(x).num_elements() == r.shape(r.node(id).outputs[0]).num_elements() && BecomeReshape(r, id, x);
}

// expand(expand(x)) -> expand(x)
bool ExpandOfExpand(Rewriter& r, NodeId id) {
  const ValueId x = SourceThrough(r, r.node(id).inputs[0], Op::kExpand);
  if (x == ValueId::kNone) return false;
  Attrs attrs = r.node(id).attrs;
  return BecomeNode(r, id, Op::kExpand, {x}, std::move(attrs));
}

// tile(x) along dimensions of extent 1 -> expand(x)
bool TileOfUnits(Rewriter& r, NodeId id) {
  const Node& node = r.node(id);
  const Shape& shape = r.shape(node.inputs[0]);
  for (int d = 0; d < shape.rank(); ++d) {
    if (shape[d] != 1 && node.attrs.Ints("repeats")[d] != 1) return false;
  }
  return BecomeNode(r, id, Op::kExpand, {node.inputs[0]}, With("shape", r.shape(node.outputs[0]).dims()));
}

// slice(slice(x)) -> slice(x)
bool SliceOfSlice(Rewriter& r, NodeId id) {
  const Node& outer = r.node(id);
  const ValueId x = SourceThrough(r, outer.inputs[0], Op::kSlice);
  if (x == ValueId::kNone) return false;
  const Node& inner = r.node(r.Producer(outer.inputs[0]));
  std::vector<int64_t> starts, steps;
  for (size_t d = 0; d < outer.attrs.Ints("starts").size(); ++d) {
    // A step over a single element may be any number; here all are products of steps that are walked.
    const int64_t inner_step = inner.attrs.Ints("sizes")[d] > 1 ? inner.attrs.Ints("steps")[d] : 1;
    const int64_t outer_step = outer.attrs.Ints("sizes")[d] > 1 ? outer.attrs.Ints("steps")[d] : 1;
    starts.push_back(inner.attrs.Ints("starts")[d] + outer.attrs.Ints("starts")[d] * inner_step);
    steps.push_back(inner_step * outer_step);
  }
  Attrs attrs = outer.attrs;
  if (r.shape(outer.outputs[0]).num_elements() == 0) return false;
  attrs.Set("starts", std::move(starts));
  attrs.Set("steps", std::move(steps));
  return BecomeNode(r, id, Op::kSlice, {x}, std::move(attrs));
}

// concat(x, concat(y, z)) -> concat(x, y, z); operands without elements go
bool ConcatOfConcat(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const int axis = static_cast<int>(node.attrs.Int("axis"));
  std::vector<ValueId> operands;
  for (ValueId input : node.inputs) {
    if (r.shape(input)[axis] == 0) continue;
    const NodeId inner = r.Producer(input);
    if (r.ProducerIs(input, Op::kConcat) && r.node(inner).attrs.Int("axis") == axis && r.HasOneReader(input)) {
      operands.insert(operands.end(), r.node(inner).inputs.begin(), r.node(inner).inputs.end());
    } else {
      operands.push_back(input);
    }
  }
  if (operands == node.inputs || operands.empty()) return false;
  return BecomeNode(r, id, Op::kConcat, std::move(operands), node.attrs);
}

// pad(x) that only crops -> slice(x)
bool PadThatCrops(Rewriter& r, NodeId id) {
  const Node& node = r.node(id);
  const std::vector<int64_t>& pads = node.attrs.Ints("pads");
  if (std::any_of(pads.begin(), pads.end(), [](int64_t pad) { return pad > 0; })) return false;
  const Shape& out = r.shape(node.outputs[0]);
  if (node.attrs.String("mode") != "constant" || out.num_elements() == 0) return false;
  Attrs attrs;
  std::vector<int64_t> starts;
  for (int d = 0; d < out.rank(); ++d) starts.push_back(-pads[d]);
  attrs.Set("starts", std::move(starts));
  attrs.Set("steps", std::vector<int64_t>(out.rank(), 1));
  attrs.Set("sizes", out.dims());
  return BecomeNode(r, id, Op::kSlice, {node.inputs[0]}, std::move(attrs));
}

// A pad with a constant, nowhere negative.
bool IsPlainPad(const Rewriter& r, ValueId id) {
  if (!r.ProducerIs(id, Op::kPad)) return false;
  const Attrs& attrs = r.node(r.Producer(id)).attrs;
  const std::vector<int64_t>& pads = attrs.Ints("pads");
  return attrs.String("mode") == "constant" && std::all_of(pads.begin(), pads.end(), [](int64_t p) { return p >= 0; });
}

// pad(pad(x)) -> pad(x), of one value
bool PadOfPad(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (!IsPlainPad(r, node.inputs[0]) || !IsPlainPad(r, node.outputs[0])) return false;
  const Node& inner = r.node(r.Producer(node.inputs[0]));
  if (inner.attrs.Float("value", 0) != node.attrs.Float("value", 0)) return false;
  Attrs attrs = node.attrs;
  std::vector<int64_t> pads = node.attrs.Ints("pads");
  for (size_t k = 0; k < pads.size(); ++k) pads[k] += inner.attrs.Ints("pads")[k];
  attrs.Set("pads", std::move(pads));
  return BecomeNode(r, id, Op::kPad, {inner.inputs[0]}, std::move(attrs));
}

// conv(pad(x)) -> conv(x) with larger pads, where the value that conv reads there is put around the spatial dimensions
// only. A conv without pads of its own takes over any value of an integer type.
bool ConvOfPad(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (!IsPlainPad(r, node.inputs[0])) return false;
  const Node& pad = r.node(r.Producer(node.inputs[0]));
  const std::vector<int64_t>& around = pad.attrs.Ints("pads");
  const int rank = static_cast<int>(around.size() / 2), spatial = rank - 2;
  const bool channels_last = node.attrs.String("layout") == "nhwc";
  const int channel = channels_last ? rank - 1 : 1, first = channels_last ? 1 : 2;
  for (int d : {0, channel}) {
    if (around[d] != 0 || around[rank + d] != 0) return false;
  }
  std::vector<int64_t> pads = node.attrs.Ints("pads");
  Attrs attrs = node.attrs;
  const double value = pad.attrs.Float("value", 0);
  if (value != static_cast<double>(attrs.Int("pad_value", 0))) {
    if (!IsInteger(r.type(node.inputs[0]).dtype) || !AllAre(pads, 0)) return false;
    attrs.Set("pad_value", static_cast<int64_t>(value));
  }
  for (int i = 0; i < spatial; ++i) {
    pads[i] += around[first + i];
    pads[spatial + i] += around[rank + first + i];
  }
  attrs.Set("pads", std::move(pads));
  return BecomeNode(r, id, Op::kConv, {pad.inputs[0], node.inputs[1]}, std::move(attrs));
}

// matmul(transpose(a), b) -> matmul(a, b) {transpose_a = 1}, where only the last two dimensions change places
bool MatmulOfTranspose(Rewriter& r, NodeId id) {
  Node node = r.node(id);
  bool changed = false;
  for (int k : {0, 1}) {
    const ValueId x = SourceThrough(r, node.inputs[k], Op::kTranspose);
    if (x == ValueId::kNone) continue;
    std::vector<int64_t> perm = r.node(r.Producer(node.inputs[k])).attrs.Ints("perm");
    std::swap(perm[perm.size() - 2], perm[perm.size() - 1]);
    if (!IsIdentityPerm(perm)) continue;
    const std::string_view flag = k == 0 ? "transpose_a" : "transpose_b";
    const int64_t transposed = 1 - node.attrs.Int(flag, 0);
    node.attrs.Erase(flag);
    if (transposed) node.attrs.Set(flag, transposed);
    node.inputs[k] = x;
    changed = true;
  }
  if (changed) r.Rebuild(id, std::move(node));
  return changed;
}

// gather(x, constant index) -> reshape(slice(x))
bool GatherOfOne(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  const std::optional<double> scalar = ScalarConstant(r.graph(), node.inputs[1]);
  if (!scalar) return false;
  const Shape shape = r.shape(node.inputs[0]);
  const int axis = static_cast<int>(node.attrs.Int("axis"));
  int64_t index = static_cast<int64_t>(*scalar);
  if (index < 0) index += shape[axis];
  if (index < 0 || index >= shape[axis] || shape.num_elements() == 0) return false;
  std::vector<int64_t> starts(shape.rank(), 0), sizes = shape.dims();
  starts[axis] = index;
  sizes[axis] = 1;
  Attrs attrs;
  attrs.Set("starts", std::move(starts));
  attrs.Set("steps", std::vector<int64_t>(shape.rank(), 1));
  attrs.Set("sizes", std::move(sizes));
  const ValueId slice = r.Emit(id, Op::kSlice, {node.inputs[0]}, std::move(attrs), node.name + ".slice");
  return BecomeReshape(r, id, slice);
}

constexpr Rule kRules[] = {
    {Op::kReshape, KeepsAll},
    {Op::kReshape, ReshapeOfReshape},
    {Op::kTranspose, TransposeOfUnits},
    {Op::kTranspose, TransposeOfTranspose},
    {Op::kExpand, KeepsAll},
    {Op::kExpand, ExpandByUnits},
    {Op::kExpand, ExpandOfExpand},
    {Op::kTile, KeepsAll},
    {Op::kTile, TileOfUnits},
    {Op::kSlice, KeepsAll},
    {Op::kSlice, SliceOfSlice},
    {Op::kConcat, KeepsAll},
    {Op::kConcat, ConcatOfConcat},
    {Op::kPad, KeepsAll},
    {Op::kPad, PadThatCrops},
    {Op::kPad, PadOfPad},
    {Op::kConv, ConvOfPad},
    {Op::kMatmul, MatmulOfTranspose},
    {Op::kGather, GatherOfOne},
};

}  // namespace

std::span<const Rule> MovementRules() { return kRules; }

}  // namespace tessera
