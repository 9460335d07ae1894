#include "propagate/shrink/memory_need.h"

#include <algorithm>

#include "graph/op.h"

namespace tessera {
namespace {

// What is known of elements that are right in memory: zeros (and ones, of bool) where `needed`, nothing elsewhere.
Known KnownWhere(const Known& known, const Cells<uint8_t>& needed) {
  const auto code = [](Certainty c) { return static_cast<uint8_t>(c); };
  Cells<uint8_t> kind = Combine(known.EqualTo(0), needed, [&](uint8_t zero, uint8_t live) {
    return code(zero != 0 && live != 0 ? Certainty::kZero : Certainty::kUnknown);
  });
  if (!IsFloat(known.type.dtype)) {
    const Cells<uint8_t> ones = Combine(
        known.EqualTo(1), needed, [](uint8_t one, uint8_t live) -> uint8_t { return one != 0 && live != 0 ? 1 : 0; });
    kind = Combine(kind, ones, [&](uint8_t k, uint8_t one) { return one != 0 ? code(Certainty::kConstant) : k; });
  }
  Known result = Known::Unknown(known.type);
  result.values.assign(kind.values.size(), 0);
  for (size_t c = 0; c < kind.values.size(); ++c) {
    if (kind.values[c] == code(Certainty::kConstant)) result.values[c] = 1;
  }
  result.kind = std::move(kind);
  return result;
}

// May its result be infinite or NaN where its operands are finite?
bool MayOverflow(const Graph& graph, const Node& node) {
  switch (node.op) {
    case Op::kDiv:
    case Op::kMod:
    case Op::kPow:
    case Op::kLog:
    case Op::kSqrt:
    case Op::kReciprocal:
    case Op::kExp:
    case Op::kReduceProd:
    case Op::kReduceLogSumExp: return true;
    case Op::kCast:
      return IsFloat(graph[node.outputs[0]].type.dtype) && TypeInfo(graph[node.outputs[0]].type.dtype).bits < 32;
    case Op::kLayerNorm: return node.attrs.Float("epsilon", 0) <= 0;
    case Op::kBatchNorm: return node.attrs.Float("epsilon", 0) <= 0 || !graph.IsConstant(node.inputs[4]);
    default: return node.epilogue.has_value();
  }
}

// Does a zero of one operand excuse another operand only as long as that is not zero as well?
bool Divides(Op op) { return op == Op::kDiv || op == Op::kMod || op == Op::kPow; }

class Sweep {
 public:
  Sweep(const Graph& graph, const Facts& facts, RuleBook& book, const std::vector<bool>& wild)
      : graph_(graph), facts_(facts), book_(book), wild_(wild) {}

  StatusOr<std::vector<Needed>> Run() {
    for (const Value& value : graph_.values) needed_.push_back(Needed::Nothing(value.type.shape));
    for (ValueId id : graph_.outputs) At(id) = Needed::All(graph_[id].type.shape);
    for (size_t n = graph_.nodes.size(); n-- > 0;) RETURN_IF_ERROR(Visit(graph_.nodes[n]));
    return std::move(needed_);
  }

 private:
  Needed& At(ValueId id) { return needed_[static_cast<size_t>(Index(id))]; }
  bool Computed(ValueId id) const { return graph_[id].kind != ValueKind::kConstant; }

  Status Visit(const Node& node) {
    std::vector<const Needed*> outputs;
    bool any = false;
    for (ValueId id : node.outputs) {
      outputs.push_back(&At(id));
      any |= !At(id).none_live();
    }
    if (!any) return OkStatus();
    const std::vector<ValueId> operands = Operands(node);
    ASSIGN_OR_RETURN(const Transfer* transfer, book_.For(graph_, node));
    // Computed operands first: what excuses them must be right itself, and constants always are.
    std::vector<size_t> order;
    for (const bool computed : {true, false}) {
      for (size_t k = 0; k < operands.size(); ++k) {
        if (operands[k] != ValueId::kNone && Computed(operands[k]) == computed) order.push_back(k);
      }
    }
    std::vector<bool> done(operands.size(), false);
    for (size_t k : order) {
      const ValueId id = operands[k];
      done[k] = true;
      if (At(id).all_live()) continue;
      std::vector<Known> masked(operands.size());
      std::vector<const Known*> known(operands.size(), nullptr);
      const bool distrust = Computed(id) && (wild_[static_cast<size_t>(Index(id))] || Divides(node.op));
      for (size_t j = 0; j < operands.size(); ++j) {
        if (operands[j] == ValueId::kNone) continue;
        const Known& all = facts_.known[static_cast<size_t>(Index(operands[j]))];
        known[j] = &all;
        if (all.nothing_known()) continue;
        const bool own = j == k && Computed(id);
        if (distrust || own) {
          masked[j] = Known::Unknown(all.type);
        } else if (Computed(operands[j]) && done[j] && !At(operands[j]).all_live()) {
          masked[j] = KnownWhere(all, At(operands[j]).live);
        } else {
          continue;
        }
        // The values of integer constants still say where a gather reads.
        if (j != k && !Computed(operands[j]) && !IsFloat(all.type.dtype)) continue;
        known[j] = &masked[j];
      }
      ASSIGN_OR_RETURN(Needed needed, transfer->Backward(static_cast<int>(k), known, outputs));
      At(id) = Join(At(id), needed);
    }
    return OkStatus();
  }

  const Graph& graph_;
  const Facts& facts_;
  RuleBook& book_;
  const std::vector<bool>& wild_;
  std::vector<Needed> needed_;
};

}  // namespace

StatusOr<std::vector<Needed>> NeededInMemory(const Graph& graph, const Facts& facts, RuleBook& book) {
  std::vector<bool> wild(graph.values.size(), false);
  ASSIGN_OR_RETURN(std::vector<Needed> needed, Sweep(graph, facts, book, wild).Run());
  // Which dead elements may be infinite or NaN once other dead elements hold other values.
  bool found = false;
  for (const Node& node : graph.nodes) {
    bool touched = false, passed_on = false;
    for (ValueId id : Operands(node)) {
      if (id == ValueId::kNone) continue;
      touched |= !needed[static_cast<size_t>(Index(id))].all_live();
      passed_on |= wild[static_cast<size_t>(Index(id))];
    }
    for (ValueId id : node.outputs) {
      const size_t v = static_cast<size_t>(Index(id));
      wild[v] = !needed[v].all_live() && touched && (MayOverflow(graph, node) || passed_on);
      found |= wild[v];
    }
  }
  if (!found) return needed;
  return Sweep(graph, facts, book, wild).Run();
}

}  // namespace tessera
