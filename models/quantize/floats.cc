#include "models/quantize/floats.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "graph/interpreter.h"
#include "graph/passes/rewriter.h"
#include "graph/verifier.h"

namespace tessera {
namespace {

// What is pruned stays pruned; what is kept has the width of a type with `bits`, or the lower one that was declared.
std::optional<Attribute> AtWidth(const std::optional<Attribute>& tesa, int bits) {
  if (!tesa) return std::nullopt;
  const std::vector<int> widths = tesa->Widths();
  if (widths.empty() || widths.front() >= bits) return Attribute::FromKept(tesa->shape(), tesa->KeptBitmap(), bits);
  std::vector<uint8_t> all = tesa->Bits();
  for (uint8_t& width : all) width = std::min(width, static_cast<uint8_t>(bits));
  return Attribute::FromBits(tesa->shape(), all);
}

bool IsIn(const std::vector<ValueId>& ids, ValueId id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

// A value computed by a cast of `from`.
ValueId AddCast(Graph& graph, ValueId from, DType to, std::string name, std::vector<Node>& nodes) {
  Value value;
  value.name = name;
  value.type = {to, graph[from].type.shape};
  const ValueId id = graph.AddValue(std::move(value));
  Node node = MakeNode(Op::kCast, std::move(name), {from}, MakeAttrs({{"to", to}}));
  node.outputs = {id};
  nodes.push_back(std::move(node));
  return id;
}

std::string FreeName(const Graph& graph, std::string name) {
  while (graph.FindValue(name) != ValueId::kNone) name += "_";
  return name;
}

// (integer - zero_point) * scale, by the op's own reference.
Tensor DequantizedConstant(const Graph& graph, const Node& node) {
  std::vector<RefTensor> operands;
  for (ValueId id : node.inputs) operands.push_back(RefTensor::From(graph[id].constant));
  std::vector<const RefTensor*> pointers;
  for (const RefTensor& operand : operands) pointers.push_back(&operand);
  return InterpretNode(graph, node, pointers)[0].ToTensor();
}

// Where the integers have no zero point 0 means 0, so that what is pruned of them is pruned of the reals.
std::optional<Attribute> TesaOfReals(const Graph& graph, const Node& node, int bits) {
  const Value& integers = graph[node.inputs[0]];
  if (!integers.tesa) return std::nullopt;
  if (node.inputs.size() > 2) {
    const Tensor& zero_points = graph[node.inputs[2]].constant;
    for (int64_t k = 0; k < zero_points.num_elements(); ++k) {
      if (zero_points.GetInt(k) != 0) return std::nullopt;
    }
  }
  return Attribute::FromKept(integers.type.shape, integers.tesa->KeptBitmap(), bits);
}

}  // namespace

Status CastFloats(Graph& graph, DType to) {
  const int bits = TypeInfo(to).bits;
  std::vector<Node> nodes;
  std::vector<std::pair<ValueId, ValueId>> narrow_inputs;
  for (ValueId id : graph.inputs) {
    if (graph[id].type.dtype != DType::kF32) continue;
    const std::string name = FreeName(graph, graph[id].name + "." + std::string(Name(to)));
    narrow_inputs.emplace_back(id, AddCast(graph, id, to, name, nodes));
  }
  const auto narrowed = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids) {
      for (const auto& [wide, narrow] : narrow_inputs) {
        if (id == wide) id = narrow;
      }
    }
  };
  for (Value& value : graph.values) {
    if (value.kind == ValueKind::kInput || value.type.dtype != DType::kF32) continue;
    value.type.dtype = to;
    if (value.kind == ValueKind::kConstant) value.constant = value.constant.Cast(to);
    value.tesa = AtWidth(value.tesa, bits);
  }
  for (Node& node : graph.nodes) {
    if (node.op == Op::kQuantize || node.op == Op::kDequantize) {
      return Error(ErrorCode::kOpUnsupported, "node '", node.name, "' (", "quantize or dequantize): the network is ",
                   "quantised already; --quantize=f32 makes it one of floats");
    }
    narrowed(node.inputs);
    if (node.epilogue) {
      narrowed(node.epilogue->inputs);
      if (node.epilogue->dtype == DType::kF32) node.epilogue->dtype = to;
    }
    if (node.op == Op::kCast && node.attrs.Type("to") == DType::kF32) node.attrs.Set("to", to);
    nodes.push_back(std::move(node));
  }
  for (ValueId& id : graph.outputs) {
    if (graph[id].type.dtype != to || IsIn(graph.inputs, id)) continue;
    const ValueId old = id;
    const std::string name = std::exchange(graph[old].name, "");
    graph[old].name = FreeName(graph, name + "." + std::string(Name(to)));
    const ValueId wide = AddCast(graph, old, DType::kF32, name, nodes);
    std::replace(graph.outputs.begin(), graph.outputs.end(), old, wide);
  }
  graph.nodes = std::move(nodes);
  graph.metadata["quantized"] = std::string(Name(to));
  return Verify(graph);
}

Status RemoveQuantization(Graph& graph) {
  Rewriter r(graph);
  for (NodeId n; r.Next(n);) {
    const Node node = r.node(n);
    if (node.op != Op::kDequantize || node.epilogue) continue;
    const ValueId integers = node.inputs[0], result = node.outputs[0];
    if (r.ProducerIs(integers, Op::kQuantize)) {
      ValueId x = r.node(r.Producer(integers)).inputs[0];
      if (r.type(x) != r.type(result)) {
        x = r.Emit(n, Op::kCast, {x}, MakeAttrs({{"to", r.type(result).dtype}}));
      }
      r.Replace(result, x);
      continue;
    }
    const auto is_constant = [&](ValueId id) { return graph.IsConstant(id); };
    if (!std::all_of(node.inputs.begin(), node.inputs.end(), is_constant) || r.IsOutput(result)) continue;
    const std::optional<Attribute> tesa = TesaOfReals(graph, node, TypeInfo(r.type(result).dtype).bits);
    Tensor reals = DequantizedConstant(graph, node);
    if (tesa) reals = tesa->ApplyTo(reals);
    r.TurnIntoConstant(n, std::move(reals), tesa);
  }
  RETURN_IF_ERROR(std::move(r).Finish());
  graph.metadata["quantized"] = "f32";
  return Verify(graph);
}

}  // namespace tessera
