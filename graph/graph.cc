#include "graph/graph.h"

#include <algorithm>

namespace tessera {
namespace {

template <typename Visit>
void ForEachOperand(Node& node, Visit visit) {
  for (ValueId& id : node.inputs) visit(id);
  if (node.epilogue) {
    for (ValueId& id : node.epilogue->inputs) visit(id);
  }
}

}  // namespace

ValueId Graph::AddValue(Value value) {
  values.push_back(std::move(value));
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::FindValue(std::string_view value_name) const {
  for (size_t k = 0; k < values.size(); ++k) {
    if (values[k].name == value_name) return static_cast<ValueId>(k);
  }
  return ValueId::kNone;
}

Uses::Uses(const Graph& graph)
    : producer(graph.values.size(), NodeId::kNone),
      readers(graph.values.size()),
      is_output(graph.values.size(), false) {
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const NodeId id = static_cast<NodeId>(n);
    for (ValueId out : graph.nodes[n].outputs) producer[Index(out)] = id;
    for (ValueId in : Operands(graph.nodes[n])) {
      if (in == ValueId::kNone) continue;
      auto& list = readers[Index(in)];
      if (list.empty() || list.back() != id) list.push_back(id);
    }
  }
  for (ValueId out : graph.outputs) is_output[Index(out)] = true;
}

std::vector<ValueId> Operands(const Node& node) {
  std::vector<ValueId> operands = node.inputs;
  if (node.epilogue) operands.insert(operands.end(), node.epilogue->inputs.begin(), node.epilogue->inputs.end());
  return operands;
}

void Compact(Graph& graph) {
  std::vector<bool> used(graph.values.size(), false);
  const auto mark = [&](ValueId id) {
    if (id != ValueId::kNone) used[Index(id)] = true;
  };
  for (ValueId id : graph.inputs) mark(id);
  for (ValueId id : graph.outputs) mark(id);
  for (Node& node : graph.nodes) {
    for (ValueId id : node.outputs) mark(id);
    ForEachOperand(node, [&](ValueId& id) { mark(id); });
  }
  std::vector<ValueId> renamed(graph.values.size(), ValueId::kNone);
  std::vector<Value> kept;
  for (size_t k = 0; k < graph.values.size(); ++k) {
    if (!used[k]) continue;
    renamed[k] = static_cast<ValueId>(kept.size());
    kept.push_back(std::move(graph.values[k]));
  }
  graph.values = std::move(kept);
  const auto rename = [&](ValueId& id) {
    if (id != ValueId::kNone) id = renamed[Index(id)];
  };
  for (ValueId& id : graph.inputs) rename(id);
  for (ValueId& id : graph.outputs) rename(id);
  for (Node& node : graph.nodes) {
    for (ValueId& id : node.outputs) rename(id);
    ForEachOperand(node, rename);
  }
}

void RemoveDeadNodes(Graph& graph) {
  std::vector<bool> needed(graph.values.size(), false);
  for (ValueId id : graph.outputs) needed[Index(id)] = true;
  std::vector<Node> kept;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool live =
        std::any_of(node->outputs.begin(), node->outputs.end(), [&](ValueId id) { return needed[Index(id)]; });
    if (!live) continue;
    for (ValueId id : Operands(*node)) {
      if (id != ValueId::kNone) needed[Index(id)] = true;
    }
    kept.push_back(std::move(*node));
  }
  std::reverse(kept.begin(), kept.end());
  graph.nodes = std::move(kept);
  Compact(graph);
}

Status SortTopologically(Graph& graph) {
  const Uses uses(graph);
  std::vector<int> waiting(graph.nodes.size(), 0);
  std::vector<int> ready;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    std::vector<NodeId> producers;
    for (ValueId id : Operands(graph.nodes[n])) {
      if (id == ValueId::kNone || uses.producer[Index(id)] == NodeId::kNone) continue;
      producers.push_back(uses.producer[Index(id)]);
    }
    std::sort(producers.begin(), producers.end());
    waiting[n] = static_cast<int>(std::unique(producers.begin(), producers.end()) - producers.begin());
    if (waiting[n] == 0) ready.push_back(static_cast<int>(n));
  }
  // A heap of the smallest position keeps the source order wherever it is already valid.
  const auto later = std::greater<int>();
  std::make_heap(ready.begin(), ready.end(), later);
  std::vector<Node> sorted;
  std::vector<bool> done(graph.nodes.size(), false);
  while (!ready.empty()) {
    std::pop_heap(ready.begin(), ready.end(), later);
    const int n = ready.back();
    ready.pop_back();
    done[n] = true;
    std::vector<NodeId> readers;
    for (ValueId out : graph.nodes[n].outputs) {
      const auto& list = uses.readers[Index(out)];
      readers.insert(readers.end(), list.begin(), list.end());
    }
    std::sort(readers.begin(), readers.end());
    readers.erase(std::unique(readers.begin(), readers.end()), readers.end());
    for (NodeId reader : readers) {
      if (--waiting[Index(reader)] != 0) continue;
      ready.push_back(Index(reader));
      std::push_heap(ready.begin(), ready.end(), later);
    }
    sorted.push_back(std::move(graph.nodes[n]));
  }
  if (sorted.size() != graph.nodes.size()) {
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      if (done[n]) continue;
      return Error(ErrorCode::kGraphCyclic, "node '", graph.nodes[n].name,
                   "' depends on its own output; expected a graph without cycles");
    }
  }
  graph.nodes = std::move(sorted);
  return OkStatus();
}

void ReplaceAllUses(Graph& graph, ValueId from, ValueId to) {
  const auto replace = [&](ValueId& id) {
    if (id == from) id = to;
  };
  for (Node& node : graph.nodes) ForEachOperand(node, replace);
  for (ValueId& id : graph.outputs) replace(id);
}

}  // namespace tessera
