#include "propagate/bits/segment.h"

#include <algorithm>

namespace tessera {

std::vector<ValueId> Frontier(const Graph& graph, size_t first) {
  std::vector<bool> made(graph.values.size(), false), wanted(graph.values.size(), false);
  for (ValueId id : graph.inputs) made[Index(id)] = true;
  for (size_t n = 0; n < first; ++n) {
    for (ValueId id : graph.nodes[n].outputs) made[Index(id)] = true;
  }
  for (size_t n = first; n < graph.nodes.size(); ++n) {
    for (ValueId id : Operands(graph.nodes[n])) {
      if (id != ValueId::kNone) wanted[Index(id)] = true;
    }
  }
  for (ValueId id : graph.outputs) wanted[Index(id)] = true;
  std::vector<ValueId> frontier;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (made[v] && wanted[v]) frontier.push_back(static_cast<ValueId>(v));
  }
  return frontier;
}

Segment MakeSegment(const Graph& graph, size_t begin, size_t end) {
  Segment segment;
  std::vector<bool> made(graph.values.size(), false);
  for (size_t n = begin; n < end; ++n) {
    for (ValueId id : graph.nodes[n].outputs) made[Index(id)] = true;
  }
  for (ValueId id : Frontier(graph, end)) {
    if (made[Index(id)]) segment.outputs.push_back(id);
  }
  // The nodes that these need, from the last to the first.
  std::vector<bool> needed(graph.values.size(), false), kept(graph.nodes.size(), false);
  for (ValueId id : segment.outputs) needed[Index(id)] = true;
  for (size_t n = end; n-- > begin;) {
    for (ValueId id : graph.nodes[n].outputs) kept[n] = kept[n] || needed[Index(id)];
    if (!kept[n]) continue;
    for (ValueId id : Operands(graph.nodes[n])) {
      if (id != ValueId::kNone) needed[Index(id)] = true;
    }
  }
  Graph& g = segment.graph;
  g.name = graph.name;
  std::vector<ValueId> renamed(graph.values.size(), ValueId::kNone);
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const bool is_result = made[v];
    if (!needed[v] && !is_result) continue;
    Value value = graph.values[v];
    if (!is_result && value.kind != ValueKind::kConstant) {
      value.kind = ValueKind::kInput;
      segment.inputs.push_back(static_cast<ValueId>(v));
    }
    renamed[v] = g.AddValue(std::move(value));
  }
  const auto rename = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids) id = id == ValueId::kNone ? id : renamed[Index(id)];
  };
  for (size_t n = begin; n < end; ++n) {
    if (!kept[n]) continue;
    Node node = graph.nodes[n];
    rename(node.inputs);
    rename(node.outputs);
    if (node.epilogue) rename(node.epilogue->inputs);
    g.nodes.push_back(std::move(node));
  }
  g.inputs = segment.inputs;
  g.outputs = segment.outputs;
  rename(g.inputs);
  rename(g.outputs);
  Compact(g);
  return segment;
}

}  // namespace tessera
