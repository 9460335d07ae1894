#include "propagate/shrink/shrink_plan.h"

#include <algorithm>

#include "graph/op.h"
#include "propagate/shrink/fold.h"
#include "propagate/shrink/rebuild.h"
#include "propagate/shrink/ties.h"

namespace tessera {
namespace {

// A computed value beyond this is not written out as a constant.
constexpr int64_t kMaxFoldedElements = int64_t{1} << 20;

// What is added in place of dropped indices is read at every inference: more numbers than kFewAdded cost about as much
// as kWorkOfAdded multiply-adds each. Three constant channels of 64 in a pruned MobileNet-V1, another number at every
// pixel of a border, would take a bias of 56x56x128 numbers and save 3 % of a layer: 27 us more, not 3 less.
constexpr int64_t kFewAdded = int64_t{1} << 16, kWorkOfAdded = 16;

double Work(const Compute& compute) {
  double work = 0;
  for (const Stage& stage : compute.stages) {
    work += static_cast<double>(stage.parallel_points()) * static_cast<double>(stage.reduced_points());
  }
  return work;
}

class Planner {
 public:
  Planner(const Graph& graph, const Facts& facts, const std::vector<Needed>& needed)
      : graph_(graph), facts_(facts), needed_(needed) {}

  StatusOr<ShrinkPlan> Run() {
    FindFolded();
    FindRemovable();
    plan_.kept.of.clear();
    for (const Value& value : graph_.values) plan_.kept.of.emplace_back(static_cast<size_t>(value.type.shape.rank()));
    if (!any_removable_) return std::move(plan_);
    frozen_.assign(graph_.nodes.size(), false);
    frozen_values_.assign(graph_.values.size(), false);
    // Every round freezes a node or a value more, or is the last.
    while (!Attempt()) continue;
    for (size_t n = 0; n < frozen_.size(); ++n) {
      if (frozen_[n]) plan_.frozen_nodes.push_back(n);
    }
    return std::move(plan_);
  }

 private:
  const Known& KnownOf(size_t v) const { return facts_.known[v]; }

  void FindFolded() {
    plan_.becomes.assign(graph_.values.size(), ShrinkPlan::Becomes::kItself);
    plan_.stays.assign(graph_.nodes.size(), true);
    std::vector<bool> is_output(graph_.values.size(), false), folded(graph_.values.size(), false);
    for (ValueId id : graph_.outputs) is_output[static_cast<size_t>(Index(id))] = true;
    for (size_t v = 0; v < folded.size(); ++v) {
      const Value& value = graph_.values[v];
      const int64_t count = value.type.shape.num_elements();
      if (value.kind != ValueKind::kComputed || is_output[v] || count == 0 || count > kMaxFoldedElements) continue;
      folded[v] = needed_[v].none_live() || KnownOf(v).all_known();
    }
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const std::vector<ValueId>& outputs = graph_.nodes[n].outputs;
      plan_.stays[n] = !std::all_of(outputs.begin(), outputs.end(),
                                    [&](ValueId id) { return folded[static_cast<size_t>(Index(id))]; });
      // A result stays beside one that does.
      for (ValueId id : outputs) {
        if (plan_.stays[n]) folded[static_cast<size_t>(Index(id))] = false;
      }
    }
    for (size_t v = 0; v < folded.size(); ++v) {
      if (folded[v]) plan_.becomes[v] = ShrinkPlan::Becomes::kNothing;
    }
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (!plan_.stays[n]) continue;
      for (ValueId id : Operands(graph_.nodes[n])) {
        if (id != ValueId::kNone && folded[static_cast<size_t>(Index(id))]) {
          plan_.becomes[static_cast<size_t>(Index(id))] = ShrinkPlan::Becomes::kConstant;
        }
      }
    }
  }

  // Slices of computed values all of whose elements are dead or known.
  void FindRemovable() {
    removable_.resize(graph_.values.size());
    for (size_t v = 0; v < removable_.size(); ++v) {
      const Value& value = graph_.values[v];
      if (value.kind == ValueKind::kConstant || plan_.becomes[v] != ShrinkPlan::Becomes::kItself) continue;
      const Shape& shape = value.type.shape;
      removable_[v].resize(static_cast<size_t>(shape.rank()));
      for (int d = 0; d < shape.rank(); ++d) {
        removable_[v][static_cast<size_t>(d)].assign(static_cast<size_t>(shape[d]), 0);
      }
      if (shape.num_elements() == 0) continue;
      if (needed_[v].all_live() && KnownOf(v).nothing_known()) continue;
      const Cells<uint8_t> stays = Combine(needed_[v].live, KnownOf(v).kind, [](uint8_t live, uint8_t kind) -> uint8_t {
        return live != 0 && kind == static_cast<uint8_t>(Certainty::kUnknown) ? 1 : 0;
      });
      std::vector<std::vector<uint8_t>> in_use;  // by axis and class
      for (const Partition& axis : stays.axes) in_use.emplace_back(static_cast<size_t>(axis.num_classes()), 0);
      size_t cell = 0;
      ForEachIndex(stays.CellShape(), [&](const std::vector<int64_t>& index) {
        if (stays.values[cell++] == 0) return;
        for (size_t d = 0; d < index.size(); ++d) in_use[d][static_cast<size_t>(index[d])] = 1;
      });
      for (size_t d = 0; d < in_use.size(); ++d) {
        for (int64_t i = 0; i < shape[static_cast<int>(d)]; ++i) {
          const bool free = in_use[d][static_cast<size_t>(stays.axes[d][i])] == 0;
          removable_[v][d][static_cast<size_t>(i)] = free;
          any_removable_ |= free;
        }
      }
    }
  }

  // The graph as it will be, as far as types go: folded values are constants without data.
  Graph Cut() const {
    Graph cut;
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const Value& value = graph_.values[v];
      const ValueId id = static_cast<ValueId>(v);
      const bool constant = value.kind == ValueKind::kConstant || plan_.becomes[v] != ShrinkPlan::Becomes::kItself;
      cut.values.push_back({.name = value.name,
                            .type = {value.type.dtype, plan_.kept.ShapeOf(id, value.type.shape)},
                            .kind = constant ? ValueKind::kConstant : value.kind});
    }
    return cut;
  }

  // Makes the plan with what is not frozen; false when something more had to be frozen.
  bool Attempt() {
    Ties ties(graph_, removable_);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (!plan_.stays[n]) continue;
      if (frozen_[n]) {
        ties.FreezeNode(graph_.nodes[n]);
      } else {
        ties.AddNode(graph_, graph_.nodes[n]);
      }
    }
    for (size_t v = 0; v < frozen_values_.size(); ++v) {
      if (frozen_values_[v]) ties.FreezeValue(static_cast<ValueId>(v));
    }
    plan_.kept = ties.Solve(graph_);
    plan_.attrs.clear();
    plan_.added.clear();
    bool ok = true;
    for (size_t v = 0; v < graph_.values.size(); ++v) {
      const std::optional<QuantParams>& quant = graph_.values[v].quant;
      if (!quant || SelectedQuant(*quant, plan_.kept.of[v])) continue;
      frozen_values_[v] = true;
      ok = false;
    }
    const Graph cut = Cut();
    std::map<size_t, Steps> summed;
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (!plan_.stays[n]) continue;
      const Node& node = graph_.nodes[n];
      const NodeLists lists = NodeLists::Of(node, plan_.kept);
      if (lists.AllKept()) continue;
      const std::optional<Steps> steps = Rebuild(cut, n, node, lists);
      if (!steps) {
        frozen_[n] = true;
        ok = false;
      } else if (steps->summed >= 0) {
        summed[n] = *steps;
      }
    }
    if (!ok) return false;
    for (const auto& [n, steps] : summed) {
      const Node& node = graph_.nodes[n];
      StatusOr<std::optional<Tensor>> part = DroppedPart(graph_, facts_, node, NodeLists::Of(node, plan_.kept), steps);
      if (!part.ok() || (*part && !(CanAdd(node, (*part)->dtype()) && WorthAdding(cut, n, **part)))) {
        frozen_[n] = true;
        ok = false;
      } else if (*part) {
        plan_.added[n] = **part;
      }
    }
    return ok;
  }

  // Numbers can be added; an epilogue must see them in the type in which it reads the result.
  static bool CanAdd(const Node& node, DType dtype) {
    return !IsBool(dtype) && (!node.epilogue || node.epilogue->body.input_type(0) == ComputeType(dtype));
  }

  bool WorthAdding(const Graph& cut, size_t n, const Tensor& part) const {
    if (part.num_elements() <= kFewAdded) return true;
    Node fitting = graph_.nodes[n];
    const double before = Work(NodeCompute(graph_, fitting));
    fitting.attrs = plan_.attrs.at(n);
    return before - Work(NodeCompute(cut, fitting)) >= static_cast<double>(kWorkOfAdded * part.num_elements());
  }

  // Fits node n to what is kept; nullopt when it would not compute the same.
  std::optional<Steps> Rebuild(const Graph& cut, size_t n, const Node& node, const NodeLists& lists) {
    std::optional<Attrs> attrs = FittingAttrs(graph_, node, lists);
    if (!attrs) return std::nullopt;
    Node fitting = node;
    fitting.attrs = *std::move(attrs);
    StatusOr<std::vector<TensorType>> types = InferTypes(cut, fitting);
    if (!types.ok() || types->size() != node.outputs.size()) return std::nullopt;
    for (size_t k = 0; k < types->size(); ++k) {
      const Shape& shape = cut[node.outputs[k]].type.shape;
      if ((*types)[k].shape != shape) return std::nullopt;
      if (!node.epilogue) continue;
      for (ValueId id : node.epilogue->inputs) {
        const std::optional<Shape> broadcast = BroadcastShapes(cut[id].type.shape, shape);
        if (!broadcast || *broadcast != shape) return std::nullopt;
      }
    }
    std::optional<Steps> steps = SameSteps(NodeCompute(graph_, node), NodeCompute(cut, fitting), lists);
    if (steps && steps->summed >= 0 && !SumsPlainly(GetOp(node.op).compute(MakeContext(graph_, node)))) {
      return std::nullopt;
    }
    if (steps) plan_.attrs[n] = std::move(fitting.attrs);
    return steps;
  }

  const Graph& graph_;
  const Facts& facts_;
  const std::vector<Needed>& needed_;
  ShrinkPlan plan_;
  Removable removable_;
  bool any_removable_ = false;
  std::vector<bool> frozen_, frozen_values_;
};

}  // namespace

StatusOr<ShrinkPlan> PlanShrink(const Graph& graph, const Facts& facts, const std::vector<Needed>& needed) {
  return Planner(graph, facts, needed).Run();
}

}  // namespace tessera
