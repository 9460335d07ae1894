#include "propagate/shrink/shrink.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "graph/op.h"
#include "graph/verifier.h"
#include "propagate/shrink/memory_need.h"
#include "propagate/shrink/shrink_plan.h"

namespace tessera {
namespace {

// Every element that is not pruned by what the value declares.
int64_t KeptElements(const Value& value) {
  return value.tesa ? value.tesa->num_kept() : value.type.shape.num_elements();
}

// Of the constants that some node reads.
void CountConstants(const Graph& graph, int64_t& elements, int64_t& kept) {
  std::vector<bool> counted(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    for (ValueId id : Operands(node)) {
      if (!graph.IsConstant(id) || counted[static_cast<size_t>(Index(id))]) continue;
      counted[static_cast<size_t>(Index(id))] = true;
      elements += graph[id].type.shape.num_elements();
      kept += KeptElements(graph[id]);
    }
  }
}

// The value itself, wholly known; what is dead is 0.
Tensor TensorOf(const Known& known) {
  if (known.data) return *known.data;
  Tensor tensor(known.type.dtype, known.type.shape);
  const bool floats = IsFloat(known.type.dtype);
  int64_t k = 0;
  ForEachIndex(known.type.shape, [&](const std::vector<int64_t>& index) {
    const int64_t cell = known.kind.CellOf(index);
    if (known.kind.values[static_cast<size_t>(cell)] == static_cast<uint8_t>(Certainty::kConstant)) {
      const double value = known.values[static_cast<size_t>(cell)];
      if (floats) {
        tensor.Set(k, value);
      } else {
        tensor.SetInt(k, static_cast<int64_t>(value));
      }
    }
    ++k;
  });
  return tensor;
}

// Where zeros in place of dead elements can do no harm: nothing divides by them or takes their logarithm.
bool TakesZeros(const Node& node, size_t operand) {
  if (operand >= node.inputs.size()) return false;  // an epilogue may do anything
  switch (node.op) {
    case Op::kMatmul:
    case Op::kConv:
    case Op::kAttention:
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul: return true;
    case Op::kGather: return operand == 0;
    default: return false;
  }
}

class Shrinker {
 public:
  Shrinker(const Graph& graph, const Facts& facts, const std::vector<Needed>& needed, const ShrinkPlan& plan)
      : before_(graph), facts_(facts), needed_(needed), plan_(plan), graph_(graph) {}

  StatusOr<Graph> Run(ShrinkReport& report) {
    CountConstants(before_, report.elements_before, report.kept_before);
    for (size_t v = 0; v < before_.values.size(); ++v) CutValue(v, report);
    ZeroDead();
    std::vector<Node> nodes;
    for (size_t n = 0; n < before_.nodes.size(); ++n) {
      if (!plan_.stays[n]) continue;
      Node node = before_.nodes[n];
      if (const auto attrs = plan_.attrs.find(n); attrs != plan_.attrs.end()) {
        Describe(node, report);
        node.attrs = attrs->second;
      }
      const auto added = plan_.added.find(n);
      if (added == plan_.added.end()) {
        nodes.push_back(std::move(node));
        continue;
      }
      ++report.biases_added;
      const ValueId constant = Constant(node.name, added->second);
      if (node.epilogue) {
        AddInEpilogue(node, constant);
        nodes.push_back(std::move(node));
      } else {
        AddBehind(std::move(node), constant, nodes);
      }
    }
    const size_t nodes_before = before_.nodes.size();
    graph_.nodes = std::move(nodes);
    MergeBiases();
    RemoveDeadNodes(graph_);
    report.nodes_removed += static_cast<int64_t>(nodes_before) - static_cast<int64_t>(graph_.nodes.size()) + num_adds_;
    CountConstants(graph_, report.elements_after, report.kept_after);
    return std::move(graph_);
  }

 private:
  void CutValue(size_t v, ShrinkReport& report) {
    Value& value = graph_.values[v];
    if (plan_.becomes[v] == ShrinkPlan::Becomes::kNothing) return;
    if (plan_.becomes[v] == ShrinkPlan::Becomes::kConstant) {
      value.constant = TensorOf(facts_.known[v]);
      value.kind = ValueKind::kConstant;
      value.tesa.reset();
      ++report.values_folded;
      report.lines.push_back("%" + value.name + " is known throughout (" + value.type.ToString() +
                             "): it became a constant");
    }
    const AxisLists& lists = plan_.kept.of[v];
    if (AllKept(lists)) return;
    for (size_t d = 0; d < lists.size(); ++d) {
      if (!lists[d]) continue;
      report.indices_removed += value.type.shape[static_cast<int>(d)] - static_cast<int64_t>(lists[d]->size());
    }
    value.type.shape = SelectedShape(value.type.shape, lists);
    if (value.kind == ValueKind::kConstant) value.constant = SelectedTensor(value.constant, lists);
    if (value.tesa) value.tesa = SelectedAttribute(*value.tesa, lists);
    if (value.quant) value.quant = SelectedQuant(*value.quant, lists);
  }

  // Dead elements of constants become zeros, and the attribute of the constant says what is pruned.
  void ZeroDead() {
    std::vector<uint8_t> harmless(before_.values.size(), 1);
    for (ValueId id : before_.outputs) harmless[static_cast<size_t>(Index(id))] = 0;
    for (size_t n = 0; n < before_.nodes.size(); ++n) {
      if (!plan_.stays[n]) continue;
      const std::vector<ValueId> operands = Operands(before_.nodes[n]);
      for (size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] == ValueId::kNone || TakesZeros(before_.nodes[n], k)) continue;
        harmless[static_cast<size_t>(Index(operands[k]))] = 0;
      }
    }
    for (size_t v = 0; v < before_.values.size(); ++v) {
      Value& value = graph_.values[v];
      if (value.kind != ValueKind::kConstant || !harmless[v] || needed_[v].all_live()) continue;
      if (plan_.becomes[v] == ShrinkPlan::Becomes::kNothing) continue;
      const std::vector<uint8_t> live = SelectedCells(needed_[v].live, plan_.kept.of[v]).Elements();
      std::vector<uint8_t> bits =
          value.tesa ? value.tesa->Bits()
                     : std::vector<uint8_t>(live.size(), static_cast<uint8_t>(TypeInfo(value.type.dtype).bits));
      Tensor data = value.constant;
      for (size_t i = 0; i < live.size(); ++i) {
        const int64_t k = static_cast<int64_t>(i);
        if (live[i] == 0) data.SetInt(k, 0);
        if (data.Get(k) == 0) bits[i] = 0;
      }
      // Pruned means +0 in the data.
      for (size_t i = 0; i < bits.size(); ++i) {
        if (bits[i] == 0) data.SetInt(static_cast<int64_t>(i), 0);
      }
      value.constant = std::move(data);
      value.tesa = Attribute::FromBits(value.type.shape, bits);
      if (value.tesa->keeps_all() && !before_.values[v].tesa) value.tesa.reset();
    }
  }

  ValueId Constant(const std::string& node_name, Tensor data) {
    const TensorType type = data.type();
    return graph_.AddValue({.name = Unique(node_name + "/folded"),
                            .type = type,
                            .kind = ValueKind::kConstant,
                            .constant = std::move(data)});
  }

  std::string Unique(const std::string& wanted) {
    if (names_.empty()) {
      for (const Value& value : graph_.values) names_.insert(value.name);
    }
    std::string name = wanted;
    for (int k = 2; !names_.insert(name).second; ++k) name = wanted + "_" + std::to_string(k);
    return name;
  }

  // body(result, ..) becomes body(result + constant, ..).
  void AddInEpilogue(Node& node, ValueId constant) {
    Epilogue& epilogue = *node.epilogue;
    BodyBuilder b;
    std::vector<Scalar> inputs;
    const DType type = graph_[constant].type.dtype;
    inputs.push_back(b.InputAt(0, type));
    for (size_t k = 0; k < epilogue.inputs.size(); ++k) {
      inputs.push_back(b.InputAt(static_cast<int>(k) + 1, graph_[epilogue.inputs[k]].type.dtype));
    }
    inputs[0] = inputs[0] + b.InputAt(static_cast<int>(epilogue.inputs.size()) + 1, type);
    if (!IsFloat(type)) inputs[0] = b.Cast(inputs[0], type);
    epilogue.body = b.Finish(b.Inline(epilogue.body, inputs));
    epilogue.inputs.push_back(constant);
  }

  // %y = op(..) becomes %y' = op(..); %y = add(%y', %constant).
  void AddBehind(Node node, ValueId constant, std::vector<Node>& nodes) {
    const ValueId result = node.outputs[0];
    const ValueId partial =
        graph_.AddValue({.name = Unique(graph_[result].name + "/live"), .type = graph_[result].type});
    Node add = {.op = Op::kAdd,
                .name = node.name + "/folded",
                .inputs = {partial, constant},
                .outputs = {result},
                .attrs = {},
                .epilogue = {}};
    node.outputs[0] = partial;
    nodes.push_back(std::move(node));
    nodes.push_back(std::move(add));
    ++num_adds_;
  }

  // add(add(x, folded), bias) becomes add(x, folded + bias), where nobody else reads the inner sum.
  void MergeBiases() {
    if (num_adds_ == 0) return;
    const Uses uses(graph_);
    for (Node& outer : graph_.nodes) {
      if (outer.op != Op::kAdd || outer.epilogue) continue;
      for (size_t k = 0; k < 2; ++k) {
        const ValueId sum = outer.inputs[k], bias = outer.inputs[1 - k];
        if (!graph_.IsConstant(bias) || !uses.HasOneReader(sum)) continue;
        const NodeId producer = uses.producer[static_cast<size_t>(Index(sum))];
        if (producer == NodeId::kNone || !graph_[producer].name.ends_with("/folded")) continue;
        const Node& inner = graph_[producer];
        if (inner.op != Op::kAdd || !graph_.IsConstant(inner.inputs[1])) continue;
        const Tensor &a = graph_[inner.inputs[1]].constant, &b = graph_[bias].constant;
        const std::optional<Shape> shape = BroadcastShapes(a.shape(), b.shape());
        if (!shape || shape->num_elements() > std::max(a.num_elements(), b.num_elements())) continue;
        const std::optional<Shape> with_sum = BroadcastShapes(*shape, graph_[sum].type.shape);
        if (!with_sum || *with_sum != graph_[outer.outputs[0]].type.shape) continue;
        const ValueId merged = Constant(outer.name, Sum(a, b, *shape));
        outer.inputs = {inner.inputs[0], merged};
        break;
      }
    }
  }

  static Tensor Sum(const Tensor& a, const Tensor& b, const Shape& shape) {
    Tensor sum(a.dtype(), shape);
    const auto position = [&](const Shape& of, const std::vector<int64_t>& index) {
      int64_t at = 0;
      for (int d = 0; d < of.rank(); ++d) {
        at = at * of[d] + (of[d] == 1 ? 0 : index[static_cast<size_t>(shape.rank() - of.rank() + d)]);
      }
      return at;
    };
    int64_t k = 0;
    ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
      const int64_t i = position(a.shape(), index), j = position(b.shape(), index);
      if (IsFloat(sum.dtype())) {
        sum.Set(k++, a.Get(i) + b.Get(j));
      } else {
        sum.SetInt(k++, static_cast<int64_t>(static_cast<uint64_t>(a.GetInt(i)) + static_cast<uint64_t>(b.GetInt(j))));
      }
    });
    return sum;
  }

  // Only where the work is; what stands between follows.
  void Describe(const Node& node, ShrinkReport& report) const {
    if (node.op != Op::kConv && node.op != Op::kMatmul && node.op != Op::kAttention) return;
    const ValueId id = node.outputs[0];
    const Shape &from = before_[id].type.shape, &to = graph_[id].type.shape;
    std::string what;
    for (int d = 0; d < from.rank(); ++d) {
      if (from[d] == to[d]) continue;
      const bool channels =
          node.op == Op::kConv && d == (node.attrs.String("layout", "nchw") == "nhwc" ? from.rank() - 1 : 1);
      const std::string axis = channels                                         ? "channels"
                               : node.op == Op::kMatmul && d == from.rank() - 1 ? "columns"
                                                                                : "axis " + std::to_string(d);
      what += (what.empty() ? "" : ", ") + axis + " " + std::to_string(from[d]) + " -> " + std::to_string(to[d]);
    }
    if (node.op == Op::kConv || node.op == Op::kMatmul) {
      const ValueId w = node.inputs[1];
      if (graph_.IsConstant(w) && graph_[w].type != before_[w].type) {
        what += (what.empty() ? "" : "; ") + std::string("weights ") + before_[w].type.shape.ToString() + " -> " +
                graph_[w].type.shape.ToString();
      }
    }
    if (!what.empty()) report.lines.push_back(std::string(Name(node.op)) + " '" + node.name + "': " + what);
  }

  const Graph& before_;
  const Facts& facts_;
  const std::vector<Needed>& needed_;
  const ShrinkPlan& plan_;
  Graph graph_;
  std::set<std::string> names_;
  int64_t num_adds_ = 0;
};

}  // namespace

StatusOr<ShrinkReport> Shrink(Graph& graph, const Facts& facts, RuleBook& book) {
  ASSIGN_OR_RETURN(const std::vector<Needed> needed, NeededInMemory(graph, facts, book));
  ASSIGN_OR_RETURN(const ShrinkPlan plan, PlanShrink(graph, facts, needed));
  ShrinkReport report;
  ASSIGN_OR_RETURN(Graph smaller, Shrinker(graph, facts, needed, plan).Run(report));
  for (size_t n : plan.frozen_nodes) {
    report.lines.push_back(std::string(Name(graph.nodes[n].op)) + " '" + graph.nodes[n].name + "': kept as it was");
  }
  // What is pruned was made zero above; soundness_test.cc reads the data again.
  RETURN_IF_ERROR(Verify(smaller, {.data = false}).WithContext("shrink"));
  graph = std::move(smaller);
  return report;
}

StatusOr<ShrinkReport> PropagateAndShrink(Graph& graph, RuleBook& book, const PropagateOptions& options) {
  ASSIGN_OR_RETURN(const Facts facts, Propagate(graph, book, options));
  ASSIGN_OR_RETURN(ShrinkReport report, Shrink(graph, facts, book));
  for (const Collapse& collapse : facts.collapsed) report.warnings.push_back(collapse.chain);
  return report;
}

}  // namespace tessera
