#include "models/quantize/plan.h"

#include <algorithm>
#include <map>
#include <optional>

#include "graph/op_names.h"

namespace tessera {
namespace {

// Gives elements of its operand as they are, so that integers can go through.
bool MovesElements(const Node& node) {
  switch (node.op) {
    case Op::kReshape:
    case Op::kTranspose:
    case Op::kSlice:
    case Op::kMaxPool: return !node.epilogue;
    default: return false;
  }
}

// Between a contraction and what reads its result: bias and activation.
bool IsActivation(const Graph& graph, const Node& node) {
  switch (node.op) {
    case Op::kRelu:
    case Op::kClip:
    case Op::kHardSwish:
    case Op::kSilu:
    case Op::kSigmoid:
    case Op::kGelu: return true;
    case Op::kAdd: return graph.IsConstant(node.inputs[1]);
    default: return false;
  }
}

bool IsF32(const Graph& graph, ValueId id) { return graph[id].type.dtype == DType::kF32; }

// A constant [C] beside a result whose channels lie on `axis`: all other extents are 1.
bool RunsAlong(const Shape& constant, const Shape& result, int axis) {
  if (constant.num_elements() != result[axis] || result[axis] == 1) return false;
  const int from_end = result.rank() - axis;
  return constant.rank() >= from_end && constant[constant.rank() - from_end] == result[axis];
}

class Planner {
 public:
  Planner(const Graph& graph, const QuantizeSpec& spec) : graph_(graph), spec_(spec), uses_(graph) {}

  QuantizePlan Run() {
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      if (node.op != Op::kConv && node.op != Op::kMatmul) continue;
      if (const std::string why = AddSite(static_cast<NodeId>(n), node); !why.empty()) {
        plan_.floats.push_back(std::string(OpName(node.op)) + " '" + node.name + "': " + why);
      }
    }
    if (spec_.scheme != QuantizeScheme::kIntegers) return std::move(plan_);
    for (const QuantizeSite& site : plan_.sites) AddEdge(site.x);
    for (const Node& node : graph_.nodes) {
      if ((node.op == Op::kAvgPool || node.op == Op::kReduceMean) && IsBehindSite(node.inputs[0])) {
        AddEdge(node.inputs[0]);
      }
    }
    return std::move(plan_);
  }

 private:
  // Empty, or why the node stays in float.
  std::string AddSite(NodeId id, const Node& node) {
    QuantizeSite site{.node = id, .x = node.inputs[0], .weight = node.inputs[1]};
    const bool constant[2] = {graph_.IsConstant(site.x), graph_.IsConstant(site.weight)};
    if (!constant[0] && !constant[1]) return "both operands are computed";
    if (constant[0]) return "its first operand is constant";
    const Shape& shape = graph_[site.weight].type.shape;
    if (!IsF32(graph_, site.x) || !IsF32(graph_, site.weight))
      return internal::Join("computes in ", graph_[site.x].type.dtype);
    if (spec_.KeepsFloat(node.name, graph_[site.weight].name)) return "named in float=";
    if (node.epilogue) return "has an epilogue";
    if (shape.num_elements() == 0) return "has no elements";
    if (node.op == Op::kMatmul) {
      if (shape.rank() != 2) return internal::Join("its weight ", shape, " is no matrix");
      const bool transposed = node.attrs.Int("transpose_b", 0) != 0;
      site.channel_axis = transposed ? 0 : 1;
      site.sum_axis = transposed ? 1 : 0;
    } else {
      for (int d = 2; d < shape.rank(); ++d) site.spatial |= shape[d] > 1;
      site.spatial |= node.attrs.Int("groups", 1) > 1 && shape[1] == 1;
    }
    FindBias(node, site);
    plan_.sites.push_back(site);
    return "";
  }

  void FindBias(const Node& node, QuantizeSite& site) const {
    const ValueId out = node.outputs[0];
    if (!uses_.HasOneReader(out)) return;
    const NodeId reader = uses_.readers[Index(out)][0];
    const Node& add = graph_[reader];
    if (add.op != Op::kAdd || add.epilogue || add.inputs[0] == add.inputs[1]) return;
    const ValueId other = add.inputs[add.inputs[0] == out ? 1 : 0];
    if (!graph_.IsConstant(other) || graph_[add.outputs[0]].type != graph_[out].type) return;
    const Shape& result = graph_[out].type.shape;
    const bool channels_last = node.op == Op::kMatmul || node.attrs.String("layout", "nchw") == "nhwc";
    if (!RunsAlong(graph_[other].type.shape, result, channels_last ? result.rank() - 1 : 1)) return;
    site.bias_add = reader;
    site.bias = other;
  }

  void AddEdge(ValueId value) {
    if (root_of_.count(value) > 0) return;
    std::vector<ValueId> chain = {value};
    while (true) {
      const NodeId producer = uses_.producer[Index(chain.back())];
      if (producer == NodeId::kNone || !MovesElements(graph_[producer])) break;
      const ValueId operand = graph_[producer].inputs[0];
      if (!IsF32(graph_, operand) || graph_.IsConstant(operand)) break;
      chain.push_back(operand);
      if (root_of_.count(operand) > 0) break;
    }
    const auto known = root_of_.find(chain.back());
    const ValueId root = known == root_of_.end() ? chain.back() : known->second;
    // From the root on, as values are computed.
    for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
      if (root_of_.emplace(*it, root).second) plan_.edges.push_back({*it, root});
    }
  }

  // Does a quantised convolution compute it, but for bias and activation?
  bool IsBehindSite(ValueId value) const {
    for (int steps = 0; steps < 8; ++steps) {
      const NodeId producer = uses_.producer[Index(value)];
      if (producer == NodeId::kNone) return false;
      const auto is_it = [&](const QuantizeSite& site) { return site.node == producer; };
      if (std::any_of(plan_.sites.begin(), plan_.sites.end(), is_it)) return graph_[producer].op == Op::kConv;
      if (!IsActivation(graph_, graph_[producer])) return false;
      value = graph_[producer].inputs[0];
    }
    return false;
  }

  const Graph& graph_;
  const QuantizeSpec& spec_;
  const Uses uses_;
  QuantizePlan plan_;
  std::map<ValueId, ValueId> root_of_;
};

}  // namespace

QuantizePlan PlanQuantization(const Graph& graph, const QuantizeSpec& spec) { return Planner(graph, spec).Run(); }

}  // namespace tessera
