#include "codegen/single_node.h"

#include <cstdio>
#include <map>
#include <span>
#include <vector>

#include "base/hash.h"
#include "graph/op_names.h"
#include "graph/text.h"

namespace tessera {
namespace {

constexpr int64_t kSmallConstant = 16;  // elements

std::string Describe(const Graph& graph, const Node& node) {
  std::string text(OpName(node.op));
  const char* separator = " ";
  for (ValueId id : node.inputs) {
    if (id == ValueId::kNone) continue;
    const Value& value = graph[id];
    text += internal::Join(separator, value.type);
    separator = " x ";
    if (!value.tesa || value.tesa->keeps_all()) continue;
    char kept[32];
    std::snprintf(kept, sizeof(kept), " kept %.1f %%", 100 * value.tesa->density());
    text += kept;
  }
  if (node.epilogue) text += internal::Join(" -> ", node.epilogue->dtype, " with epilogue");
  return text;
}

}  // namespace

SingleNode TakeOut(const Graph& graph, const Node& node) {
  SingleNode single;
  single.what = Describe(graph, node);
  Graph& out = single.graph;
  out.name = "node";
  std::map<ValueId, ValueId> place;
  const auto take = [&](ValueId id) {
    if (id == ValueId::kNone) return id;
    const auto [at, fresh] = place.try_emplace(id);
    if (!fresh) return at->second;
    Value value = graph[id];
    // Numbered, so that equal nodes of a network are equal here.
    value.name = "v" + std::to_string(out.values.size());
    if (value.kind == ValueKind::kComputed) value.kind = ValueKind::kInput;
    at->second = out.AddValue(std::move(value));
    if (out[at->second].kind == ValueKind::kInput) out.inputs.push_back(at->second);
    return at->second;
  };
  Node copy = node;
  copy.name = "node";
  for (ValueId& id : copy.inputs) id = take(id);
  if (copy.epilogue) {
    for (ValueId& id : copy.epilogue->inputs) id = take(id);
  }
  for (ValueId& id : copy.outputs) {
    id = take(id);
    out[id].kind = ValueKind::kComputed;
    out.inputs.pop_back();
    out.outputs.push_back(id);
  }
  out.nodes.push_back(std::move(copy));
  return single;
}

std::string NodeKey(const SingleNode& single, const Target& target, int threads) {
  Hasher hasher;
  hasher.AddString(target.Key()).AddValue(target.IsGpu() ? 0 : threads);
  Graph graph = single.graph;
  for (Value& value : graph.values) {
    hasher.AddValue(value.kind).AddValue(value.tesa.has_value());
    if (value.tesa) {
      const std::vector<uint8_t> bits = value.tesa->Bits();
      hasher.AddBytes(std::as_bytes(std::span(bits)));
    }
    value.tesa.reset();
    value.quant.reset();
    // What is printed of an input is its type. Small constants may decide what an emitter does: a zero point, an axis.
    if (value.kind == ValueKind::kConstant && value.type.shape.num_elements() > kSmallConstant) {
      value.kind = ValueKind::kInput;
      value.constant = Tensor();
    }
  }
  return hasher.AddString(PrintGraph(graph, {.elide = true})).Finish().ToHex();
}

}  // namespace tessera
