#include "propagate/rule/rule_cover.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace tessera {
namespace {

using Term = RuleIndex::Term;

bool IsPlain(const RuleIndex& index) {
  return index.lookup < 0 && index.offset == 0 && index.terms.size() == 1 && index.terms[0].coefficient == 1;
}

void SortTerms(RuleIndex& index) {
  std::sort(index.terms.begin(), index.terms.end(), [](auto& a, auto& b) { return a.variable < b.variable; });
}

}  // namespace

bool Covers(const Clause& big, const Clause& small) {
  if (big.output != small.output || big.input != small.input || !big.links.empty() || !big.lookups.empty() ||
      big.out.view != small.out.view || big.in.view != small.in.view) {
    return false;
  }
  std::vector<std::optional<RuleIndex>> by(big.extents.size());
  const auto range = [&](const RuleIndex& index) {
    std::pair<int64_t, int64_t> reach = {index.offset, index.offset};
    for (const Term& term : index.terms) {
      (term.coefficient > 0 ? reach.second : reach.first) += term.coefficient * (small.extents[term.variable] - 1);
    }
    return reach;
  };
  const auto unify = [&](const RuleAccess& b, const RuleAccess& s) {
    for (size_t d = 0; d < b.index.size(); ++d) {
      const RuleIndex& index = b.index[d];
      RuleIndex rest = s.index[d];  // what the unknown variable has to equal, times its coefficient
      const Term* unknown = nullptr;
      rest.offset -= index.offset;
      for (const Term& term : index.terms) {
        if (!by[term.variable]) {
          if (unknown != nullptr) return false;
          unknown = &term;
          continue;
        }
        const RuleIndex& known = *by[term.variable];
        if (known.lookup >= 0) {
          if (rest.lookup != known.lookup || term.coefficient != 1) return false;
          rest.lookup = -1;
        }
        rest.offset -= term.coefficient * known.offset;
        for (const Term& inner : known.terms) {
          const auto at = std::find_if(rest.terms.begin(), rest.terms.end(),
                                       [&](const Term& t) { return t.variable == inner.variable; });
          if (at == rest.terms.end()) {
            rest.terms.push_back({inner.variable, -term.coefficient * inner.coefficient});
          } else if ((at->coefficient -= term.coefficient * inner.coefficient) == 0) {
            rest.terms.erase(at);
          }
        }
      }
      SortTerms(rest);
      if (unknown == nullptr) {
        if (rest != RuleIndex{}) return false;
        continue;
      }
      const int64_t c = unknown->coefficient, extent = big.extents[unknown->variable];
      if (rest.lookup >= 0 && c != 1) return false;
      if (rest.offset % c != 0) return false;
      rest.offset /= c;
      for (Term& term : rest.terms) {
        if (term.coefficient % c != 0) return false;
        term.coefficient /= c;
      }
      // In range because the axis is, or because of what it is made of.
      const bool axis = IsPlain(index) && extent >= b.view[static_cast<int>(d)];
      if (!axis && (rest.lookup >= 0 || range(rest).first < 0 || range(rest).second >= extent)) return false;
      by[unknown->variable] = std::move(rest);
    }
    return true;
  };
  if (!unify(big.out, small.out) || !unify(big.in, small.in)) return false;
  const int own = static_cast<int>(big.extents.size());
  for (const Annihilator& unless : big.unless) {
    Annihilator moved = unless;
    for (RuleIndex& index : moved.at.index) {
      RuleIndex result{.offset = index.offset, .terms = {}, .lookup = index.lookup};
      std::map<int, int64_t> terms;
      for (const Term& term : index.terms) {
        if (term.variable >= own) {
          terms[term.variable - own + static_cast<int>(small.extents.size())] += term.coefficient;
          continue;
        }
        if (!by[term.variable]) return false;
        const RuleIndex& known = *by[term.variable];
        if (known.lookup >= 0) {
          if (result.lookup >= 0 || term.coefficient != 1) return false;
          result.lookup = known.lookup;
        }
        result.offset += term.coefficient * known.offset;
        for (const Term& inner : known.terms) terms[inner.variable] += term.coefficient * inner.coefficient;
      }
      for (const auto& [variable, coefficient] : terms) {
        if (coefficient != 0) result.terms.push_back({variable, coefficient});
      }
      index = std::move(result);
    }
    if (std::find(small.unless.begin(), small.unless.end(), moved) == small.unless.end()) return false;
  }
  return true;
}

}  // namespace tessera
