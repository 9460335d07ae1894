#include "propagate/propagate.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <string>
#include <utility>

#include "graph/op.h"
#include "propagate/ranges.h"
#include "tesa/cells.h"
#include "tesa/random.h"

namespace tessera {
namespace {

bool IsContraction(Op op) { return op == Op::kMatmul || op == Op::kConv; }

// Where a value is read: operand `operand` of node `node`.
struct Reading {
  int node;
  int operand;
};

class Propagation {
 public:
  Propagation(const Graph& graph, RuleBook& book, const PropagateOptions& options)
      : graph_(graph), book_(book), options_(options), random_(options.order_seed) {}

  StatusOr<Facts> Run() {
    RETURN_IF_ERROR(Prepare());
    while (!list_.empty()) {
      const int task = Take();
      ++facts_.visits;
      facts_.passes = std::max(facts_.passes, ++visits_[static_cast<size_t>(task)]);
      RETURN_IF_ERROR(task < num_nodes() ? Forward(task) : Backward(task - num_nodes()));
    }
    AddRanges(graph_, facts_.known);
    return std::move(facts_);
  }

 private:
  int num_nodes() const { return static_cast<int>(graph_.nodes.size()); }

  // Tasks: node n forward is n, value v backward is num_nodes() + v.
  Status Prepare() {
    const size_t num_values = graph_.values.size();
    for (const Value& value : graph_.values) {
      const bool constant = value.kind == ValueKind::kConstant;
      const Attribute* declared = value.tesa ? &*value.tesa : nullptr;
      if (!constant && declared != nullptr && !declared->keeps_all()) {
        return Error(ErrorCode::kTesaInvalid, "value '", value.name,
                     "': expected its declared mask to be a node before propagation; run the pass apply_masks first");
      }
      facts_.known.push_back(constant ? Known::OfConstant(value.constant, declared) : Known::Unknown(value.type));
      facts_.needed.push_back(Needed::All(value.type.shape));
    }
    producer_.assign(num_values, -1);
    readings_.resize(num_values);
    is_output_.assign(num_values, false);
    for (ValueId id : graph_.outputs) is_output_[static_cast<size_t>(Index(id))] = true;
    for (int n = 0; n < num_nodes(); ++n) {
      const Node& node = graph_.nodes[static_cast<size_t>(n)];
      ASSIGN_OR_RETURN(const Transfer* transfer, book_.For(graph_, node));
      transfers_.push_back(transfer);
      operands_.push_back(Operands(node));
      for (size_t k = 0; k < operands_.back().size(); ++k) {
        const ValueId id = operands_.back()[k];
        if (id != ValueId::kNone) readings_[static_cast<size_t>(Index(id))].push_back({n, static_cast<int>(k)});
      }
      for (ValueId id : node.outputs) producer_[static_cast<size_t>(Index(id))] = n;
    }
    // The order that needs each visit once: nodes forward, then values backward: what the last node makes first, and
    // what no node makes by its last reader.
    const int total = num_nodes() + static_cast<int>(num_values);
    rank_.resize(static_cast<size_t>(total));
    visits_.assign(static_cast<size_t>(total), 0);
    listed_.assign(static_cast<size_t>(total), false);
    for (int n = 0; n < num_nodes(); ++n) rank_[static_cast<size_t>(n)] = n;
    for (size_t v = 0; v < num_values; ++v) {
      int first_reader = num_nodes();
      for (const Reading& reading : readings_[v]) first_reader = std::min(first_reader, reading.node);
      rank_[static_cast<size_t>(num_nodes()) + v] = 2 * num_nodes() + 1 - first_reader;
    }
    for (int task = 0; task < total; ++task) Add(task);
    return OkStatus();
  }

  void Add(int task) {
    if (listed_[static_cast<size_t>(task)]) return;
    listed_[static_cast<size_t>(task)] = true;
    list_.push_back({rank_[static_cast<size_t>(task)], task});
    if (options_.order_seed == 0) std::push_heap(list_.begin(), list_.end(), std::greater<>());
  }

  int Take() {
    if (options_.order_seed != 0) {
      std::swap(list_.back(), list_[static_cast<size_t>(random_.Int(0, static_cast<int64_t>(list_.size()) - 1))]);
    } else {
      std::pop_heap(list_.begin(), list_.end(), std::greater<>());
    }
    const int task = list_.back().second;
    list_.pop_back();
    listed_[static_cast<size_t>(task)] = false;
    return task;
  }

  std::vector<const Known*> KnownOperands(int n) const {
    std::vector<const Known*> known;
    for (ValueId id : operands_[static_cast<size_t>(n)]) {
      known.push_back(id == ValueId::kNone ? nullptr : &facts_.known[static_cast<size_t>(Index(id))]);
    }
    return known;
  }

  Status WithNode(int n, Status status) const {
    const Node& node = graph_.nodes[static_cast<size_t>(n)];
    return status.WithContext("node '" + node.name + "' (" + std::string(Name(node.op)) + ")");
  }

  Status Forward(int n) {
    const Node& node = graph_.nodes[static_cast<size_t>(n)];
    StatusOr<std::vector<Known>> outputs = transfers_[static_cast<size_t>(n)]->Forward(KnownOperands(n));
    if (!outputs.ok()) return WithNode(n, outputs.status());
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      const size_t v = static_cast<size_t>(Index(node.outputs[k]));
      // The rule is monotone: from facts that grew it gives all that it gave before.
      if ((*outputs)[k] == facts_.known[v]) continue;
      facts_.known[v] = std::move((*outputs)[k]);
      for (const Reading& reading : readings_[v]) {
        Add(reading.node);
        // What is known of one operand bears on what is needed of the others, and of itself.
        for (ValueId id : operands_[static_cast<size_t>(reading.node)]) {
          if (id != ValueId::kNone) Add(num_nodes() + Index(id));
        }
      }
    }
    return OkStatus();
  }

  Status Backward(int value) {
    const size_t v = static_cast<size_t>(value);
    if (is_output_[v]) return OkStatus();  // live throughout
    Needed joined = Needed::Nothing(graph_.values[v].type.shape);
    for (const Reading& reading : readings_[v]) {
      const Node& node = graph_.nodes[static_cast<size_t>(reading.node)];
      std::vector<const Needed*> outputs;
      for (ValueId id : node.outputs) outputs.push_back(&facts_.needed[static_cast<size_t>(Index(id))]);
      StatusOr<Needed> needed = transfers_[static_cast<size_t>(reading.node)]->Backward(
          reading.operand, KnownOperands(reading.node), outputs);
      if (!needed.ok()) return WithNode(reading.node, needed.status());
      joined = readings_[v].size() == 1 ? *std::move(needed) : Join(joined, *needed);
      if (joined.all_live() && joined.bits == facts_.needed[v].bits) break;  // the others add nothing
    }
    if (joined == facts_.needed[v]) return OkStatus();
    facts_.needed[v] = std::move(joined);
    if (producer_[v] < 0) return OkStatus();
    for (ValueId id : operands_[static_cast<size_t>(producer_[v])]) {
      if (id != ValueId::kNone) Add(num_nodes() + Index(id));
    }
    return OkStatus();
  }

  const Graph& graph_;
  RuleBook& book_;
  const PropagateOptions& options_;
  Random random_;
  Facts facts_;
  std::vector<const Transfer*> transfers_;      // by node
  std::vector<std::vector<ValueId>> operands_;  // by node
  std::vector<int> producer_;                   // by value; -1: none
  std::vector<std::vector<Reading>> readings_;  // by value
  std::vector<bool> is_output_;                 // by value
  std::vector<int> rank_, visits_;              // by task
  std::vector<bool> listed_;                    // by task
  std::vector<std::pair<int, int>> list_;       // (rank, task): a heap, or in no order when shuffled
};

// Which values depend on an input of the graph.
std::vector<bool> Varying(const Graph& graph) {
  std::vector<bool> varying(graph.values.size(), false);
  for (ValueId id : graph.inputs) varying[static_cast<size_t>(Index(id))] = true;
  for (const Node& node : graph.nodes) {
    bool any = false;
    for (ValueId id : Operands(node)) any |= id != ValueId::kNone && varying[static_cast<size_t>(Index(id))];
    for (ValueId id : node.outputs) varying[static_cast<size_t>(Index(id))] = any;
  }
  return varying;
}

// Which values lead to an output of the graph, whatever they hold.
std::vector<bool> Leading(const Graph& graph) {
  std::vector<bool> leading(graph.values.size(), false);
  for (ValueId id : graph.outputs) leading[static_cast<size_t>(Index(id))] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    bool any = false;
    for (ValueId id : node->outputs) any |= leading[static_cast<size_t>(Index(id))];
    for (ValueId id : Operands(*node)) {
      if (any && id != ValueId::kNone) leading[static_cast<size_t>(Index(id))] = true;
    }
  }
  return leading;
}

// Outputs that became constant, then weights of which nothing is left, in the order of the nodes.
std::vector<ValueId> Collapsed(const Graph& graph, const Facts& facts) {
  std::vector<ValueId> collapsed;
  const std::vector<bool> varying = Varying(graph), leading = Leading(graph);
  const auto add = [&](ValueId id) {
    if (std::find(collapsed.begin(), collapsed.end(), id) == collapsed.end()) collapsed.push_back(id);
  };
  for (ValueId id : graph.outputs) {
    const size_t v = static_cast<size_t>(Index(id));
    if (varying[v] && graph[id].type.shape.num_elements() > 0 && facts.known[v].all_known()) add(id);
  }
  for (const Node& node : graph.nodes) {
    if (!IsContraction(node.op) || !leading[static_cast<size_t>(Index(node.outputs[0]))]) continue;
    for (size_t k = 0; k < 2; ++k) {
      const ValueId weight = node.inputs[k];
      if (!graph.IsConstant(weight) || !varying[static_cast<size_t>(Index(node.inputs[1 - k]))]) continue;
      const int64_t elements = graph[weight].type.shape.num_elements();
      if (elements > 0 && NumPruned(facts, weight) == elements) add(weight);
    }
  }
  return collapsed;
}

// The element that tells most about a collapsed weight: one that is dead though the mask keeps it, if there is any.
int64_t ElementToExplain(const Facts& facts, ValueId value) {
  const Known& known = facts.known[static_cast<size_t>(Index(value))];
  const std::vector<int64_t> firsts = known.kind.FirstElements();
  for (size_t c = 0; c < firsts.size(); ++c) {
    if (known.kind.values[c] != static_cast<uint8_t>(Certainty::kZero)) return firsts[c];
  }
  return 0;
}

}  // namespace

int64_t NumPruned(const Facts& facts, ValueId constant) {
  const Known& known = facts.known[static_cast<size_t>(Index(constant))];
  const Needed& needed = facts.needed[static_cast<size_t>(Index(constant))];
  constexpr uint8_t kZero = static_cast<uint8_t>(Certainty::kZero);
  if (needed.none_live()) return known.shape().num_elements();
  if (needed.all_live()) return known.CountOf(Certainty::kZero);
  // Over the cells that both refine to, without making them: a cell of each, and how many elements.
  struct Step {
    int64_t kind, live, size;
  };
  std::vector<std::vector<Step>> axes;
  const std::vector<int64_t> kind_strides = known.kind.CellShape().Strides();
  const std::vector<int64_t> live_strides = needed.live.CellShape().Strides();
  for (size_t d = 0; d < known.kind.axes.size(); ++d) {
    const Partition both = Refine(known.kind.axes[d], needed.live.axes[d]);
    const std::vector<int64_t> firsts = both.Firsts(), sizes = both.Sizes();
    std::vector<Step>& steps = axes.emplace_back();
    for (size_t k = 0; k < firsts.size(); ++k) {
      steps.push_back({known.kind.axes[d][firsts[k]] * kind_strides[d],
                       needed.live.axes[d][firsts[k]] * live_strides[d], sizes[k]});
    }
  }
  const uint8_t* kinds = known.kind.values.data();
  const uint8_t* lives = needed.live.values.data();
  const auto count = [&](const auto& self, size_t d, int64_t kind, int64_t live) -> int64_t {
    if (d == axes.size()) return kinds[kind] == kZero || lives[live] == 0 ? 1 : 0;
    int64_t sum = 0;
    if (d + 1 == axes.size()) {
      for (const Step& s : axes[d]) sum += kinds[kind + s.kind] == kZero || lives[live + s.live] == 0 ? s.size : 0;
      return sum;
    }
    for (const Step& s : axes[d]) sum += s.size * self(self, d + 1, kind + s.kind, live + s.live);
    return sum;
  };
  return count(count, 0, 0, 0);
}

int64_t Facts::byte_size() const {
  const auto grid_bytes = [](const CellGrid& grid) {
    int64_t bytes = grid.num_cells();
    for (const Partition& axis : grid.axes) {
      if (!axis.is_whole() && !axis.is_identity()) bytes += axis.extent() * static_cast<int64_t>(sizeof(int32_t));
    }
    return bytes;
  };
  int64_t bytes = 0;
  for (const Known& fact : known) bytes += grid_bytes(fact.kind) + static_cast<int64_t>(fact.values.size() * 8);
  for (const Needed& fact : needed) bytes += grid_bytes(fact.live);
  return bytes;
}

StatusOr<Facts> Propagate(const Graph& graph, RuleBook& book, const PropagateOptions& options) {
  ASSIGN_OR_RETURN(Facts facts, Propagation(graph, book, options).Run());
  constexpr size_t kExplained = 4;  // the rest of a collapse has the same causes
  std::string message;
  for (ValueId id : Collapsed(graph, facts)) {
    Collapse collapse = {.value = id};
    if (facts.collapsed.size() < kExplained) {
      collapse.chain = Explain(graph, facts, book, id, ElementToExplain(facts, id));
      message += graph.IsConstant(id) ? "\n  nothing is left of the weight '" : "\n  nothing is left of the output '";
      message += graph[id].name + "':";
      for (size_t from = 0; from < collapse.chain.size();) {
        const size_t end = std::min(collapse.chain.find('\n', from), collapse.chain.size());
        message += "\n    " + collapse.chain.substr(from, end - from);
        from = end + 1;
      }
    }
    facts.collapsed.push_back(std::move(collapse));
  }
  if (facts.collapsed.empty() || options.on_collapse == OnCollapse::kKeep) return facts;
  if (facts.collapsed.size() > kExplained) {
    message += "\n  and of " + std::to_string(facts.collapsed.size() - kExplained) + " more tensors";
  }
  return Error(ErrorCode::kNetworkCollapsed, "graph '", graph.name,
               "': expected the masks to leave something of each layer and output, found", message,
               "\n  Prune less there, or keep it as it is with --on_collapse=keep");
}

Attribute PrunedAttribute(const Graph& graph, const Facts& facts, ValueId value) {
  const Value& of = graph[value];
  const Known& known = facts.known[static_cast<size_t>(Index(value))];
  const Needed& needed = facts.needed[static_cast<size_t>(Index(value))];
  const bool constant = of.kind == ValueKind::kConstant;
  const int width = std::min(TypeInfo(of.type.dtype).bits, needed.bits);
  Cells<uint8_t> bits =
      of.tesa ? BitCells(*of.tesa) : Cells<uint8_t>::Uniform(of.type.shape, static_cast<uint8_t>(width));
  bits = Combine(bits, known.kind, [&](uint8_t b, uint8_t kind) {
    const bool gone = kind == static_cast<uint8_t>(Certainty::kZero) ||
                      (!constant && kind == static_cast<uint8_t>(Certainty::kConstant));
    return static_cast<uint8_t>(gone ? 0 : std::min<int>(b, width));
  });
  bits = Combine(bits, needed.live, [](uint8_t b, uint8_t live) { return static_cast<uint8_t>(live != 0 ? b : 0); });
  return AttributeOf(bits);
}

StatusOr<OnCollapse> ParseOnCollapse(std::string_view text) {
  if (text == "keep") return OnCollapse::kKeep;
  if (text == "error") return OnCollapse::kError;
  return Error(ErrorCode::kUsageInvalid, "expected on_collapse to be keep or error, found '", text, "'");
}

}  // namespace tessera
