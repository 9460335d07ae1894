#include "propagate/testing/element_walk.h"

#include <cmath>
#include <functional>

namespace tessera {
namespace {

constexpr uint8_t kUnknownKind = static_cast<uint8_t>(Certainty::kUnknown);

struct Expanded {
  std::vector<uint8_t> kinds;
  std::vector<double> values;
};

class ElementWalk {
 public:
  ElementWalk(const Rule& rule, std::span<const Known* const> inputs) {
    for (size_t k = 0; k < inputs.size(); ++k) {
      Expanded& all = expanded_.emplace_back();
      const int64_t count = rule.inputs[k].shape.num_elements();
      all.kinds.assign(count, kUnknownKind);
      all.values.assign(count, 0);
      absent_.push_back(inputs[k] == nullptr);
      if (inputs[k] == nullptr) continue;
      all.kinds = inputs[k]->kind.Elements();
      int64_t element = 0;
      ForEachIndex(rule.inputs[k].shape, [&](std::span<const int64_t> index) {
        if (all.kinds[element] != kUnknownKind) all.values[element] = inputs[k]->ValueAt(index);
        ++element;
      });
    }
  }

  const Expanded& input(int k) const { return expanded_[k]; }

  // visit(out element, in element) for each pair of a point that no annihilator stops.
  void Run(const Clause& clause, const std::function<void(int64_t, int64_t)>& visit) const {
    std::vector<int64_t> at(clause.extents.size(), 0);
    ForEachIndex(Shape(clause.extents), [&](const std::vector<int64_t>& values) {
      at = values;
      for (const Link& link : clause.links) {
        bool meets = false;
        for (const auto& [low, high] : link.runs[at[link.from]]) {
          meets = meets || (at[link.to] >= low && at[link.to] < high);
        }
        if (!meets) return;
      }
      for (const Lookup& lookup : clause.lookups) {
        if (Elements(clause, lookup.at, at).empty()) return;
      }
      const std::vector<int64_t> outs = Elements(clause, clause.out, at), ins = Elements(clause, clause.in, at);
      if (outs.empty() || ins.empty()) return;
      for (const Annihilator& unless : clause.unless) {
        if (Stops(clause, unless, at)) return;
      }
      for (const int64_t out : outs) {
        for (const int64_t in : ins) visit(out, in);
      }
    });
  }

 private:
  // The elements that an access may mean at a point; none when out of range.
  std::vector<int64_t> Elements(const Clause& clause, const RuleAccess& access, const std::vector<int64_t>& at) const {
    std::vector<int64_t> elements = {0};
    for (size_t d = 0; d < access.index.size(); ++d) {
      const RuleIndex& index = access.index[d];
      const int64_t extent = access.view[static_cast<int>(d)];
      std::vector<int64_t> where = {index.offset};
      for (const RuleIndex::Term& term : index.terms) where[0] += term.coefficient * at[term.variable];
      if (index.lookup >= 0) {
        const Lookup& lookup = clause.lookups[index.lookup];
        const std::vector<int64_t> looked = Elements(clause, lookup.at, at);
        if (looked.empty()) return {};
        const Expanded& table = expanded_[lookup.input];
        if (table.kinds[looked[0]] == kUnknownKind) {
          where.clear();
          for (int64_t i = 0; i < extent; ++i) where.push_back(i);
        } else {
          const int64_t value = static_cast<int64_t>(table.values[looked[0]]);
          where[0] += value < 0 ? value + extent : value;
        }
      }
      std::vector<int64_t> next;
      for (const int64_t element : elements) {
        for (const int64_t i : where) {
          if (i >= 0 && i < extent) next.push_back(element * extent + i);
        }
      }
      elements = std::move(next);
    }
    return elements;
  }

  bool Stops(const Clause& clause, const Annihilator& unless, std::vector<int64_t> at) const {
    if (absent_[unless.input]) return false;  // an absent operand annihilates nothing
    const size_t n = at.size();
    at.resize(n + unless.extents.size());
    bool all = true, any = false;
    ForEachIndex(Shape(unless.extents), [&](const std::vector<int64_t>& own) {
      std::copy(own.begin(), own.end(), at.begin() + n);
      bool equal = true;  // an absent element is
      for (const int64_t element : Elements(clause, unless.at, at)) {
        const Expanded& facts = expanded_[unless.input];
        equal = equal && facts.kinds[element] != kUnknownKind && facts.values[element] == unless.value;
      }
      all = all && equal;
      any = any || equal;
    });
    return unless.any ? any : all;
  }

  std::vector<Expanded> expanded_;
  std::vector<bool> absent_;
};

}  // namespace

std::vector<uint8_t> ChangedElements(const Rule& rule, int output, std::span<const Known* const> inputs) {
  const ElementWalk walk(rule, inputs);
  std::vector<uint8_t> changed(rule.outputs[output].shape.num_elements(), 0);
  for (const Clause& clause : rule.clauses) {
    if (clause.output != output || inputs[clause.input] == nullptr) continue;
    walk.Run(clause, [&](int64_t out, int64_t in) {
      if (walk.input(clause.input).kinds[in] == kUnknownKind) changed[out] = 1;
    });
  }
  return changed;
}

std::vector<uint8_t> LiveElements(const Rule& rule, int input, std::span<const Known* const> inputs,
                                  std::span<const Needed* const> outputs) {
  const ElementWalk walk(rule, inputs);
  std::vector<uint8_t> live(rule.inputs[input].shape.num_elements(), 0);
  for (const Clause& clause : rule.clauses) {
    if (clause.input != input || outputs[clause.output] == nullptr) continue;
    const std::vector<uint8_t> needed = outputs[clause.output]->live.Elements();
    walk.Run(clause, [&](int64_t out, int64_t in) { live[in] |= needed[out]; });
  }
  return live;
}

StatusOr<std::vector<Known>> ForwardByElements(const Rule& rule, const ConstantValues& values,
                                               std::span<const Known* const> inputs) {
  std::vector<Known> outputs;
  for (int output = 0; output < static_cast<int>(rule.outputs.size()); ++output) {
    const TensorType& type = rule.outputs[output];
    const std::vector<uint8_t> changed = ChangedElements(rule, output, inputs);
    std::vector<uint8_t> kinds(changed.size(), kUnknownKind);
    std::vector<double> numbers(changed.size(), 0);
    for (size_t k = 0; k < changed.size(); ++k) {
      if (changed[k]) continue;
      const int64_t element = static_cast<int64_t>(k);
      ScalarValue value;
      RETURN_IF_ERROR(values.get()(inputs, output, {&element, 1}, {&value, 1}));
      numbers[k] = IsFloat(type.dtype) ? value.f : static_cast<double>(value.i);
      if (std::isnan(numbers[k])) continue;
      kinds[k] = static_cast<uint8_t>(numbers[k] == 0 ? Certainty::kZero : Certainty::kConstant);
    }
    outputs.push_back(Known::FromElements(type, kinds, numbers));
  }
  return outputs;
}

Needed BackwardByElements(const Rule& rule, int input, std::span<const Known* const> inputs,
                          std::span<const Needed* const> outputs) {
  return Needed::FromElements(rule.inputs[input].shape, LiveElements(rule, input, inputs, outputs));
}

}  // namespace tessera
