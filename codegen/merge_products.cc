#include "codegen/merge_products.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace tessera {
namespace {

// Results of one product beyond which it fills a card by itself.
constexpr int64_t kMostResults = int64_t{1} << 22;

bool IsDense(const Graph& graph, ValueId id) { return graph.IsConstant(id) && !graph[id].tesa && !graph[id].quant; }

// A constant that every row of [rows, columns] has alike.
bool IsSameForRows(const Value& value, int64_t columns) {
  const Shape& shape = value.type.shape;
  const int64_t elements = shape.num_elements();
  return elements == 1 || (elements == columns && shape[shape.rank() - 1] == columns);
}

bool CanMerge(const Graph& graph, const Node& node) {
  if (node.op != Op::kMatmul || node.inputs.size() != 2 || !IsDense(graph, node.inputs[1])) return false;
  if (graph.IsConstant(node.inputs[0]) || node.attrs.Int("transpose_a", 0) != 0) return false;
  const TensorType &b = graph[node.inputs[1]].type, &out = graph[node.outputs[0]].type;
  if (b.shape.rank() != 2 || out.shape.rank() < 2 || TypeInfo(b.dtype).bits < 8) return false;
  if (out.shape.num_elements() == 0 || out.shape.num_elements() > kMostResults) return false;
  // An output of the program has a place of its own.
  if (std::find(graph.outputs.begin(), graph.outputs.end(), node.outputs[0]) != graph.outputs.end()) return false;
  if (!node.epilogue) return true;
  const auto merges = [&](ValueId id) {
    return IsDense(graph, id) && TypeInfo(graph[id].type.dtype).bits >= 8 &&
           IsSameForRows(graph[id], out.shape[out.shape.rank() - 1]);
  };
  return !node.epilogue->body.uses_index() &&
         std::all_of(node.epilogue->inputs.begin(), node.epilogue->inputs.end(), merges);
}

// Do two nodes that can be merged differ in nothing but their constants' values?
bool AreAlike(const Graph& graph, const Node& x, const Node& y) {
  const auto same_type = [&](ValueId a, ValueId b) { return graph[a].type == graph[b].type; };
  if (x.inputs[0] != y.inputs[0] || !(x.attrs == y.attrs) || !same_type(x.inputs[1], y.inputs[1]) ||
      !same_type(x.outputs[0], y.outputs[0]) || x.epilogue.has_value() != y.epilogue.has_value()) {
    return false;
  }
  if (!x.epilogue) return true;
  return x.epilogue->body == y.epilogue->body && x.epilogue->dtype == y.epilogue->dtype &&
         std::equal(x.epilogue->inputs.begin(), x.epilogue->inputs.end(), y.epilogue->inputs.begin(),
                    y.epilogue->inputs.end(), same_type);
}

class Merger {
 public:
  explicit Merger(Graph graph) : graph_(std::move(graph)) {}

  Graph Run() {
    std::vector<std::vector<size_t>> groups;
    std::map<ValueId, std::vector<size_t>> groups_of;  // by the operand in common
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      if (!CanMerge(graph_, node)) continue;
      std::vector<size_t>& candidates = groups_of[node.inputs[0]];
      const auto alike = std::find_if(candidates.begin(), candidates.end(),
                                      [&](size_t g) { return AreAlike(graph_, graph_.nodes[groups[g][0]], node); });
      if (alike != candidates.end()) {
        groups[*alike].push_back(n);
      } else {
        candidates.push_back(groups.size());
        groups.push_back({n});
      }
    }
    std::map<size_t, const std::vector<size_t>*> at;  // where a group's first node stands
    std::vector<bool> merged(graph_.nodes.size());
    for (const std::vector<size_t>& group : groups) {
      if (group.size() < 2) continue;
      at[group[0]] = &group;
      for (size_t n : group) merged[n] = true;
    }
    if (at.empty()) return std::move(graph_);
    const std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    for (size_t n = 0; n < nodes.size(); ++n) {
      if (const auto group = at.find(n); group != at.end()) {
        std::vector<const Node*> members;
        for (size_t m : *group->second) members.push_back(&nodes[m]);
        Merge(members);
      } else if (!merged[n]) {
        graph_.nodes.push_back(nodes[n]);
      }
    }
    return std::move(graph_);
  }

 private:
  void Merge(const std::vector<const Node*>& members) {
    const Node& first = *members[0];
    const auto count = static_cast<int64_t>(members.size());
    const TensorType out = graph_[first.outputs[0]].type, a = graph_[first.inputs[0]].type;
    const int64_t columns = out.shape[out.shape.rank() - 1], rows = out.shape.num_elements() / columns;
    const int64_t depth = a.shape[a.shape.rank() - 1];
    Node product = first;
    const Shape& b = graph_[first.inputs[1]].type.shape;
    const Shape matrices({count, b[0], b[1]});
    const ValueId left = Reshaped(first.inputs[0], Shape({rows, depth}), first.name + ".rows");
    product.inputs = {left, Stack(members, matrices, [](const Node& n) { return n.inputs[1]; })};
    for (size_t k = 0; product.epilogue && k < product.epilogue->inputs.size(); ++k) {
      const int64_t elements = graph_[first.epilogue->inputs[k]].type.shape.num_elements();
      product.epilogue->inputs[k] =
          Stack(members, Shape({count, 1, elements}), [k](const Node& n) { return n.epilogue->inputs[k]; });
    }
    const ValueId all = Computed(first.name + ".merged", {out.dtype, Shape({count, rows, columns})});
    product.name = first.name;
    product.outputs = {all};
    graph_.nodes.push_back(std::move(product));
    for (int64_t k = 0; k < count; ++k) {
      const Node& member = *members[static_cast<size_t>(k)];
      Node slice = {
          .op = Op::kSlice, .name = member.name + ".part", .inputs = {all}, .outputs = {}, .attrs = {}, .epilogue = {}};
      slice.attrs.Set("starts", std::vector<int64_t>{k, 0, 0});
      slice.attrs.Set("sizes", std::vector<int64_t>{1, rows, columns});
      slice.attrs.Set("steps", std::vector<int64_t>{1, 1, 1});
      const ValueId part = Computed(slice.name, {out.dtype, Shape({1, rows, columns})});
      slice.outputs = {part};
      graph_.nodes.push_back(std::move(slice));
      AddReshape(part, member.outputs[0], member.name);
    }
  }

  ValueId Computed(std::string name, TensorType type) {
    Value value;
    value.name = std::move(name) + "." + std::to_string(graph_.values.size());
    value.type = std::move(type);
    return graph_.AddValue(std::move(value));
  }
  void AddReshape(ValueId from, ValueId to, const std::string& name) {
    Node node = {.op = Op::kReshape, .name = name, .inputs = {from}, .outputs = {to}, .attrs = {}, .epilogue = {}};
    node.attrs.Set("shape", graph_[to].type.shape.dims());
    graph_.nodes.push_back(std::move(node));
  }
  ValueId Reshaped(ValueId x, const Shape& shape, const std::string& name) {
    if (graph_[x].type.shape == shape) return x;
    const ValueId result = Computed(name, {graph_[x].type.dtype, shape});
    AddReshape(x, result, name);
    return result;
  }

  // The members' constants one after the other, as `shape`.
  ValueId Stack(const std::vector<const Node*>& members, Shape shape,
                const std::function<ValueId(const Node&)>& value_of) {
    const Value& first = graph_[value_of(*members[0])];
    Value value;
    value.name = first.name + ".stacked." + std::to_string(graph_.values.size());
    value.type = {first.type.dtype, std::move(shape)};
    value.kind = ValueKind::kConstant;
    value.constant = Tensor(value.type.dtype, value.type.shape);
    std::byte* to = value.constant.mutable_bytes().data();
    for (const Node* member : members) {
      const auto bytes = graph_[value_of(*member)].constant.bytes();
      std::memcpy(to, bytes.data(), bytes.size());
      to += bytes.size();
    }
    return graph_.AddValue(std::move(value));
  }

  Graph graph_;
};

}  // namespace

Graph MergeProducts(Graph graph, const Target& target) {
  if (!target.IsGpu()) return graph;
  return Merger(std::move(graph)).Run();
}

}  // namespace tessera
