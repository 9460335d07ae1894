#include "graph/passes/unsigned_integers.h"

#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/quantized.h"

namespace tessera {
namespace {

// Longer chains of moves are not worth a deeper look.
constexpr int kMaxDepth = 32;

}  // namespace

ValueId UnsignedIntegers::Make(ValueId id, int depth) {
  if (!r_.status().ok() || id == ValueId::kNone || r_.type(id).dtype == to_) return id;
  if (const auto found = made_.find(id); found != made_.end()) return found->second;
  ValueId made = ValueId::kNone;
  const NodeId maker = r_.Producer(id);
  if (maker != NodeId::kNone && (to_ == DType::kU8 || r_.HasOneReader(id))) {
    const Op op = r_.node(maker).op;
    // Of integers, pads and bounds may be any.
    const bool moves =
        MovesIntegers(r_, r_.node(maker)) || ((op == Op::kClip || op == Op::kPad) && !r_.node(maker).epilogue);
    if (op == Op::kQuantize) made = Requantized(maker);
    if (moves && depth < kMaxDepth) made = Moved(maker, depth);
  }
  if (made == ValueId::kNone) made = Shifted(id);
  if (!r_.status().ok()) return ValueId::kNone;
  made_[id] = made;
  if (r_.value(id).quant && r_.value(id).quant->axis < 0) {
    QuantParams quant = *r_.value(id).quant;
    if (quant.zero_points.empty()) quant.zero_points.assign(quant.scales.size(), 0);
    for (int64_t& zero : quant.zero_points) zero += offset();
    r_.SetQuant(made, std::move(quant));
  }
  if (to_ == DType::kU8) ReadInstead(id, made);
  return made;
}

ValueId UnsignedIntegers::Requantized(NodeId maker) {
  Node node = r_.node(maker);
  const std::optional<Scaling> scaling = ScalingOf(r_, node);
  if (!scaling || !scaling->is_constant()) return ValueId::kNone;
  node.inputs.resize(3);
  const Shape shape = r_.shape(scaling->scale);
  const double zero = static_cast<double>(*scaling->zero_value + offset());
  node.inputs[2] = r_.Constant(node.name + ".zero_point", Tensor::Full(to_, shape, zero));
  node.attrs.Set("dtype", to_);
  return r_.Emit(maker, MakeNode(node.op, node.name, node.inputs, node.attrs));
}

ValueId UnsignedIntegers::Moved(NodeId maker, int depth) {
  Node node = r_.node(maker);
  const size_t data = node.op == Op::kConcat ? node.inputs.size() : 1;
  for (size_t k = 0; k < data; ++k) {
    const ValueId moved = Make(node.inputs[k], depth + 1);
    if (!r_.status().ok()) return ValueId::kNone;
    node.inputs[k] = moved;
  }
  const double offset = static_cast<double>(this->offset());
  if (node.op == Op::kPad && node.attrs.String("mode") == "constant") {
    node.attrs.Set("value", node.attrs.Float("value", 0) + offset);
  } else if (node.op == Op::kRelu) {
    node.op = Op::kClip;
    node.attrs.Set("min", offset);
  } else if (node.op == Op::kClip) {
    for (const char* bound : {"min", "max"}) {
      if (node.attrs.Has(bound)) node.attrs.Set(bound, node.attrs.Float(bound) + offset);
    }
  }
  return r_.Emit(maker, MakeNode(node.op, node.name, node.inputs, node.attrs));
}

ValueId UnsignedIntegers::Shifted(ValueId id) {
  const std::string name = Name(r_.value(id).name);
  const ValueId bits = r_.Emit(r_.Behind(id), Op::kCast, {id}, MakeAttrs({{"to", to_}}), name);
  const double high_bit = to_ == DType::kU8 ? 128 : -128;
  const ValueId high = r_.Constant("high_bit", Tensor::Full(to_, Shape(), high_bit));
  return r_.status().ok() ? r_.Emit(r_.Following(r_.Producer(bits)), Op::kXor, {bits, high}, {}, name) : ValueId::kNone;
}

// Dequantize nodes of `from` read `to`.
void UnsignedIntegers::ReadInstead(ValueId from, ValueId to) {
  const std::set<NodeId> readers = r_.Readers(from);
  for (NodeId reader : readers) {
    Node node = r_.node(reader);
    const std::optional<Scaling> scaling = ScalingOf(r_, node);
    if (node.op != Op::kDequantize || !scaling || !scaling->is_constant()) continue;
    node.inputs[0] = to;
    node.inputs.resize(3);
    const double zero = static_cast<double>(*scaling->zero_value + kUnsignedOffset);
    node.inputs[2] = r_.Constant(node.name + ".zero_point", Tensor::Full(DType::kU8, r_.shape(scaling->scale), zero));
    r_.Rebuild(reader, MakeNode(node.op, node.name, node.inputs, node.attrs));
  }
}

}  // namespace tessera
