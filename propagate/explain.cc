// Explain: walks from a pruned element back to masks and constants.
//
// A node's Rule is asked for the points that touch the element: each is stopped by an annihilator, or leads to an
// output that is dead, or comes from an operand that is known; these are the causes, and each is explained in turn.
// Elements about which the same is said are printed as one slice, and a slice is explained once.
#include <algorithm>
#include <charconv>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "graph/op_names.h"
#include "propagate/propagate.h"
#include "propagate/rule/apply.h"

namespace tessera {
namespace {

constexpr size_t kMaxLines = 24;
constexpr size_t kMaxSlices = 3;  // in a list
constexpr int64_t kMaxSliceCells = int64_t{1} << 22;
constexpr int64_t kMaxPoints = int64_t{1} << 16;  // of a rule that are walked for one element

std::string NumberText(double value) {
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
}

enum class Aspect { kKnown, kDead };

// A statement to explain: what is known of this element, or that it is dead.
struct Statement {
  ValueId value = ValueId::kNone;
  int64_t element = 0;
  Aspect aspect = Aspect::kDead;
};

std::vector<int64_t> IndexOf(const Shape& shape, int64_t element) {
  std::vector<int64_t> index(static_cast<size_t>(shape.rank()), 0);
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index[static_cast<size_t>(d)] = element % shape[d];
    element /= shape[d];
  }
  return index;
}

// Visits the points of a clause at which `fixed` is element `element`. Stops at kMaxPoints, or when `visit` says false.
class PointWalk {
 public:
  PointWalk(const Clause& clause, std::span<const Known* const> known) : clause_(clause), known_(known) {}

  // The element of an access at a point; nullopt out of range, or when a lookup is not known.
  std::optional<int64_t> ElementAt(const RuleAccess& access, std::span<const int64_t> point) const {
    int64_t element = 0;
    for (int d = 0; d < access.view.rank(); ++d) {
      const RuleIndex& index = access.index[static_cast<size_t>(d)];
      int64_t at = index.offset;
      for (const RuleIndex::Term& term : index.terms)
        at += term.coefficient * point[static_cast<size_t>(term.variable)];
      if (index.lookup >= 0) {
        const Lookup& lookup = clause_.lookups[static_cast<size_t>(index.lookup)];
        const std::optional<int64_t> source = ElementAt(lookup.at, point);
        const Known& known = *known_[static_cast<size_t>(lookup.input)];
        if (!source) return std::nullopt;
        const std::vector<int64_t> where = IndexOf(known.shape(), *source);
        if (known.at(where) == Certainty::kUnknown) return std::nullopt;
        const int64_t value = static_cast<int64_t>(known.ValueAt(where));
        at += value < 0 ? value + access.view[d] : value;
      }
      if (at < 0 || at >= access.view[d]) return std::nullopt;
      element = element * access.view[d] + at;
    }
    return element;
  }

  void Run(const RuleAccess& fixed, int64_t element, const std::function<bool(std::span<const int64_t>)>& visit) {
    std::vector<int64_t> point(clause_.extents.size(), -1);
    const std::vector<int64_t> index = IndexOf(fixed.view, element);
    for (size_t d = 0; d < index.size(); ++d) {
      const RuleIndex& by = fixed.index[d];
      if (by.lookup >= 0 || by.terms.size() != 1) continue;
      const auto [variable, coefficient] = by.terms[0];
      const int64_t rest = index[d] - by.offset;
      if (rest % coefficient != 0) return;
      const int64_t value = rest / coefficient;
      int64_t& slot = point[static_cast<size_t>(variable)];
      if (value < 0 || value >= clause_.extents[static_cast<size_t>(variable)] || (slot >= 0 && slot != value)) return;
      slot = value;
    }
    std::vector<size_t> free;
    for (size_t v = 0; v < point.size(); ++v) {
      if (clause_.extents[v] == 0) return;
      if (point[v] >= 0) continue;
      free.push_back(v);
      point[v] = 0;
    }
    for (int64_t count = 0; count < kMaxPoints; ++count) {
      const std::optional<int64_t> at = ElementAt(fixed, point);
      if (at && *at == element && Linked(point) && !visit(point)) return;
      size_t k = 0;
      for (; k < free.size(); ++k) {
        if (++point[free[k]] < clause_.extents[free[k]]) break;
        point[free[k]] = 0;
      }
      if (k == free.size()) return;
    }
  }

  // An element whose value stops the term at this point: nullopt when none does. -1: one that is out of range.
  std::optional<int64_t> StoppedBy(const Annihilator& stop, std::span<const int64_t> point) const {
    std::vector<int64_t> full(point.begin(), point.end());
    full.resize(point.size() + stop.extents.size(), 0);
    std::optional<int64_t> found;
    int64_t points = 1;
    for (int64_t extent : stop.extents) points *= extent;
    for (int64_t n = 0; n < points; ++n) {
      const std::optional<int64_t> element = ElementAt(stop.at, full);
      const bool equal = !element || Equals(*known_[static_cast<size_t>(stop.input)], *element, stop.value);
      if (equal && (!found || *found < 0)) found = element.value_or(-1);
      if (equal && stop.any) return found;
      if (!equal && !stop.any) return std::nullopt;
      for (size_t k = stop.extents.size(); k-- > 0;) {
        if (++full[point.size() + k] < stop.extents[k]) break;
        full[point.size() + k] = 0;
      }
    }
    return stop.any ? std::nullopt : found;
  }

 private:
  static bool Equals(const Known& known, int64_t element, int value) {
    const std::vector<int64_t> index = IndexOf(known.shape(), element);
    return known.at(index) != Certainty::kUnknown && known.ValueAt(index) == value;
  }

  bool Linked(std::span<const int64_t> point) const {
    return std::all_of(clause_.links.begin(), clause_.links.end(), [&](const Link& link) {
      const auto& runs = link.runs[static_cast<size_t>(point[static_cast<size_t>(link.from)])];
      const int64_t to = point[static_cast<size_t>(link.to)];
      return std::any_of(runs.begin(), runs.end(), [&](const auto& run) { return run.first <= to && to < run.second; });
    });
  }

  const Clause& clause_;
  std::span<const Known* const> known_;
};

class Explanation {
 public:
  Explanation(const Graph& graph, const Facts& facts, RuleBook& book)
      : graph_(graph), facts_(facts), book_(book), uses_(graph) {}

  std::string Of(ValueId value, int64_t element) {
    const Statement zero = {value, element, Aspect::kKnown}, dead = {value, element, Aspect::kDead};
    const Certainty certainty = known(value).at(IndexOf(known(value).shape(), element));
    const bool live = needed(value).at(IndexOf(known(value).shape(), element));
    if (certainty == Certainty::kZero) {
      Ask(zero);
    } else if (!live) {
      Ask(dead);
    } else if (certainty == Certainty::kConstant && graph_[value].kind == ValueKind::kComputed) {
      Ask(zero);
    }
    std::vector<std::string> lines;
    while (!asked_.empty() && lines.size() < kMaxLines) {
      const Statement next = asked_.front();
      asked_.pop_front();
      std::string line = next.aspect == Aspect::kDead ? WhyDead(next) : WhyKnown(next);
      if (!line.empty() && std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(std::move(line));
    }
    if (!asked_.empty()) lines.push_back("… and " + std::to_string(asked_.size()) + " more");
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
    return text;
  }

 private:
  const Known& known(ValueId id) const { return facts_.known[static_cast<size_t>(Index(id))]; }
  const Needed& needed(ValueId id) const { return facts_.needed[static_cast<size_t>(Index(id))]; }
  static std::string NodeText(const Node& node) { return std::string(OpName(node.op)) + " '" + node.name + "'"; }

  // "which is zero", "which is constant 3", "which is dead".
  std::string StateText(const Statement& s) const {
    if (s.aspect == Aspect::kDead) return "dead";
    const Known& fact = known(s.value);
    const std::vector<int64_t> index = IndexOf(fact.shape(), s.element);
    if (fact.at(index) == Certainty::kZero) return "zero";
    return "constant " + NumberText(fact.ValueAt(index));
  }

  // "%w2[5,*]": the element, with every axis along which the same holds of all indices as *.
  std::string SliceText(const Statement& s) const {
    constexpr uint8_t kConstant = static_cast<uint8_t>(Certainty::kConstant);
    const Shape& shape = graph_[s.value].type.shape;
    const std::vector<int64_t> index = IndexOf(shape, s.element);
    const Known& fact = known(s.value);
    const CellGrid& grid = s.aspect == Aspect::kDead ? static_cast<const CellGrid&>(needed(s.value).live) : fact.kind;
    const std::vector<int64_t> strides = grid.CellShape().Strides();
    const int64_t own = grid.CellOf(index);
    const auto same = [&](int64_t cell) {
      const size_t a = static_cast<size_t>(cell), b = static_cast<size_t>(own);
      if (s.aspect == Aspect::kDead) return needed(s.value).live.values[a] == 0;
      if (fact.kind.values[a] != fact.kind.values[b]) return false;
      // Elements of data differ, as a rule; nobody asks whether a whole row is the same.
      return fact.kind.values[b] != kConstant || (!fact.data && fact.values[a] == fact.values[b]);
    };
    std::vector<int64_t> cells = {own};  // of the slice so far
    std::string text = "%" + graph_[s.value].name;
    for (int d = 0; d < shape.rank(); ++d) {
      const Partition& axis = grid.axes[static_cast<size_t>(d)];
      const int64_t first = axis[index[static_cast<size_t>(d)]];
      std::vector<int64_t> wider;
      bool all = static_cast<int64_t>(cells.size()) * axis.num_classes() <= kMaxSliceCells;
      for (size_t c = 0; c < cells.size() && all; ++c) {
        for (int64_t k = 0; k < axis.num_classes() && all; ++k) {
          wider.push_back(cells[c] + (k - first) * strides[static_cast<size_t>(d)]);
          all = same(wider.back());
        }
      }
      text += d == 0 ? "[" : ",";
      text += all ? "*" : std::to_string(index[static_cast<size_t>(d)]);
      if (all) cells = std::move(wider);
    }
    return text + (shape.rank() > 0 ? "]" : "");
  }

  // Puts a statement on the list, once for each slice; its slice.
  std::string Ask(const Statement& s) {
    std::string slice = SliceText(s);
    if (seen_.insert({slice, s.aspect}).second) asked_.push_back(s);
    return slice;
  }

  // "%a[1,*] and %b[2], which are zero, and %c[3], which is dead"; each is asked for.
  std::string ListText(const std::vector<Statement>& causes) {
    std::vector<std::pair<std::string, std::vector<std::string>>> by_state;
    for (const Statement& cause : causes) {
      std::string state = StateText(cause);
      auto group = std::find_if(by_state.begin(), by_state.end(), [&](const auto& g) { return g.first == state; });
      if (group == by_state.end()) group = by_state.insert(by_state.end(), {std::move(state), {}});
      const std::string slice = SliceText(cause);
      if (std::find(group->second.begin(), group->second.end(), slice) != group->second.end()) continue;
      if (group->second.size() < kMaxSlices) Ask(cause);
      group->second.push_back(slice);
    }
    std::string text;
    for (const auto& [state, slices] : by_state) {
      if (!text.empty()) text += ", and ";
      const size_t shown = std::min(slices.size(), kMaxSlices);
      for (size_t k = 0; k < shown; ++k) {
        text += (k == 0 ? "" : k + 1 == slices.size() ? " and " : ", ") + slices[k];
      }
      if (slices.size() > shown) text += " and " + std::to_string(slices.size() - shown) + " more";
      text += slices.size() == 1 ? ", which is " + state : ", which are " + state;
    }
    return text;
  }

  struct Touch {
    std::vector<Statement> stops;  // annihilators, or operands that are known
    std::vector<Statement> ends;   // outputs that are dead
    bool any_point = false;
  };

  // `causes` holds each slice once already, however many elements it has: comparing slices costs more than the element.
  static void AddCause(std::vector<Statement>& causes, const Statement& cause) {
    constexpr size_t kMaxCauses = 512;
    const auto equal = [&](const Statement& c) {
      return c.value == cause.value && c.element == cause.element && c.aspect == cause.aspect;
    };
    if (causes.size() < kMaxCauses && std::none_of(causes.begin(), causes.end(), equal)) causes.push_back(cause);
  }

  std::vector<const Known*> KnownOperands(const std::vector<ValueId>& operands) const {
    std::vector<const Known*> facts;
    for (ValueId id : operands) facts.push_back(id == ValueId::kNone ? nullptr : &known(id));
    return facts;
  }

  // True when an annihilator stops the point; it is added to `stops` unless it is out of range.
  static bool AddStop(const Clause& clause, const PointWalk& walk, std::span<const int64_t> point,
                      const std::vector<ValueId>& operands, std::vector<Statement>& stops) {
    for (const Annihilator& stop : clause.unless) {
      const std::optional<int64_t> by = walk.StoppedBy(stop, point);
      if (!by) continue;
      if (*by >= 0) AddCause(stops, {operands[static_cast<size_t>(stop.input)], *by, Aspect::kKnown});
      return true;
    }
    return false;
  }

  std::string WhyDead(const Statement& s) {
    std::string text;
    for (NodeId reader : uses_.readers[static_cast<size_t>(Index(s.value))]) {
      const Node& node = graph_[reader];
      StatusOr<const Transfer*> transfer = book_.For(graph_, node);
      if (!transfer.ok()) continue;
      const std::vector<ValueId> operands = Operands(node);
      const std::vector<const Known*> facts = KnownOperands(operands);
      const auto* by_rule = dynamic_cast<const RuleTransfer*>(*transfer);
      text += text.empty() ? "" : "; ";
      if (by_rule == nullptr) {
        text += NodeText(node) + ": " + AskTransfer(**transfer, node, operands, facts, s);
        continue;
      }
      Touch touch;
      for (const Clause& clause : by_rule->rule().clauses) {
        if (operands[static_cast<size_t>(clause.input)] != s.value) continue;
        PointWalk walk(clause, facts);
        walk.Run(clause.in, s.element, [&](std::span<const int64_t> point) {
          touch.any_point = true;
          if (AddStop(clause, walk, point, operands, touch.stops)) return true;
          const ValueId output = node.outputs[static_cast<size_t>(clause.output)];
          const std::optional<int64_t> element = walk.ElementAt(clause.out, point);
          if (element) AddCause(touch.ends, {output, *element, Aspect::kDead});
          return true;
        });
      }
      text += NodeText(node);
      if (touch.stops.empty() && touch.ends.empty()) {
        text += touch.any_point ? " reads it only beyond the borders" : " does not read it";
        continue;
      }
      text += " reads it only ";
      if (!touch.stops.empty()) text += "through " + ListText(touch.stops);
      if (!touch.ends.empty()) text += (touch.stops.empty() ? "for " : ", and for ") + ListText(touch.ends);
    }
    return SliceText(s) + " is dead: " + (text.empty() ? "nothing reads it" : text);
  }

  // What a transfer without a rule says.
  std::string AskTransfer(const Transfer& transfer, const Node& node, const std::vector<ValueId>& operands,
                          std::span<const Known* const> facts, const Statement& s) const {
    std::vector<const Needed*> outputs;
    for (ValueId id : node.outputs) outputs.push_back(&needed(id));
    for (size_t k = 0; k < operands.size(); ++k) {
      if (operands[k] != s.value) continue;
      std::string why = transfer.WhyDead(static_cast<int>(k), s.element, facts, outputs);
      if (!why.empty()) return why;
    }
    return transfer.ToString();
  }

  std::string WhyKnown(const Statement& s) {
    const Value& value = graph_[s.value];
    if (value.kind == ValueKind::kConstant) {
      if (known(s.value).at(IndexOf(value.type.shape, s.element)) != Certainty::kZero) return "";
      const bool declared = value.tesa && !value.tesa->kept(s.element);
      return SliceText(s) + " is zero: " + (declared ? "declared pruned" : "so it stands in the data");
    }
    const NodeId maker = uses_.producer[static_cast<size_t>(Index(s.value))];
    if (maker == NodeId::kNone) return "";
    const Node& node = graph_[maker];
    std::string text = SliceText(s) + " is " + StateText(s) + ": " + NodeText(node);
    StatusOr<const Transfer*> transfer = book_.For(graph_, node);
    const auto* by_rule = transfer.ok() ? dynamic_cast<const RuleTransfer*>(*transfer) : nullptr;
    if (by_rule == nullptr) return text + ", " + (transfer.ok() ? (*transfer)->ToString() : "whose rule is not known");
    const std::vector<ValueId> operands = Operands(node);
    const std::vector<const Known*> facts = KnownOperands(operands);
    std::vector<Statement> causes;
    for (const Clause& clause : by_rule->rule().clauses) {
      if (node.outputs[static_cast<size_t>(clause.output)] != s.value) continue;
      PointWalk walk(clause, facts);
      walk.Run(clause.out, s.element, [&](std::span<const int64_t> point) {
        if (AddStop(clause, walk, point, operands, causes)) return true;
        const std::optional<int64_t> element = walk.ElementAt(clause.in, point);
        if (element) AddCause(causes, {operands[static_cast<size_t>(clause.input)], *element, Aspect::kKnown});
        return true;
      });
    }
    return text + (causes.empty() ? " alone" : " of " + ListText(causes));
  }

  const Graph& graph_;
  const Facts& facts_;
  RuleBook& book_;
  const Uses uses_;
  std::deque<Statement> asked_;
  std::set<std::pair<std::string, Aspect>> seen_;
};

}  // namespace

std::string Explain(const Graph& graph, const Facts& facts, RuleBook& book, ValueId value, int64_t element) {
  const int64_t count = graph[value].type.shape.num_elements();
  return element < 0 || element >= count ? "" : Explanation(graph, facts, book).Of(value, element);
}

}  // namespace tessera
