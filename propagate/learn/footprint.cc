#include "propagate/learn/footprint.h"

#include <algorithm>

namespace tessera {
namespace {

int64_t AffineAt(const RuleIndex& index, const std::vector<int64_t>& values) {
  int64_t at = index.offset;
  for (const RuleIndex::Term& term : index.terms) at += term.coefficient * values[term.variable];
  return at;
}

// The row-major number of the element, or -1 outside.
int64_t ElementAt(const RuleAccess& access, const std::vector<int64_t>& values) {
  int64_t element = 0;
  for (size_t d = 0; d < access.index.size(); ++d) {
    const int64_t at = AffineAt(access.index[d], values), extent = access.view[static_cast<int>(d)];
    if (at < 0 || at >= extent) return -1;
    element = element * extent + at;
  }
  return element;
}

// Walks the points of one clause, the variables of the fixed side first, and turns back as soon as an index is settled
// and wrong.
class Walk {
 public:
  Walk(const Clause& clause, const Held& held, bool fix_input, int64_t element)
      : clause_(clause),
        held_(held),
        fixed_(fix_input ? clause.in : clause.out),
        other_(fix_input ? clause.out : clause.in),
        target_(CoordinatesOf(fixed_.view, element)),
        values_(clause.extents.size(), 0) {
    std::vector<uint8_t> taken(clause.extents.size(), 0);
    const auto take = [&](int variable) {
      if (!taken[variable]) order_.push_back(variable);
      taken[variable] = 1;
    };
    for (const RuleIndex& index : fixed_.index) {
      for (const RuleIndex::Term& term : index.terms) take(term.variable);
    }
    for (size_t v = 0; v < clause.extents.size(); ++v) take(static_cast<int>(v));
    std::vector<int> depth_of(order_.size());
    for (size_t n = 0; n < order_.size(); ++n) depth_of[order_[n]] = static_cast<int>(n) + 1;
    checks_.resize(order_.size() + 1);
    const auto settle = [&](const RuleAccess& access, bool fixed) {
      for (size_t d = 0; d < access.index.size(); ++d) {
        if (access.index[d].lookup >= 0) continue;  // at the leaf
        int depth = 0;
        for (const RuleIndex::Term& term : access.index[d].terms) depth = std::max(depth, depth_of[term.variable]);
        checks_[depth].push_back({static_cast<int>(d), fixed});
      }
    };
    settle(fixed_, true);
    settle(other_, false);
    for (const Link& link : clause.links) {
      links_.push_back({&link, std::max(depth_of[link.from], depth_of[link.to])});
    }
  }

  // visit(): values() and other() say where.
  template <typename F>
  void Run(const F& visit) {
    if (Holds(0)) Descend(0, visit);
  }
  const std::vector<int64_t>& values() const { return values_; }

 private:
  struct Check {
    int axis;
    bool fixed;
  };

  bool Holds(int depth) const {
    for (const Check& check : checks_[depth]) {
      const RuleAccess& access = check.fixed ? fixed_ : other_;
      const int64_t at = AffineAt(access.index[check.axis], values_);
      if (check.fixed ? at != target_[check.axis] : at < 0 || at >= access.view[check.axis]) return false;
    }
    for (const auto& [link, at_depth] : links_) {
      if (at_depth != depth) continue;
      const int64_t to = values_[link->to];
      const auto& runs = link->runs[values_[link->from]];
      if (std::none_of(runs.begin(), runs.end(), [&](auto run) { return to >= run.first && to < run.second; })) {
        return false;
      }
    }
    return true;
  }

  template <typename F>
  void Descend(int depth, const F& visit) {
    if (depth == static_cast<int>(order_.size())) return Leaf(visit);
    const int variable = order_[depth];
    int64_t low = 0, high = clause_.extents[variable];
    // An index of the fixed side that only lacks this variable says what it is.
    for (const Check& check : checks_[depth + 1]) {
      if (!check.fixed) continue;
      values_[variable] = 0;
      int64_t coefficient = 0;
      for (const RuleIndex::Term& term : fixed_.index[check.axis].terms) {
        if (term.variable == variable) coefficient += term.coefficient;
      }
      const int64_t rest = target_[check.axis] - AffineAt(fixed_.index[check.axis], values_);
      if (coefficient == 0) continue;
      if (rest % coefficient != 0) return;
      low = std::max(low, rest / coefficient);
      high = std::min(high, rest / coefficient + 1);
    }
    for (int64_t v = low; v < high; ++v) {
      values_[variable] = v;
      if (Holds(depth + 1)) Descend(depth + 1, visit);
    }
    values_[variable] = 0;
  }

  // The value that a lookup adds, or nothing when it is unknown.
  std::optional<int64_t> LookUp(int lookup, int64_t extent) const {
    const Lookup& l = clause_.lookups[lookup];
    const int64_t element = ElementAt(l.at, values_);
    if (element < 0 || !held_.Has(l.input, element)) return std::nullopt;
    const int64_t value = static_cast<int64_t>(held_.value[l.input][element]);
    return value < 0 ? value + extent : value;
  }

  template <typename F>
  void Leaf(const F& visit) {
    for (size_t d = 0; d < fixed_.index.size(); ++d) {
      if (fixed_.index[d].lookup < 0) continue;
      const std::optional<int64_t> value = LookUp(fixed_.index[d].lookup, fixed_.view[static_cast<int>(d)]);
      if (value && AffineAt(fixed_.index[d], values_) + *value != target_[d]) return;
    }
    std::vector<int64_t> elements = {0};
    for (size_t d = 0; d < other_.index.size(); ++d) {
      const int64_t extent = other_.view[static_cast<int>(d)], at = AffineAt(other_.index[d], values_);
      std::vector<int64_t> next;
      std::optional<int64_t> value = 0;
      if (other_.index[d].lookup >= 0) value = LookUp(other_.index[d].lookup, extent);
      for (int64_t element : elements) {
        if (value) {
          if (at + *value >= 0 && at + *value < extent) next.push_back(element * extent + at + *value);
        } else {
          for (int64_t any = 0; any < extent; ++any) next.push_back(element * extent + any);
        }
      }
      elements = std::move(next);
    }
    for (int64_t element : elements) visit(element);
  }

  const Clause& clause_;
  const Held& held_;
  const RuleAccess &fixed_, &other_;
  const std::vector<int64_t> target_;
  std::vector<int64_t> values_;
  std::vector<int> order_;
  std::vector<std::vector<Check>> checks_;  // [variables settled]
  std::vector<std::pair<const Link*, int>> links_;
};

}  // namespace

std::vector<int64_t> CoordinatesOf(const Shape& shape, int64_t element) {
  std::vector<int64_t> at(shape.rank());
  for (int d = shape.rank() - 1; d >= 0; --d) {
    at[d] = element % shape[d];
    element /= shape[d];
  }
  return at;
}

Footprint::Footprint(const Rule& rule, const Held& held) : rule_(rule), held_(held) {}

bool Footprint::Annihilated(const Annihilator& a, const std::vector<int64_t>& values) const {
  std::vector<int64_t> all = values;
  all.resize(values.size() + a.extents.size(), 0);
  bool every = true, any = false;
  ForEachIndex(Shape(a.extents), [&](const std::vector<int64_t>& extra) {
    std::copy(extra.begin(), extra.end(), all.begin() + static_cast<std::ptrdiff_t>(values.size()));
    const int64_t element = ElementAt(a.at, all);
    const bool equal =
        element < 0 || (held_.Has(a.input, element) && held_.value[a.input][element] == static_cast<double>(a.value));
    every &= equal;
    any |= equal;
  });
  return a.any ? any : every;
}

void Footprint::ForEachPoint(const Clause& clause, bool fix_input, int64_t element, const Visit& visit) const {
  Walk walk(clause, held_, fix_input, element);
  walk.Run([&](int64_t other) {
    for (const Annihilator& a : clause.unless) {
      if (Annihilated(a, walk.values())) return;
    }
    visit(walk.values(), other);
  });
}

std::vector<uint8_t> Footprint::Forward(int input, int64_t element) const {
  std::vector<int64_t> first = {0};
  for (const TensorType& type : rule_.outputs) first.push_back(first.back() + type.shape.num_elements());
  std::vector<uint8_t> moved(first.back(), 0);
  for (const Clause& clause : rule_.clauses) {
    if (clause.input != input) continue;
    ForEachPoint(clause, true, element,
                 [&](const std::vector<int64_t>&, int64_t other) { moved[first[clause.output] + other] = 1; });
  }
  return moved;
}

std::vector<uint8_t> Footprint::Backward(int output, int64_t element, int input) const {
  std::vector<uint8_t> moved(rule_.inputs[input].shape.num_elements(), 0);
  for (const Clause& clause : rule_.clauses) {
    if (clause.input != input || clause.output != output) continue;
    ForEachPoint(clause, false, element, [&](const std::vector<int64_t>&, int64_t other) { moved[other] = 1; });
  }
  return moved;
}

}  // namespace tessera
