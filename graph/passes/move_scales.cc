#include "graph/passes/move_scales.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/quantized.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// How far to look for somebody who waits for integers.
constexpr int kMaxLook = 12;

bool IsQuantize(const Rewriter& r, NodeId id) { return r.node(id).op == Op::kQuantize && !r.node(id).epilogue; }

// Are integers of this value wanted: by a quantize, a product with integer weights, or behind more moves?
bool WantsIntegers(const Rewriter& r, ValueId real, int look = kMaxLook) {
  for (NodeId reader : r.Readers(real)) {
    const Node& node = r.node(reader);
    if (IsQuantize(r, reader) && node.inputs[0] == real) return true;
    if ((node.op == Op::kMatmul || node.op == Op::kConv) && node.inputs[0] == real && !node.epilogue) {
      if (r.ProducerIs(node.inputs[1], Op::kDequantize) &&
          r.graph().IsConstant(r.node(r.Producer(node.inputs[1])).inputs[0])) {
        return true;
      }
    }
    if (look > 0 && MovesIntegers(r, node) && WantsIntegers(r, node.outputs[0], look - 1)) return true;
  }
  return false;
}

void CopyQuant(Rewriter& r, ValueId from, ValueId to) {
  if (from != ValueId::kNone && r.value(from).quant && r.value(from).quant->axis < 0) {
    r.SetQuant(to, *r.value(from).quant);
  }
}

// The node on integers: what it puts beside elements (pads) or cuts at (relu) is what stands for 0.
Node OnIntegers(const Node& node, std::vector<ValueId> integers, int64_t zero, DType dtype) {
  Node moved = MakeNode(node.op, node.name, std::move(integers), node.attrs);
  if (node.op == Op::kPad && node.attrs.String("mode") == "constant") {
    moved.attrs.Set("value", static_cast<double>(zero));
  } else if (node.op == Op::kRelu) {
    moved.op = Op::kClip;
    moved.attrs = MakeAttrs({{"min", static_cast<double>(zero)}, {"max", static_cast<double>(MaxInt(dtype))}});
  }
  return moved;
}

// move(dequantize(q)) -> dequantize(move(q))
bool BehindMove(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (!MovesIntegers(r, node) || r.shape(node.outputs[0]).num_elements() == 0) return false;
  std::vector<ValueId> integers;
  std::optional<Dequantized> first;
  bool constant = true;
  const size_t data = node.op == Op::kConcat ? node.inputs.size() : 1;
  for (size_t k = 0; k < data; ++k) {
    const std::optional<Dequantized> d = ReadDequantize(r, node.inputs[k]);
    if (!d || !d->scaling.is_constant() || (first && !first->scaling.SameAs(d->scaling))) return false;
    if (!first) first = d;
    if (r.type(d->integers).dtype != r.type(first->integers).dtype) return false;
    constant &= r.graph().IsConstant(d->integers);
    integers.push_back(d->integers);
  }
  if (!constant && !WantsIntegers(r, node.outputs[0])) return false;
  integers.insert(integers.end(), node.inputs.begin() + static_cast<std::ptrdiff_t>(data), node.inputs.end());
  const ValueId source = integers[0];
  const ValueId moved =
      r.Emit(id, OnIntegers(node, std::move(integers), *first->scaling.zero_value, r.type(source).dtype));
  if (!r.status().ok()) return false;
  CopyQuant(r, source, moved);
  const Node dequantize = r.node(r.Producer(node.inputs[0]));
  std::vector<ValueId> inputs = dequantize.inputs;
  inputs[0] = moved;
  r.Rebuild(id, MakeNode(Op::kDequantize, dequantize.name, std::move(inputs)));
  return true;
}

// The same for constants whose scales run along an axis, which the move takes elsewhere but leaves whole.
bool BehindMoveOfConstant(Rewriter& r, NodeId id) {
  const Node node = r.node(id);
  if (node.epilogue || !r.ProducerIs(node.inputs[0], Op::kDequantize)) return false;
  Node dequantize = r.node(r.Producer(node.inputs[0]));
  if (!r.graph().IsConstant(dequantize.inputs[0]) || !dequantize.attrs.Has("axis") ||
      dequantize.attrs.Int("block_size", 0) != 0) {
    return false;
  }
  const Shape from = r.shape(node.inputs[0]), to = r.shape(node.outputs[0]);
  const int axis = static_cast<int>(dequantize.attrs.Int("axis"));
  int moved_axis = -1;
  if (node.op == Op::kTranspose) {
    moved_axis = static_cast<int>(InversePerm(node.attrs.Ints("perm"))[static_cast<size_t>(axis)]);
  } else if (node.op == Op::kReshape && to.num_elements() > 0) {
    for (int d = 0; d < to.rank() && moved_axis < 0; ++d) {
      if (to[d] == from[axis] && to.Strides()[d] == from.Strides()[axis]) moved_axis = d;
    }
  }
  if (moved_axis < 0) return false;
  const ValueId moved = r.Emit(id, MakeNode(node.op, node.name, {dequantize.inputs[0]}, node.attrs));
  if (!r.status().ok()) return false;
  dequantize.inputs[0] = moved;
  dequantize.attrs.Set("axis", int64_t{moved_axis});
  r.Rebuild(id, MakeNode(Op::kDequantize, dequantize.name, dequantize.inputs, dequantize.attrs));
  return true;
}

// quantize(dequantize(q)) of one scaling and type -> q
bool AsItWas(Rewriter& r, NodeId id, const Scaling& scaling) {
  const Node& node = r.node(id);
  const std::optional<Dequantized> d = ReadDequantize(r, node.inputs[0]);
  if (!d || !scaling.is_constant() || !scaling.SameAs(d->scaling)) return false;
  return r.type(d->integers) == r.type(node.outputs[0]) && r.Replace(node.outputs[0], d->integers);
}

// quantize(move(x)) -> move(quantize(x))
bool InFrontOfMove(Rewriter& r, NodeId id, const Scaling& scaling) {
  const Node quantize = r.node(id);
  const ValueId x = quantize.inputs[0];
  if (!scaling.is_constant() || r.Producer(x) == NodeId::kNone || !r.HasOneReader(x)) return false;
  const Node move = r.node(r.Producer(x));
  if (!MovesIntegers(r, move) || r.shape(x).num_elements() == 0) return false;
  // Those that read less than there is, or make more of it, are better done on what is smaller; a relu is what a
  // quantize does anyhow.
  const bool all_once = move.op == Op::kReshape || move.op == Op::kTranspose || move.op == Op::kConcat ||
                        move.op == Op::kMaxPool || move.op == Op::kPad || move.op == Op::kExpand ||
                        move.op == Op::kTile || move.op == Op::kResize;
  if (!all_once) return false;
  const size_t data = move.op == Op::kConcat ? move.inputs.size() : 1;
  std::vector<ValueId> integers;
  for (size_t k = 0; k < data; ++k) {
    std::vector<ValueId> inputs = quantize.inputs;
    inputs[0] = move.inputs[k];
    integers.push_back(
        r.Emit(r.Producer(x), MakeNode(Op::kQuantize, quantize.name, std::move(inputs), quantize.attrs)));
    if (!r.status().ok()) return false;
    CopyQuant(r, quantize.outputs[0], integers.back());
  }
  integers.insert(integers.end(), move.inputs.begin() + static_cast<std::ptrdiff_t>(data), move.inputs.end());
  const DType dtype = r.type(quantize.outputs[0]).dtype;
  r.Rebuild(id, OnIntegers(move, std::move(integers), *scaling.zero_value, dtype));
  return true;
}

}  // namespace

Status MoveScales(Graph& graph) {
  Rewriter r(graph);
  for (NodeId id; r.Next(id);) {
    if (r.node(id).op == Op::kQuantize) {
      const std::optional<Scaling> scaling = ScalingOf(r, r.node(id));
      if (scaling && !AsItWas(r, id, *scaling)) InFrontOfMove(r, id, *scaling);
    } else if (!BehindMove(r, id)) {
      BehindMoveOfConstant(r, id);
    }
  }
  return std::move(r).Finish();
}

}  // namespace tessera
