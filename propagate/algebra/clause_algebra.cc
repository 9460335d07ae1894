#include "propagate/algebra/clause_algebra.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

namespace tessera {
namespace {

// a + factor * b, where at most one has a lookup.
RuleIndex Plus(const RuleIndex& a, const RuleIndex& b, int64_t factor) {
  RuleIndex sum;
  sum.offset = a.offset + factor * b.offset;
  sum.lookup = a.lookup >= 0 ? a.lookup : b.lookup;
  auto x = a.terms.begin();
  auto y = b.terms.begin();
  while (x != a.terms.end() || y != b.terms.end()) {
    RuleIndex::Term term;
    if (y == b.terms.end() || (x != a.terms.end() && x->variable < y->variable)) {
      term = *x++;
    } else if (x == a.terms.end() || y->variable < x->variable) {
      term = {y->variable, factor * y->coefficient};
      ++y;
    } else {
      term = {x->variable, x->coefficient + factor * y->coefficient};
      ++x, ++y;
    }
    if (term.coefficient != 0) sum.terms.push_back(term);
  }
  return sum;
}

// The index's one variable, times 1; -1 where it is not of that form.
int PlainVariable(const RuleIndex& index) {
  const bool plain = index.terms.size() == 1 && index.terms[0].coefficient == 1 && index.lookup < 0;
  return plain ? index.terms[0].variable : -1;
}

// ---- Implication ----

// Index `d` of `access` runs through the whole dimension, all by itself.
bool IsWild(const Annihilator& a, size_t d) {
  const int variable = PlainVariable(a.at.index[d]);
  if (variable < kExtra || a.at.index[d].offset != 0) return false;
  if (a.extents[variable - kExtra] < a.at.view[static_cast<int>(d)]) return false;
  for (size_t other = 0; other < a.at.index.size(); ++other) {
    if (other != d && Uses(a.at.index[other], variable)) return false;
  }
  return true;
}

// Does the set of elements of `large` contain that of `small`, by their form?
bool Contains(const Condition& large, const Condition& small) {
  const Annihilator &a = large.test, &b = small.test;
  if (a.at.view != b.at.view) return false;
  std::map<int, int> renamed;  // extra variables of large -> of small
  for (size_t d = 0; d < a.at.index.size(); ++d) {
    if (IsWild(a, d)) continue;
    const RuleIndex &x = a.at.index[d], &y = b.at.index[d];
    if (x.offset != y.offset || x.terms.size() != y.terms.size() || (x.lookup < 0) != (y.lookup < 0)) return false;
    if (x.lookup >= 0 && !(large.lookups[x.lookup] == small.lookups[y.lookup])) return false;
    for (size_t t = 0; t < x.terms.size(); ++t) {
      if (x.terms[t].coefficient != y.terms[t].coefficient) return false;
      const int v = x.terms[t].variable, w = y.terms[t].variable;
      if (v < kExtra || w < kExtra) {
        if (v != w) return false;
        continue;
      }
      const auto [at, is_new] = renamed.try_emplace(v, w);
      if (at->second != w || a.extents[v - kExtra] < b.extents[w - kExtra]) return false;
    }
  }
  return true;
}

// ---- Equations ----

// The variables of a joined clause under the equations that tie them.
struct Solver {
  std::vector<int64_t> extents;
  Substitution by;
  std::vector<RuleIndex> equations;  // each is 0
  std::vector<Link> links;
  std::vector<std::string>* widened;

  void Replace(int variable, const RuleIndex& value) {
    Substitution one;
    for (int v = 0; v < static_cast<int>(extents.size()); ++v) one.push_back(v == variable ? value : Variable(v));
    for (RuleIndex& index : by) index = Substituted(index, one);
    for (RuleIndex& equation : equations) equation = Substituted(equation, one);
  }

  // Uses equation `n` up. False: there is no point at all. `done` says whether it could be used.
  bool Use(size_t n, bool& done) {
    const RuleIndex e = equations[n];
    done = true;
    if (e.terms.empty()) {
      equations.erase(equations.begin() + static_cast<int64_t>(n));
      return e.offset == 0;
    }
    if (e.terms.size() == 1) {
      const auto [variable, coefficient] = e.terms[0];
      const int64_t value = -e.offset / coefficient;
      equations.erase(equations.begin() + static_cast<int64_t>(n));
      if (value * coefficient != -e.offset || value < 0 || value >= extents[variable]) return false;
      Replace(variable, RuleIndex{.offset = value, .terms = {}, .lookup = -1});
      return true;
    }
    // A variable that the others give, and that is then in range by itself; the inner clause's first.
    for (size_t t = e.terms.size(); t-- > 0;) {
      const auto [variable, coefficient] = e.terms[t];
      if (std::abs(coefficient) != 1) continue;
      RuleIndex rest = e;
      rest.terms.erase(rest.terms.begin() + static_cast<int64_t>(t));
      const RuleIndex value = Plus({}, rest, -coefficient);
      int64_t low, high;
      RangeOf(value, extents, {}, low, high);
      if (low < 0 || high >= extents[variable]) continue;
      equations.erase(equations.begin() + static_cast<int64_t>(n));
      Replace(variable, value);
      return true;
    }
    if (e.terms.size() == 2 && std::abs(e.terms[0].coefficient) == 1 && std::abs(e.terms[1].coefficient) == 1) {
      // v = sign * w + d, both of them shorter.
      const int v = e.terms[1].variable, w = e.terms[0].variable;
      const int64_t sign = -e.terms[0].coefficient * e.terms[1].coefficient, d = -e.offset * e.terms[1].coefficient;
      const int64_t begin = std::max<int64_t>(0, sign > 0 ? -d : d - extents[v] + 1);
      const int64_t end = std::min(extents[w], sign > 0 ? extents[v] - d : d + 1);
      equations.erase(equations.begin() + static_cast<int64_t>(n));
      if (begin >= end) return false;
      extents[w] = end - begin;
      Replace(v, Variable(w, sign, d));
      Replace(w, Variable(w, 1, begin));
      return true;
    }
    done = false;
    return true;
  }

  // What is left of equation `n` once nothing can be eliminated.
  void Keep(const RuleIndex& e) {
    if (e.terms.size() != 2) {
      if (widened) widened->push_back("an equation of several variables between two stages");
      return;
    }
    const auto [from, a] = e.terms[0];
    const auto [to, b] = e.terms[1];
    Link link = {.from = from, .to = to, .runs = {}};
    link.runs.resize(static_cast<size_t>(extents[from]));
    for (int64_t x = 0; x < extents[from]; ++x) {
      const int64_t rest = -(a * x + e.offset);
      if (rest % b == 0 && rest / b >= 0 && rest / b < extents[to]) link.runs[x] = {{rest / b, rest / b + 1}};
    }
    links.push_back(std::move(link));
  }

  bool Solve() {
    for (bool progress = true; progress;) {
      progress = false;
      for (size_t n = 0; n < equations.size(); ++n) {
        bool done;
        if (!Use(n, done)) return false;
        if (!done) continue;
        progress = true;
        break;
      }
    }
    for (const RuleIndex& equation : equations) Keep(equation);
    return true;
  }
};

// The equations of two accesses to one buffer. Where the views differ, the dimensions between two boundaries that both
// have are one number each.
void Equate(const RuleAccess& a, const RuleAccess& b, std::vector<RuleIndex>& equations,
            std::vector<std::string>* widened) {
  const auto number = [](const RuleAccess& access, int begin, int end) {
    RuleIndex flat;
    int64_t stride = 1;
    for (int d = end - 1; d >= begin; --d) {
      flat = Plus(flat, access.index[d], stride);
      stride *= access.view[d];
    }
    return flat;
  };
  int i = 0, j = 0;
  while (i < a.view.rank() || j < b.view.rank()) {
    const int a_begin = i, b_begin = j;
    int64_t x = i < a.view.rank() ? a.view[i++] : 1, y = j < b.view.rank() ? b.view[j++] : 1;
    while (x != y) {
      if (x < y) {
        x *= a.view[i++];
      } else {
        y *= b.view[j++];
      }
    }
    const RuleIndex left = number(a, a_begin, i), right = number(b, b_begin, j);
    if (left.lookup >= 0 || right.lookup >= 0) {
      if (widened) widened->push_back("a temporary read at an index that is looked up");
      continue;
    }
    equations.push_back(Plus(left, right, -1));
  }
}

// A link whose variables became others. False: it cannot be said any more.
bool Relink(Link& link, const Substitution& by, std::span<const int64_t> extents) {
  const RuleIndex &from = by[link.from], &to = by[link.to];
  const int f = PlainVariable(from), t = PlainVariable(to);
  if (f < 0 || t < 0) return false;
  Link result = {.from = f, .to = t, .runs = {}};
  result.runs.resize(static_cast<size_t>(extents[f]));
  for (int64_t x = 0; x < extents[f]; ++x) {
    for (auto [begin, end] : link.runs[static_cast<size_t>(x + from.offset)]) {
      begin = std::max<int64_t>(0, begin - to.offset);
      end = std::min(extents[t], end - to.offset);
      if (begin < end) result.runs[static_cast<size_t>(x)].push_back({begin, end});
    }
  }
  link = std::move(result);
  return true;
}

// Everything of `clause` but its variables, under `by`.
void Apply(Clause& clause, const Substitution& by, std::span<const int64_t> extents,
           std::vector<std::string>* widened) {
  clause.out = Substituted(std::move(clause.out), by);
  clause.in = Substituted(std::move(clause.in), by);
  for (Annihilator& annihilator : clause.unless) annihilator = Substituted(std::move(annihilator), by);
  for (Lookup& lookup : clause.lookups) lookup.at = Substituted(std::move(lookup.at), by);
  std::vector<Link> links;
  for (Link& link : clause.links) {
    if (Relink(link, by, extents)) {
      links.push_back(std::move(link));
    } else if (widened) {
      widened->push_back("a table between two stages");
    }
  }
  clause.links = std::move(links);
}

}  // namespace

RuleIndex Substituted(const RuleIndex& index, const Substitution& by) {
  RuleIndex result;
  result.offset = index.offset;
  result.lookup = index.lookup;
  for (const RuleIndex::Term& term : index.terms) {
    const bool extra = term.variable >= kExtra;
    result = Plus(result, extra ? Variable(term.variable) : by[term.variable], term.coefficient);
  }
  return result;
}

RuleAccess Substituted(RuleAccess access, const Substitution& by) {
  for (RuleIndex& index : access.index) index = Substituted(index, by);
  return access;
}

Annihilator Substituted(Annihilator annihilator, const Substitution& by) {
  annihilator.at = Substituted(std::move(annihilator.at), by);
  return annihilator;
}

void RangeOf(const RuleIndex& index, std::span<const int64_t> extents, std::span<const int64_t> extra, int64_t& low,
             int64_t& high) {
  low = high = index.offset;
  for (const RuleIndex::Term& term : index.terms) {
    const int64_t extent = term.variable >= kExtra ? extra[term.variable - kExtra] : extents[term.variable];
    const int64_t reach = term.coefficient * (extent - 1);
    (reach < 0 ? low : high) += reach;
  }
}

bool Uses(const RuleIndex& index, int variable) {
  return std::any_of(index.terms.begin(), index.terms.end(),
                     [&](const RuleIndex::Term& term) { return term.variable == variable; });
}

bool Uses(const RuleAccess& access, int variable) {
  return std::any_of(access.index.begin(), access.index.end(),
                     [&](const RuleIndex& index) { return Uses(index, variable); });
}

bool Implies(const Condition& a, const Condition& b) {
  if (a.test.input != b.test.input || a.test.value != b.test.value) return false;
  const bool a_any = a.test.any && !a.test.extents.empty(), b_any = b.test.any && !b.test.extents.empty();
  if (a_any) return b_any && Contains(b, a);
  if (!b_any) return Contains(a, b);
  // All of a's, if that is one element, is among b's.
  return a.test.extents.empty() && Contains(b, a);
}

void AddUnless(Clause& clause, const Condition& condition) {
  Annihilator annihilator = condition.test;
  for (RuleIndex& index : annihilator.at.index) {
    if (index.lookup < 0) continue;
    const Lookup& lookup = condition.lookups[index.lookup];
    auto at = std::find(clause.lookups.begin(), clause.lookups.end(), lookup);
    if (at == clause.lookups.end()) at = clause.lookups.insert(at, lookup);
    index.lookup = static_cast<int>(at - clause.lookups.begin());
  }
  if (std::find(clause.unless.begin(), clause.unless.end(), annihilator) == clause.unless.end()) {
    clause.unless.push_back(std::move(annihilator));
  }
}

std::optional<Clause> Join(const Clause& outer, const Clause& inner, std::vector<std::string>* widened) {
  const int shift = static_cast<int>(outer.extents.size());
  Solver solver = {.extents = outer.extents, .by = {}, .equations = {}, .links = {}, .widened = widened};
  solver.extents.insert(solver.extents.end(), inner.extents.begin(), inner.extents.end());
  Substitution shifted;
  for (size_t v = 0; v < inner.extents.size(); ++v) shifted.push_back(Variable(shift + static_cast<int>(v)));
  for (int v = 0; v < static_cast<int>(solver.extents.size()); ++v) solver.by.push_back(Variable(v));
  Equate(outer.in, Substituted(inner.out, shifted), solver.equations, widened);
  if (!solver.Solve()) return std::nullopt;

  // The inner clause in the joint variables, its lookups behind the outer's.
  Clause second = inner;
  for (Link& link : second.links) link.from += shift, link.to += shift;
  second.in = Substituted(std::move(second.in), shifted);
  for (Annihilator& annihilator : second.unless) annihilator = Substituted(std::move(annihilator), shifted);
  for (Lookup& lookup : second.lookups) lookup.at = Substituted(std::move(lookup.at), shifted);
  const auto renumber = [&](RuleAccess& access) {
    for (RuleIndex& index : access.index) {
      if (index.lookup >= 0) index.lookup += static_cast<int>(outer.lookups.size());
    }
  };
  renumber(second.in);
  for (Annihilator& annihilator : second.unless) renumber(annihilator.at);

  Clause joint = outer;
  joint.input = second.input;
  joint.in = std::move(second.in);
  joint.unless.insert(joint.unless.end(), second.unless.begin(), second.unless.end());
  joint.lookups.insert(joint.lookups.end(), second.lookups.begin(), second.lookups.end());
  joint.links.insert(joint.links.end(), second.links.begin(), second.links.end());
  // Links of the clauses are over the variables as they were, those of the solver over what is left.
  Apply(joint, solver.by, solver.extents, widened);
  joint.links.insert(joint.links.end(), solver.links.begin(), solver.links.end());
  joint.extents = solver.extents;
  return joint;
}

void Tidy(Clause& clause) {
  const int count = static_cast<int>(clause.extents.size());
  // A looked-up element's variables count as used by all that looks up.
  std::vector<bool> kept(count, false);
  for (int v = 0; v < count; ++v) {
    kept[v] = Uses(clause.out, v) || Uses(clause.in, v);
    for (const Lookup& lookup : clause.lookups) kept[v] = kept[v] || Uses(lookup.at, v);
    for (const Link& link : clause.links) kept[v] = kept[v] || link.from == v || link.to == v;
    if (kept[v]) continue;
    std::vector<Annihilator*> users;
    for (Annihilator& annihilator : clause.unless) {
      if (Uses(annihilator.at, v)) users.push_back(&annihilator);
    }
    if (users.empty()) continue;
    if (users.size() > 1 || (users[0]->any && !users[0]->extents.empty())) {
      kept[v] = true;
      continue;
    }
    // Some point with v is not annihilated unless all are.
    Substitution by;
    for (int w = 0; w < count; ++w) by.push_back(Variable(w));
    by[v] = Variable(kExtra + static_cast<int>(users[0]->extents.size()));
    users[0]->extents.push_back(clause.extents[v]);
    users[0]->any = false;
    *users[0] = Substituted(std::move(*users[0]), by);
  }
  Substitution by;
  std::vector<int64_t> extents;
  for (int v = 0; v < count; ++v) {
    by.push_back(Variable(static_cast<int>(extents.size())));
    if (kept[v]) extents.push_back(clause.extents[v]);
  }
  for (Link& link : clause.links) {
    link.from = by[link.from].terms[0].variable;
    link.to = by[link.to].terms[0].variable;
  }
  clause.out = Substituted(std::move(clause.out), by);
  clause.in = Substituted(std::move(clause.in), by);
  for (Annihilator& annihilator : clause.unless) annihilator = Substituted(std::move(annihilator), by);
  for (Lookup& lookup : clause.lookups) lookup.at = Substituted(std::move(lookup.at), by);
  clause.extents = std::move(extents);
}

namespace {

Condition AsCondition(const Clause& clause, const Annihilator& annihilator) {
  return {.test = annihilator, .lookups = clause.lookups, .result = {}};
}

// Does clause `b` say all that `a` says: has it a point, not annihilated, for each such point of a?
bool Covers(const Clause& b, const Clause& a) {
  if (a.output != b.output || a.input != b.input || a.out.view != b.out.view || a.in.view != b.in.view) return false;
  // Variables of b as indices over those of a, as far as the accesses say.
  std::vector<std::optional<RuleIndex>> found(b.extents.size());
  const auto match = [&](const RuleAccess& x, const RuleAccess& y) {
    for (size_t d = 0; d < x.index.size(); ++d) {
      const int v = PlainVariable(x.index[d]);
      if (v < 0 || found[v] || y.index[d].lookup >= 0) continue;
      RuleIndex value = y.index[d];
      value.offset -= x.index[d].offset;
      int64_t low, high;
      RangeOf(value, a.extents, {}, low, high);
      if (low < 0 || high >= b.extents[v]) return false;
      found[v] = value;
    }
    return true;
  };
  if (!match(b.out, a.out) || !match(b.in, a.in)) return false;
  std::vector<int> open;
  for (size_t v = 0; v < found.size(); ++v) {
    if (!found[v]) open.push_back(static_cast<int>(v));
  }
  if (open.size() > 3) return false;
  // The rest may be any of a's variables of that extent.
  const std::function<bool(size_t)> holds = [&](size_t n) {
    if (n < open.size()) {
      for (size_t w = 0; w < a.extents.size(); ++w) {
        if (a.extents[w] > b.extents[open[n]]) continue;
        found[open[n]] = Variable(static_cast<int>(w));
        if (holds(n + 1)) return true;
      }
      found[open[n]] = std::nullopt;
      return false;
    }
    Substitution by;
    for (const std::optional<RuleIndex>& value : found) by.push_back(*value);
    Clause image = b;
    image.links.clear();
    Apply(image, by, a.extents, nullptr);
    if (!(image.out == a.out) || !(image.in == a.in) || !(image.lookups == a.lookups)) return false;
    for (const Link& link : b.links) {
      const int from = PlainVariable(by[link.from]), to = PlainVariable(by[link.to]);
      const bool same = std::any_of(a.links.begin(), a.links.end(), [&](const Link& other) {
        return other.from == from && other.to == to && other.runs == link.runs;
      });
      if (!same || by[link.from].offset != 0 || by[link.to].offset != 0) return false;
    }
    for (const Annihilator& annihilator : image.unless) {
      const bool implied = std::any_of(a.unless.begin(), a.unless.end(), [&](const Annihilator& other) {
        return Implies(AsCondition(image, annihilator), AsCondition(a, other));
      });
      if (!implied) return false;
    }
    return true;
  };
  return holds(0);
}

// Runs of both, ascending.
std::vector<std::pair<int64_t, int64_t>> Union(std::vector<std::pair<int64_t, int64_t>> a,
                                               const std::vector<std::pair<int64_t, int64_t>>& b) {
  a.insert(a.end(), b.begin(), b.end());
  std::sort(a.begin(), a.end());
  std::vector<std::pair<int64_t, int64_t>> joined;
  for (const auto& run : a) {
    if (!joined.empty() && run.first <= joined.back().second) {
      joined.back().second = std::max(joined.back().second, run.second);
    } else {
      joined.push_back(run);
    }
  }
  return joined;
}

// Takes b into a where they differ in the runs of one link at most.
bool MergeLinks(Clause& a, const Clause& b) {
  if (a.links.empty() || a.links.size() != b.links.size()) return false;
  int differs = -1;
  for (size_t n = 0; n < a.links.size(); ++n) {
    if (a.links[n].from != b.links[n].from || a.links[n].to != b.links[n].to) return false;
    if (a.links[n].runs == b.links[n].runs) continue;
    if (differs >= 0) return false;
    differs = static_cast<int>(n);
  }
  Clause with = b;
  with.links = a.links;
  if (!(with == a)) return false;
  if (differs < 0) return true;
  Link& link = a.links[differs];
  for (size_t x = 0; x < link.runs.size(); ++x) link.runs[x] = Union(link.runs[x], b.links[differs].runs[x]);
  return true;
}

}  // namespace

void Simplify(std::vector<Clause>& clauses) {
  std::vector<Clause> result;
  for (Clause& clause : clauses) {
    if (std::find(clause.extents.begin(), clause.extents.end(), 0) != clause.extents.end()) continue;
    Tidy(clause);
    const bool known = std::any_of(result.begin(), result.end(),
                                   [&](Clause& other) { return MergeLinks(other, clause) || Covers(other, clause); });
    if (known) continue;
    std::erase_if(result, [&](const Clause& other) { return Covers(clause, other); });
    result.push_back(std::move(clause));
  }
  clauses = std::move(result);
}

void Finish(Clause& clause) {
  const int count = static_cast<int>(clause.extents.size());
  for (Annihilator& annihilator : clause.unless) {
    for (RuleIndex& index : annihilator.at.index) {
      for (RuleIndex::Term& term : index.terms) {
        if (term.variable >= kExtra) term.variable += count - kExtra;
      }
    }
    // Not all of them need be in use.
    std::vector<int64_t> extents;
    for (size_t e = 0; e < annihilator.extents.size(); ++e) {
      const int variable = count + static_cast<int>(e);
      if (!Uses(annihilator.at, variable)) continue;
      for (RuleIndex& index : annihilator.at.index) {
        for (RuleIndex::Term& term : index.terms) {
          if (term.variable == variable) term.variable = count + static_cast<int>(extents.size());
        }
      }
      extents.push_back(annihilator.extents[e]);
    }
    annihilator.extents = std::move(extents);
    if (annihilator.extents.empty()) annihilator.any = false;
  }
}

}  // namespace tessera
