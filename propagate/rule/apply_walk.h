// ClauseWalk: one clause of a rule, walked once over classes of alike values of its variables.
//
//   ClauseWalk walk(clause, lookups);
//   walk.Need(clause.in, x.kind, /*key=*/kUnknown);               // only points whose input element is unknown
//   walk.Stop(clause.unless[0], w.kind, /*key=*/kZero);           // none that a zero annihilates
//   Cells<uint8_t> reached = walk.Reached(clause.out);            // 1 where an output element has such a point
//
// Two values of a variable are alike when all that the clause meets is the same for both:
//
//   x[a]        a is sorted by the classes of x's axis; out of range is a class of its own
//   x[2*y+i-1]  all variables but the one of the largest extent stay apart, that one is sorted by what it meets for
//               each combination of the others
//   links       both ends are sorted by the sets of classes that they meet, until nothing changes
//
// The result's axes take their classes from the variables: an index of a window is sorted by the set of combinations
// that reach it. Where a sorting would not be exact (a variable on two axes of the result, links in a ring) the
// variables concerned stay apart. The walk itself is a nest of loops over classes with tables of offsets, result first;
// a test is made as soon as its variables are bound, and the loops inside a result's cell end at the first point.
// Internal to RuleTransfer. Tested by apply_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_APPLY_WALK_H_
#define TESSERA_PROPAGATE_RULE_APPLY_WALK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "propagate/rule/apply_classes.h"
#include "propagate/rule/rule.h"
#include "tesa/cells.h"

namespace tessera {

class ClauseWalk {
 public:
  // `lookups[k]` belongs to clause.lookups[k]; all arguments outlive the walk.
  ClauseWalk(const Clause& clause, std::span<const LookupValues* const> lookups);
  ~ClauseWalk();

  // Only points at which `facts` (of the accessed tensor's shape) has the value `key`.
  void Need(const RuleAccess& access, const Cells<uint8_t>& facts, uint8_t key);
  // Only points that `unless` does not annihilate; its elements equal its value where `facts` has the value `key`.
  void Stop(const Annihilator& unless, const Cells<uint8_t>& facts, uint8_t key);
  // Only points whose element of `access` is this one.
  void Fix(const RuleAccess& access, int64_t element);

  // 1 where an element of `result` has a point, on `result.view`.
  Cells<uint8_t> Reached(const RuleAccess& result);

  // Steps of the innermost loops so far: what the time is proportional to.
  int64_t visited() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_APPLY_WALK_H_
