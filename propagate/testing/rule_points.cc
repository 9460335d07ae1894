#include "propagate/testing/rule_points.h"

#include <algorithm>
#include <functional>
#include <map>

namespace tessera {
namespace {

// A point of a clause: values of its variables, and of its lookups.
struct Point {
  std::vector<int64_t> variables;
  std::vector<int64_t> lookups;
};

// The element of an access, or -1 out of range. `extra` continues the variables.
int64_t ElementAt(const RuleAccess& access, const Point& point, std::span<const int64_t> extra = {}) {
  int64_t position = 0;
  for (int d = 0; d < access.view.rank(); ++d) {
    const RuleIndex& index = access.index[d];
    int64_t value = index.offset;
    for (const RuleIndex::Term& term : index.terms) {
      const size_t v = static_cast<size_t>(term.variable);
      value += term.coefficient * (v < point.variables.size() ? point.variables[v] : extra[v - point.variables.size()]);
    }
    if (index.lookup >= 0) {
      int64_t picked = point.lookups[index.lookup];
      if (picked < 0) picked += access.view[d];
      value += picked;
    }
    if (value < 0 || value >= access.view[d]) return -1;
    position = position * access.view[d] + value;
  }
  return position;
}

bool Equals(const Rule& rule, const ElementFacts& facts, int input, int64_t element, int value) {
  const std::optional<ScalarValue>& known = facts.inputs[input][element];
  if (!known) return false;
  return IsFloat(rule.inputs[input].dtype) ? known->f == value : known->i == value;
}

bool IsSatisfied(const Rule& rule, const Annihilator& a, const ElementFacts& facts, const Point& point) {
  bool all = true, some = false;
  ForEachIndex(Shape(a.extents), [&](const std::vector<int64_t>& extra) {
    const int64_t element = ElementAt(a.at, point, extra);
    const bool equal = element < 0 || Equals(rule, facts, a.input, element, a.value);
    all &= equal;
    some |= equal && element >= 0;
  });
  return a.any ? some : all;
}

// The extent of the dimension that lookup `number` indexes.
int64_t LookupExtent(const Clause& clause, int number) {
  int64_t extent = 0;
  const auto look = [&](const RuleAccess& access) {
    for (int d = 0; d < access.view.rank(); ++d) {
      if (access.index[d].lookup == number) extent = std::max(extent, access.view[d]);
    }
  };
  look(clause.in);
  for (const Annihilator& annihilator : clause.unless) look(annihilator.at);
  return extent;
}

// Calls visit(out, in) for each point of the clause that no annihilator stops. A lookup of which nothing is known
// takes each index.
void ForEachPoint(const Rule& rule, const Clause& clause, const ElementFacts& facts,
                  const std::function<void(int64_t out, int64_t in)>& visit) {
  Point point;
  point.lookups.resize(clause.lookups.size());
  const std::function<void(size_t)> with_lookups = [&](size_t n) {
    if (n < clause.lookups.size()) {
      const Lookup& lookup = clause.lookups[n];
      const int64_t at = ElementAt(lookup.at, point);
      if (at < 0) return;
      if (facts.inputs[lookup.input][at]) {
        point.lookups[n] = facts.inputs[lookup.input][at]->i;
        with_lookups(n + 1);
        return;
      }
      for (int64_t index = 0; index < LookupExtent(clause, static_cast<int>(n)); ++index) {
        point.lookups[n] = index;
        with_lookups(n + 1);
      }
      return;
    }
    const int64_t out = ElementAt(clause.out, point), in = ElementAt(clause.in, point);
    if (out < 0 || in < 0) return;
    for (const Annihilator& annihilator : clause.unless) {
      if (IsSatisfied(rule, annihilator, facts, point)) return;
    }
    visit(out, in);
  };
  ForEachIndex(Shape(clause.extents), [&](const std::vector<int64_t>& at) {
    for (const Link& link : clause.links) {
      const auto& runs = link.runs[static_cast<size_t>(at[link.from])];
      const bool meets = std::any_of(runs.begin(), runs.end(), [&](const auto& run) {
        return at[link.to] >= run.first && at[link.to] < run.second;
      });
      if (!meets) return;
    }
    point.variables = at;
    with_lookups(0);
  });
}

ElementSets SetsOf(std::span<const TensorType> types, uint8_t value) {
  ElementSets sets;
  for (const TensorType& type : types) sets.emplace_back(type.shape.num_elements(), value);
  return sets;
}

// A constant that no op treats as special.
ScalarValue PlainConstant(const TensorType& type, std::mt19937_64& rng, int64_t index_extent) {
  const auto draw = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); };
  if (IsFloat(type.dtype)) return {.f = std::uniform_real_distribution<double>(1.01, 2.99)(rng)};
  if (IsBool(type.dtype)) return {.i = 1};
  if (index_extent > 0) return {.i = draw(-index_extent, index_extent - 1)};
  return {.i = draw(2, 6)};
}

}  // namespace

std::vector<uint8_t> RandomSet(const Shape& shape, std::mt19937_64& rng) {
  const int64_t count = shape.num_elements();
  std::vector<uint8_t> set(count, 0);
  const auto chance = [&](double p) { return std::bernoulli_distribution(p)(rng); };
  const int form = std::uniform_int_distribution<int>(0, 3)(rng);
  const double share = std::uniform_real_distribution<double>(0.1, 0.9)(rng);
  if (form == 0 || shape.rank() == 0) {
    for (uint8_t& element : set) element = chance(share);
    return set;
  }
  if (form == 1) return std::vector<uint8_t>(count, chance(0.5));
  // Slices along one axis, or blocks along all.
  std::vector<std::vector<uint8_t>> along;
  const int axis = std::uniform_int_distribution<int>(0, shape.rank() - 1)(rng);
  for (int d = 0; d < shape.rank(); ++d) {
    along.emplace_back(shape[d], 1);
    if (form == 2 && d != axis) continue;
    for (uint8_t& index : along.back()) index = chance(share);
  }
  int64_t k = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& at) {
    bool in = true;
    for (int d = 0; d < shape.rank(); ++d) in &= along[d][at[d]] != 0;
    set[k++] = in;
  });
  return set;
}

ElementFacts RandomFacts(std::span<const TensorType> inputs, std::mt19937_64& rng, int64_t index_extent) {
  ElementFacts facts;
  for (const TensorType& type : inputs) {
    std::vector<std::optional<ScalarValue>> known(type.shape.num_elements());
    const std::vector<uint8_t> zero = RandomSet(type.shape, rng), constant = RandomSet(type.shape, rng);
    const bool zeros = std::bernoulli_distribution(0.8)(rng), constants = std::bernoulli_distribution(0.6)(rng);
    for (size_t k = 0; k < known.size(); ++k) {
      if (constants && constant[k]) known[k] = PlainConstant(type, rng, index_extent);
      if (zeros && zero[k]) known[k] = ScalarValue{};
    }
    facts.inputs.push_back(std::move(known));
  }
  return facts;
}

ElementSets ForwardByPoints(const Rule& rule, const ElementFacts& facts) {
  ElementSets known = SetsOf(rule.outputs, 1);
  for (const Clause& clause : rule.clauses) {
    ForEachPoint(rule, clause, facts, [&](int64_t out, int64_t in) {
      if (!facts.IsKnown(clause.input, in)) known[clause.output][out] = 0;
    });
  }
  return known;
}

ElementSets BackwardByPoints(const Rule& rule, const ElementFacts& facts, const ElementSets& live_outputs) {
  ElementSets live = SetsOf(rule.inputs, 0);
  for (const Clause& clause : rule.clauses) {
    ForEachPoint(rule, clause, facts, [&](int64_t out, int64_t in) {
      if (live_outputs[clause.output][out]) live[clause.input][in] = 1;
    });
  }
  return live;
}

std::set<std::array<int64_t, 4>> RelationOf(const Rule& rule) {
  std::set<std::array<int64_t, 4>> relation;
  ElementFacts nothing;
  for (const TensorType& type : rule.inputs) nothing.inputs.emplace_back(type.shape.num_elements());
  for (const Clause& clause : rule.clauses) {
    ForEachPoint(rule, clause, nothing,
                 [&](int64_t out, int64_t in) { relation.insert({clause.output, out, clause.input, in}); });
  }
  return relation;
}

std::string FirstDifference(const ElementSets& a, const ElementSets& b, const ElementSets& ignored) {
  for (size_t t = 0; t < a.size(); ++t) {
    for (size_t k = 0; k < a[t].size(); ++k) {
      if (a[t][k] == b[t][k] || (!ignored.empty() && ignored[t][k])) continue;
      return "tensor " + std::to_string(t) + ", element " + std::to_string(k) + ": " + std::to_string(a[t][k]) +
             " and " + std::to_string(b[t][k]);
    }
  }
  return "";
}

}  // namespace tessera
