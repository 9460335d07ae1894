// WhyDead of RuleTransfer: which operand slices and which dead outputs stand between an element and everything live.
//
//   in1[5,*] = 0                           the one annihilator that stops all of its points
//   in1[5,*] = 0; out0[*,5] is dead        nothing alone: what it reaches is stopped here or dead there
//
// Variables that the element fixes are numbers, all others are `*`, so a line names whole slices. Tested by
// apply_test.cc.
#include <optional>

#include "propagate/rule/apply.h"
#include "propagate/rule/apply_known_clause.h"

namespace tessera {
namespace {

// The values of variables that `index` alone decides.
std::vector<std::optional<int64_t>> Decided(const Clause& clause, std::span<const int64_t> index) {
  std::vector<std::optional<int64_t>> values(clause.extents.size());
  for (size_t d = 0; d < clause.in.index.size(); ++d) {
    const RuleIndex& expression = clause.in.index[d];
    if (expression.terms.size() != 1 || expression.lookup >= 0) continue;
    values[expression.terms[0].variable] = (index[d] - expression.offset) / expression.terms[0].coefficient;
  }
  return values;
}

std::string SliceText(std::string name, const Shape& shape, const RuleAccess& access,
                      const std::vector<std::optional<int64_t>>& values) {
  if (access.view != shape) name += ":" + access.view.ToString();
  name += "[";
  for (size_t d = 0; d < access.index.size(); ++d) {
    const RuleIndex& index = access.index[d];
    std::optional<int64_t> at = index.offset;
    if (index.lookup >= 0) at.reset();
    for (const RuleIndex::Term& term : index.terms) {
      const bool decided = term.variable < static_cast<int>(values.size()) && values[term.variable].has_value();
      if (!decided) at.reset();
      if (at) *at += term.coefficient * *values[term.variable];
    }
    name += (d > 0 ? "," : "") + (at ? std::to_string(*at) : "*");
  }
  return name + "]";
}

}  // namespace

std::string RuleTransfer::WhyDead(int input, int64_t element, std::span<const Known* const> inputs,
                                  std::span<const Needed* const> outputs) const {
  if (!Check(inputs).ok()) return "";
  std::map<int, LookupValues> cache;
  std::vector<std::string> lines;
  const auto add = [&](const std::string& line) {
    for (const std::string& other : lines) {
      if (other == line) return;
    }
    lines.push_back(line);
  };
  for (const Clause& clause : rule_.clauses) {
    if (clause.input != input || outputs[clause.output] == nullptr) continue;
    // Is there a point that these annihilators leave, with a live output or with any?
    const auto reaches = [&](std::span<const Annihilator> stops, bool live_only) {
      KnownClause known(clause, inputs, cache, /*stops=*/false);
      for (const Annihilator& unless : stops) known.Stop(unless);
      known.walk().Fix(clause.in, element);
      if (live_only) known.walk().Need(clause.out, outputs[clause.output]->live, 1);
      const Cells<uint8_t> reached = known.walk().Reached(clause.out);
      return reached.Count(1) > 0;
    };
    if (reaches(clause.unless, true)) return "";
    if (!reaches({}, false)) continue;  // it stands at no point of this clause
    std::vector<int64_t> index(clause.in.view.rank());
    int64_t rest = element;
    for (int d = clause.in.view.rank() - 1; d >= 0; --d) {
      index[d] = rest % clause.in.view[d];
      rest /= clause.in.view[d];
    }
    const std::vector<std::optional<int64_t>> values = Decided(clause, index);
    const auto stop_text = [&](const Annihilator& unless) {
      return SliceText("in" + std::to_string(unless.input), rule_.inputs[unless.input].shape, unless.at, values) +
             " = " + std::to_string(unless.value);
    };
    const std::string dead =
        SliceText("out" + std::to_string(clause.output), rule_.outputs[clause.output].shape, clause.out, values) +
        " is dead";
    if (!reaches({}, true)) {
      add(dead);
      continue;
    }
    std::optional<std::string> alone;
    for (const bool live_only : {false, true}) {
      for (const Annihilator& unless : clause.unless) {
        if (alone || reaches({&unless, 1}, live_only)) continue;
        alone = stop_text(unless);
        if (live_only) add(*alone), alone = dead + " elsewhere";
      }
    }
    if (alone) {
      add(*alone);
      continue;
    }
    for (const Annihilator& unless : clause.unless) add(stop_text(unless) + " in part");
    if (reaches(clause.unless, false)) add(dead + " elsewhere");
  }
  if (lines.empty()) return "nothing reads it";
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
  return text;
}

}  // namespace tessera
