// Canonical: the normal form of a Rule, in which rules from different sources compare.
//
//   out0[a+1,b] <- in0[a,3*c+d], d < 3      becomes     out0[a,b] <- in0:[n,3,…][a-1,c,d]
//
// Per clause: what can have no points goes; variables of one value go; a variable that stands alone on an axis is
// shifted and turned until it is the index there, the output's axes first; a sum that only splits an axis becomes a
// view; variables that stand side by side wherever they stand are one, split again as the output's, then the input's
// own axes are. Then clauses that others cover go and the rest is sorted. Every step keeps the points with their
// elements and annihilators. One file, because each step relies on what the one before it leaves. Tested by
// rule_test.cc, against the walk over elements by apply_test.cc.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "propagate/rule/rule.h"
#include "propagate/rule/rule_cover.h"

namespace tessera {
namespace {

using Term = RuleIndex::Term;

void SortTerms(RuleIndex& index) {
  std::sort(index.terms.begin(), index.terms.end(), [](auto& a, auto& b) { return a.variable < b.variable; });
}

bool IsPlain(const RuleIndex& index) {
  return index.lookup < 0 && index.offset == 0 && index.terms.size() == 1 && index.terms[0].coefficient == 1;
}

// `index` with each variable v replaced by the expression by[v].
RuleIndex Substitute(const RuleIndex& index, const std::vector<RuleIndex>& by) {
  RuleIndex result{.offset = index.offset, .terms = {}, .lookup = index.lookup};
  std::map<int, int64_t> terms;
  for (const Term& term : index.terms) {
    const RuleIndex& expression = by[term.variable];
    result.offset += term.coefficient * expression.offset;
    for (const Term& inner : expression.terms) terms[inner.variable] += term.coefficient * inner.coefficient;
  }
  for (const auto& [variable, coefficient] : terms) {
    if (coefficient != 0) result.terms.push_back({variable, coefficient});
  }
  return result;
}

// A clause while it is rewritten: one list of variables, an annihilator's own among them.
struct Flat {
  Clause clause;  // extents empty; annihilators' extents empty, their variables numbered in this list
  std::vector<int64_t> extents;
  std::vector<int> owner;  // -1: the clause; else the annihilator
  const Rule& rule;

  Flat(const Rule& rule, Clause source) : clause(std::move(source)), rule(rule) {
    extents = std::move(clause.extents);
    const int n = static_cast<int>(extents.size());
    owner.assign(n, -1);
    for (size_t k = 0; k < clause.unless.size(); ++k) {
      Annihilator& unless = clause.unless[k];
      const int first = static_cast<int>(extents.size());
      for (RuleIndex& index : unless.at.index) {
        for (Term& term : index.terms) term.variable += term.variable >= n ? first - n : 0;
      }
      extents.insert(extents.end(), unless.extents.begin(), unless.extents.end());
      owner.resize(extents.size(), static_cast<int>(k));
    }
  }

  int size() const { return static_cast<int>(extents.size()); }

  // Output, input, lookups, annihilators.
  std::vector<RuleAccess*> Accesses() {
    std::vector<RuleAccess*> all = Required();
    for (Annihilator& unless : clause.unless) all.push_back(&unless.at);
    return all;
  }
  // Those whose indices have to be in range for a point to exist.
  std::vector<RuleAccess*> Required() {
    std::vector<RuleAccess*> all = {&clause.out, &clause.in};
    for (Lookup& lookup : clause.lookups) all.push_back(&lookup.at);
    return all;
  }
  const Shape& ShapeOf(const RuleAccess* access) const {
    if (access == &clause.out) return rule.outputs[clause.output].shape;
    if (access == &clause.in) return rule.inputs[clause.input].shape;
    for (const Lookup& lookup : clause.lookups) {
      if (access == &lookup.at) return rule.inputs[lookup.input].shape;
    }
    for (const Annihilator& unless : clause.unless) {
      if (access == &unless.at) return rule.inputs[unless.input].shape;
    }
    __builtin_unreachable();
  }
  bool Linked(int variable) const {
    return std::any_of(clause.links.begin(), clause.links.end(),
                       [&](const Link& link) { return link.from == variable || link.to == variable; });
  }
  std::vector<RuleIndex> Identity() const {
    std::vector<RuleIndex> by;
    for (int v = 0; v < size(); ++v) by.push_back(Variable(v));
    return by;
  }
  void Apply(const std::vector<RuleIndex>& by) {
    for (RuleAccess* access : Accesses()) {
      for (RuleIndex& index : access->index) index = Substitute(index, by);
    }
  }
  void Replace(int variable, const RuleIndex& expression) {
    std::vector<RuleIndex> by = Identity();
    by[variable] = expression;
    Apply(by);
  }
};

// Variables of one value become that value.
void DropUnits(Flat& flat) {
  for (int v = 0; v < flat.size(); ++v) {
    if (flat.extents[v] == 1 && !flat.Linked(v)) flat.Replace(v, RuleIndex{});
  }
}

// A clause's variable that only one annihilator mentions: the term survives when one of its values survives, that is,
// it is the annihilator's own, all of whose elements have to be equal.
void OwnVariables(Flat& flat) {
  for (int v = 0; v < flat.size(); ++v) {
    if (flat.owner[v] >= 0 || flat.Linked(v)) continue;
    const auto uses = [&](const RuleAccess& access) {
      for (const RuleIndex& index : access.index) {
        for (const Term& term : index.terms) {
          if (term.variable == v) return true;
        }
      }
      return false;
    };
    const std::vector<RuleAccess*> required = flat.Required();
    if (std::any_of(required.begin(), required.end(), [&](RuleAccess* access) { return uses(*access); })) continue;
    int user = -1, users = 0;
    for (size_t k = 0; k < flat.clause.unless.size(); ++k) {
      if (uses(flat.clause.unless[k].at)) user = static_cast<int>(k), ++users;
    }
    if (users == 1 && !flat.clause.unless[user].any) flat.owner[v] = user;
  }
}

// Links go from the variable that appears first to the other, full ones go, two of one pair are joined.
void NormaliseLinks(Flat& flat) {
  std::vector<int> rank(flat.size(), flat.size());
  int next = 0;
  for (RuleAccess* access : flat.Required()) {
    for (const RuleIndex& index : access->index) {
      for (const Term& term : index.terms) {
        if (rank[term.variable] == flat.size()) rank[term.variable] = next++;
      }
    }
  }
  std::map<std::pair<int, int>, std::vector<std::vector<bool>>> meets;  // (from, to) -> [from][to]
  std::vector<Link> kept;
  for (Link& link : flat.clause.links) {
    if (flat.extents[link.from] * flat.extents[link.to] > int64_t{1} << 28) {  // too large to turn round; as it is
      kept.push_back(std::move(link));
      continue;
    }
    const bool turn = std::pair(rank[link.to], link.to) < std::pair(rank[link.from], link.from);
    const int from = turn ? link.to : link.from, to = turn ? link.from : link.to;
    auto& table = meets[{from, to}];
    const bool fresh = table.empty();
    std::vector<std::vector<bool>> mine(flat.extents[from], std::vector<bool>(flat.extents[to]));
    for (size_t x = 0; x < link.runs.size(); ++x) {
      for (const auto& [low, high] : link.runs[x]) {
        for (int64_t y = low; y < high; ++y) (turn ? mine[y][x] : mine[x][y]) = true;
      }
    }
    if (fresh) {
      table = std::move(mine);
    } else {
      for (size_t x = 0; x < table.size(); ++x) {
        for (size_t y = 0; y < table[x].size(); ++y) table[x][y] = table[x][y] && mine[x][y];
      }
    }
  }
  for (auto& [pair, table] : meets) {
    Link link{.from = pair.first, .to = pair.second, .runs = {}};
    bool full = true;
    for (const std::vector<bool>& row : table) {
      auto& runs = link.runs.emplace_back();
      for (size_t y = 0; y < row.size(); ++y) {
        if (!row[y]) {
          full = false;
        } else if (y > 0 && row[y - 1]) {
          runs.back().second = static_cast<int64_t>(y) + 1;
        } else {
          runs.emplace_back(y, y + 1);
        }
      }
    }
    if (!full) kept.push_back(std::move(link));
  }
  flat.clause.links = std::move(kept);
}

int64_t FloorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// Shifts and turns each variable of the clause as the head of this file says. False when no point is left.
bool ShiftVariables(Flat& flat) {
  for (int v = 0; v < flat.size(); ++v) {
    if (flat.owner[v] >= 0 || flat.Linked(v)) continue;
    struct Use {
      int64_t coefficient, offset, extent;
    };
    std::optional<Use> anchor;
    std::vector<Use> uses;  // alone on an axis
    int64_t first_coefficient = 0;
    int64_t low = std::numeric_limits<int64_t>::min() / 4, high = -low;  // what the axes allow
    for (RuleAccess* access : flat.Required()) {
      for (size_t d = 0; d < access->index.size(); ++d) {
        const RuleIndex& index = access->index[d];
        for (const Term& term : index.terms) {
          if (term.variable != v) continue;
          if (first_coefficient == 0) first_coefficient = term.coefficient;
          if (index.terms.size() > 1 || index.lookup >= 0) continue;
          const Use use = {term.coefficient, index.offset, access->view[static_cast<int>(d)]};
          if (!anchor && std::abs(use.coefficient) == 1) anchor = use;
          // 0 <= c v + o <= e - 1
          const int64_t c = use.coefficient, a = -use.offset, b = use.extent - 1 - use.offset;
          low = std::max(low, c > 0 ? -FloorDiv(-a, c) : -FloorDiv(b, -c));
          high = std::min(high, c > 0 ? FloorDiv(b, c) : FloorDiv(-a, -c));
          uses.push_back(use);
        }
      }
    }
    if (first_coefficient == 0) continue;
    const int64_t tight_low = std::max<int64_t>(low, 0), tight_high = std::min(high, flat.extents[v] - 1);
    if (tight_low > tight_high) return false;
    RuleIndex expression;
    if (anchor) {  // v = c (v' - o)
      const int64_t c = anchor->coefficient, o = anchor->offset;
      const auto moved = [&](int64_t value) { return c * value + o; };
      const int64_t least = std::min(moved(tight_low), moved(tight_high));
      const int64_t most = std::max(moved(tight_low), moved(tight_high));
      const int64_t axes_least = std::min(moved(low), moved(high)), axes_most = std::max(moved(low), moved(high));
      // What the axes say need not be said by the variable.
      const int64_t shift = least == axes_least ? 0 : least;
      int64_t end = most + 1;
      if (shift == 0 && most == axes_most) {
        end = anchor->extent;
        for (const Use& use : uses) {  // the smallest axis on which it stands as it is
          if (use.coefficient == c && use.offset == o) end = std::min(end, use.extent);
        }
      }
      flat.extents[v] = end - shift;
      expression = Variable(v, c, c * (shift - o));
    } else if (first_coefficient > 0) {
      flat.extents[v] = tight_high - tight_low + 1;
      expression = Variable(v, 1, tight_low);
    } else {
      flat.extents[v] = tight_high - tight_low + 1;
      expression = Variable(v, -1, tight_high);
    }
    if (expression != Variable(v)) flat.Replace(v, expression);
  }
  return true;
}

// An index 12*a + 4*b + c that counts an axis row-major becomes three axes.
void SplitSums(Flat& flat) {
  for (RuleAccess* access : flat.Accesses()) {
    for (size_t d = 0; d < access->index.size(); ++d) {
      const RuleIndex index = access->index[d];
      if (index.lookup >= 0 || index.offset != 0 || index.terms.size() < 2) continue;
      std::vector<Term> terms = index.terms;
      std::sort(terms.begin(), terms.end(), [](auto& a, auto& b) { return a.coefficient < b.coefficient; });
      int64_t stride = 1;
      bool row_major = true;
      for (const Term& term : terms) {
        row_major = row_major && term.coefficient == stride;
        if (row_major) stride *= flat.extents[term.variable];
      }
      if (!row_major || stride != access->view[static_cast<int>(d)]) continue;
      std::vector<int64_t> dims(access->view.begin(), access->view.end());
      dims.erase(dims.begin() + d);
      access->index.erase(access->index.begin() + d);
      for (const Term& term : terms) {  // the fastest first, each before the last
        dims.insert(dims.begin() + d, flat.extents[term.variable]);
        access->index.insert(access->index.begin() + d, Variable(term.variable));
      }
      access->view = Shape(std::move(dims));
      d += terms.size() - 1;
    }
  }
}

void EraseAxis(RuleAccess& access, size_t d) {
  std::vector<int64_t> dims(access.view.begin(), access.view.end());
  dims.erase(dims.begin() + d);
  access.view = Shape(std::move(dims));
  access.index.erase(access.index.begin() + d);
}

// Does `variable` fill an axis alone wherever it stands?
bool FillsAxes(Flat& flat, int variable) {
  if (flat.Linked(variable)) return false;
  for (RuleAccess* access : flat.Accesses()) {
    for (size_t d = 0; d < access->index.size(); ++d) {
      for (const Term& term : access->index[d].terms) {
        if (term.variable != variable) continue;
        if (!IsPlain(access->index[d]) || access->view[static_cast<int>(d)] != flat.extents[variable]) return false;
      }
    }
  }
  return true;
}

// The variable right behind each occurrence of `variable`, if always the same one and that one nowhere else.
std::optional<int> Follower(Flat& flat, int variable) {
  std::optional<int> follower;
  for (RuleAccess* access : flat.Accesses()) {
    for (size_t d = 0; d < access->index.size(); ++d) {
      if (!IsPlain(access->index[d]) || access->index[d].terms[0].variable != variable) continue;
      if (d + 1 == access->index.size() || !IsPlain(access->index[d + 1])) return std::nullopt;
      const int next = access->index[d + 1].terms[0].variable;
      if (next == variable || (follower && *follower != next)) return std::nullopt;
      follower = next;
    }
  }
  if (!follower || flat.owner[*follower] != flat.owner[variable] || !FillsAxes(flat, *follower)) return std::nullopt;
  for (RuleAccess* access : flat.Accesses()) {
    for (size_t d = 0; d < access->index.size(); ++d) {
      if (!IsPlain(access->index[d]) || access->index[d].terms[0].variable != *follower) continue;
      if (d == 0 || !IsPlain(access->index[d - 1]) || access->index[d - 1].terms[0].variable != variable) {
        return std::nullopt;
      }
    }
  }
  return follower;
}

// The coarsest views: axes of extent 1 go, variables that always stand side by side become one.
void MergeAxes(Flat& flat) {
  for (RuleAccess* access : flat.Accesses()) {
    for (size_t d = access->index.size(); d-- > 0;) {
      if (access->view[static_cast<int>(d)] == 1 && access->index[d] == RuleIndex{}) EraseAxis(*access, d);
    }
  }
  for (int v = 0; v < flat.size(); ++v) {
    if (!FillsAxes(flat, v)) continue;
    while (const std::optional<int> next = Follower(flat, v)) {
      const int64_t extent = flat.extents[v] * flat.extents[*next];
      for (RuleAccess* access : flat.Accesses()) {
        for (size_t d = access->index.size(); d-- > 1;) {
          if (!IsPlain(access->index[d]) || access->index[d].terms[0].variable != *next) continue;
          EraseAxis(*access, d);
          access->view[static_cast<int>(d) - 1] = extent;
        }
      }
      flat.extents[v] = extent;
      flat.extents[*next] = 1;
    }
  }
}

// Splits what MergeAxes merged along the own axes of the first tensor that it indexes, the output first.
void RestoreAxes(Flat& flat) {
  std::vector<bool> settled(flat.size());
  for (RuleAccess* access : flat.Accesses()) {
    std::set<int64_t> own;  // elements behind each boundary between the tensor's own axes
    int64_t behind = 1;
    const Shape& shape = flat.ShapeOf(access);
    for (int d = shape.rank() - 1; d >= 0; --d) own.insert(behind *= shape[d]);
    int64_t low = 1;
    for (int d = behind == 0 ? -1 : access->view.rank() - 1; d >= 0; --d) {
      const int64_t high = low * access->view[d];
      std::vector<int64_t> parts;  // extents of the pieces, the fastest first
      int64_t from = low;
      for (const int64_t boundary : own) {
        if (boundary <= low || boundary >= high || boundary % from != 0 || high % boundary != 0) continue;
        parts.push_back(boundary / from);
        from = boundary;
      }
      parts.push_back(high / from);
      const RuleIndex index = access->index[d];
      if (parts.size() > 1 && IsPlain(index) && !settled[index.terms[0].variable] &&
          FillsAxes(flat, index.terms[0].variable)) {
        const int v = index.terms[0].variable;
        std::vector<int> pieces;  // the fastest first
        for (const int64_t extent : parts) {
          pieces.push_back(flat.size());
          flat.extents.push_back(extent);
          flat.owner.push_back(flat.owner[v]);
        }
        for (RuleAccess* other : flat.Accesses()) {
          for (size_t e = other->index.size(); e-- > 0;) {
            if (!IsPlain(other->index[e]) || other->index[e].terms[0].variable != v) continue;
            std::vector<int64_t> dims(other->view.begin(), other->view.end());
            dims.erase(dims.begin() + e);
            other->index.erase(other->index.begin() + e);
            for (size_t p = 0; p < parts.size(); ++p) {
              dims.insert(dims.begin() + e, parts[p]);
              other->index.insert(other->index.begin() + e, Variable(pieces[p]));
            }
            other->view = Shape(std::move(dims));
          }
        }
        flat.extents[v] = 1;
      }
      low = high;
    }
    settled.resize(flat.size());
    for (const RuleIndex& index : access->index) {
      for (const Term& term : index.terms) settled[term.variable] = true;
    }
  }
  // A tensor's own axes of extent 1 come back where nothing else differs.
  for (RuleAccess* access : flat.Accesses()) {
    const Shape& shape = flat.ShapeOf(access);
    RuleAccess whole{.view = shape, .index = {}};
    size_t next = 0;
    bool fits = true;
    for (const int64_t extent : shape) {
      if (next < access->index.size() && access->view[static_cast<int>(next)] == extent) {
        whole.index.push_back(access->index[next++]);
      } else {
        fits = fits && extent == 1;
        whole.index.push_back({});
      }
    }
    if (fits && next == access->index.size()) *access = std::move(whole);
  }
}

// Everything that matters, as numbers that order.
void Write(const RuleAccess& access, std::vector<int64_t>& to) {
  to.push_back(access.view.rank());
  to.insert(to.end(), access.view.begin(), access.view.end());
  for (const RuleIndex& index : access.index) {
    to.insert(to.end(), {index.offset, index.lookup, static_cast<int64_t>(index.terms.size())});
    for (const Term& term : index.terms) to.insert(to.end(), {term.variable, term.coefficient});
  }
}
std::vector<int64_t> Key(const Annihilator& unless) {
  std::vector<int64_t> key = {unless.input, unless.value, unless.any, static_cast<int64_t>(unless.extents.size())};
  key.insert(key.end(), unless.extents.begin(), unless.extents.end());
  Write(unless.at, key);
  return key;
}
std::vector<int64_t> Key(const Clause& clause) {
  std::vector<int64_t> key = {clause.output, clause.input};
  Write(clause.out, key);
  Write(clause.in, key);
  key.insert(key.end(), clause.extents.begin(), clause.extents.end());
  for (const Annihilator& unless : clause.unless) {
    const std::vector<int64_t> part = Key(unless);
    key.insert(key.end(), part.begin(), part.end());
  }
  for (const Lookup& lookup : clause.lookups) {
    key.push_back(lookup.input);
    Write(lookup.at, key);
  }
  for (const Link& link : clause.links) {
    key.insert(key.end(), {link.from, link.to});
    for (const auto& row : link.runs) {
      key.push_back(static_cast<int64_t>(row.size()));
      for (const auto& [low, high] : row) key.insert(key.end(), {low, high});
    }
  }
  return key;
}

// Numbers what is used by first appearance and gives annihilators their own variables back.
Clause Renumbered(const Flat& source) {
  Flat flat = source;
  Clause& clause = flat.clause;
  std::vector<int> number(flat.size(), -1), lookup_number(clause.lookups.size(), -1);
  std::vector<int64_t> extents;
  std::vector<Lookup> lookups;
  const auto take = [&](int variable) {
    if (number[variable] >= 0 || flat.owner[variable] >= 0) return;
    number[variable] = static_cast<int>(extents.size());
    extents.push_back(flat.extents[variable]);
  };
  const auto visit = [&](const RuleAccess& access, auto&& self) -> void {
    for (const RuleIndex& index : access.index) {
      if (index.lookup >= 0 && lookup_number[index.lookup] < 0) {
        lookup_number[index.lookup] = static_cast<int>(lookups.size());
        lookups.push_back(clause.lookups[index.lookup]);
        self(clause.lookups[index.lookup].at, self);
      }
      std::vector<Term> terms = index.terms;
      std::stable_sort(terms.begin(), terms.end(), [&](const Term& a, const Term& b) {
        return std::pair(-std::abs(a.coefficient), -flat.extents[a.variable]) <
               std::pair(-std::abs(b.coefficient), -flat.extents[b.variable]);
      });
      for (const Term& term : terms) take(term.variable);
    }
  };
  visit(clause.out, visit);
  visit(clause.in, visit);
  for (const Link& link : clause.links) take(link.from), take(link.to);
  for (const Annihilator& unless : clause.unless) visit(unless.at, visit);
  const auto rename = [&](RuleAccess& access) {
    for (RuleIndex& index : access.index) {
      if (index.lookup >= 0) index.lookup = lookup_number[index.lookup];
      for (Term& term : index.terms) term.variable = number[term.variable];
      SortTerms(index);
    }
  };
  rename(clause.out);
  rename(clause.in);
  for (Lookup& lookup : lookups) rename(lookup.at);
  clause.lookups = std::move(lookups);
  for (Link& link : clause.links) link.from = number[link.from], link.to = number[link.to];
  std::sort(clause.links.begin(), clause.links.end(),
            [](const Link& a, const Link& b) { return std::tie(a.from, a.to) < std::tie(b.from, b.to); });
  for (Annihilator& unless : clause.unless) {
    const int own = static_cast<int>(extents.size());
    unless.extents.clear();
    for (const RuleIndex& index : unless.at.index) {
      for (const Term& term : index.terms) {
        if (flat.owner[term.variable] < 0 || number[term.variable] >= 0) continue;
        number[term.variable] = own + static_cast<int>(unless.extents.size());
        unless.extents.push_back(flat.extents[term.variable]);
      }
    }
    if (unless.extents.empty()) unless.any = false;
    rename(unless.at);
  }
  clause.extents = std::move(extents);
  return clause;
}

// Equal lookups are one.
void MergeLookups(Clause& clause) {
  std::vector<int> number(clause.lookups.size());
  std::vector<Lookup> kept;
  for (size_t k = 0; k < clause.lookups.size(); ++k) {
    number[k] = static_cast<int>(std::find(kept.begin(), kept.end(), clause.lookups[k]) - kept.begin());
    if (number[k] == static_cast<int>(kept.size())) kept.push_back(clause.lookups[k]);
  }
  clause.lookups = std::move(kept);
  const auto rename = [&](RuleAccess& access) {
    for (RuleIndex& index : access.index) {
      if (index.lookup >= 0) index.lookup = number[index.lookup];
    }
  };
  rename(clause.out);
  rename(clause.in);
  for (Annihilator& unless : clause.unless) rename(unless.at);
}

bool InRange(const RuleAccess& access) {
  for (size_t d = 0; d < access.index.size(); ++d) {
    const RuleIndex& index = access.index[d];
    if (index.terms.empty() && index.lookup < 0 &&
        (index.offset < 0 || index.offset >= access.view[static_cast<int>(d)])) {
      return false;
    }
  }
  return true;
}

std::optional<Clause> CanonicalClause(const Rule& rule, Clause clause) {
  for (const int64_t extent : clause.extents) {
    if (extent == 0) return std::nullopt;
  }
  if (clause.out.view.num_elements() == 0 || clause.in.view.num_elements() == 0) return std::nullopt;
  MergeLookups(clause);
  // Sorting annihilators may change which variable appears first, and the reverse: twice is enough for all but
  // contrived rules, and those are still equal to themselves.
  for (int round = 0; round < 3; ++round) {
    Flat flat(rule, std::move(clause));
    NormaliseLinks(flat);
    DropUnits(flat);
    if (!ShiftVariables(flat)) return std::nullopt;
    DropUnits(flat);
    OwnVariables(flat);
    SplitSums(flat);
    MergeAxes(flat);
    RestoreAxes(flat);
    DropUnits(flat);
    clause = Renumbered(flat);
    std::sort(clause.unless.begin(), clause.unless.end(),
              [](const Annihilator& a, const Annihilator& b) { return Key(a) < Key(b); });
    clause.unless.erase(std::unique(clause.unless.begin(), clause.unless.end()), clause.unless.end());
  }
  if (!InRange(clause.out) || !InRange(clause.in)) return std::nullopt;
  return clause;
}

}  // namespace

Rule Canonical(Rule rule) {
  std::vector<Clause> clauses;
  for (Clause& clause : rule.clauses) {
    if (std::optional<Clause> result = CanonicalClause(rule, std::move(clause))) clauses.push_back(std::move(*result));
  }
  std::sort(clauses.begin(), clauses.end(), [](const Clause& a, const Clause& b) { return Key(a) < Key(b); });
  clauses.erase(std::unique(clauses.begin(), clauses.end()), clauses.end());
  std::vector<bool> covered(clauses.size());
  for (size_t a = 0; a < clauses.size(); ++a) {
    for (size_t b = 0; b < clauses.size() && !covered[a]; ++b) {
      covered[a] = a != b && !covered[b] && Covers(clauses[b], clauses[a]);
    }
  }
  rule.clauses.clear();
  for (size_t a = 0; a < clauses.size(); ++a) {
    if (!covered[a]) rule.clauses.push_back(std::move(clauses[a]));
  }
  return rule;
}

}  // namespace tessera
