// clause_algebra: what the algebra does with clauses: indices added and substituted, clauses joined where both touch
// the same element of a temporary, conditions compared.
//
//   temp[p,q] <- in0[p,q,r]        and a stage that reads temp[i,2*j]
//   Join:   … <- in0[i,2*j,r]      over i, j, r
//
// Variables of a clause are numbered from 0; those of a condition beyond the clause's ("for all e") from kExtra, so
// that a clause may gain variables without renumbering its conditions; Finish brings them into the form of rule.h. Pure
// functions. Tested by algebra_test.cc.
#ifndef TESSERA_PROPAGATE_ALGEBRA_CLAUSE_ALGEBRA_H_
#define TESSERA_PROPAGATE_ALGEBRA_CLAUSE_ALGEBRA_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/body.h"
#include "propagate/rule/rule.h"

namespace tessera {

constexpr int kExtra = 1 << 20;

// When `test` is satisfied a buffer's element equals `result`. Its lookups are its own.
struct Condition {
  Annihilator test;
  std::vector<Lookup> lookups;
  ScalarValue result;
};

// Each variable's replacement; variables from kExtra on stay.
using Substitution = std::vector<RuleIndex>;
RuleIndex Substituted(const RuleIndex& index, const Substitution& by);
RuleAccess Substituted(RuleAccess access, const Substitution& by);
Annihilator Substituted(Annihilator annihilator, const Substitution& by);

// The least and greatest value of an index without lookup. `extents` of the variables, `extra` of those from kExtra on.
void RangeOf(const RuleIndex& index, std::span<const int64_t> extents, std::span<const int64_t> extra, int64_t& low,
             int64_t& high);
bool Uses(const RuleIndex& index, int variable);
bool Uses(const RuleAccess& access, int variable);

// Does `a` being satisfied imply `b`? False where that cannot be told from their form.
bool Implies(const Condition& a, const Condition& b);

// Adds a condition to what annihilates `clause`, unless it is there.
void AddUnless(Clause& clause, const Condition& condition);

// `inner` says how an element of a buffer (its `out`) depends on an input; `outer` reads that buffer at outer.in. The
// clause of both, or nullopt when they share no element. What cannot be told exactly is left out, which makes the
// result wider, and noted.
std::optional<Clause> Join(const Clause& outer, const Clause& inner, std::vector<std::string>* widened);

// Drops unused variables; a variable that only one annihilator uses becomes one of its own (all).
void Tidy(Clause& clause);
// Tidies all, merges clauses that differ in one link, drops covered ones.
void Simplify(std::vector<Clause>& clauses);
// Variables from kExtra on become those that follow the clause's.
void Finish(Clause& clause);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_ALGEBRA_CLAUSE_ALGEBRA_H_
