// Learn: the middle of tensor scrambling: from a box to a template of its rule; scramble.h is the door to it.
//
//   probe.h          what moves                       small_shapes.h    where to try
//   fit.h            clauses that say the same        rule_template.h   what holds at all shapes
//   annihilate.h     what stops them, and the check against random masks
//
// Tested by scramble_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_LEARN_H_
#define TESSERA_PROPAGATE_LEARN_LEARN_H_

#include "propagate/learn/rule_template.h"
#include "propagate/learn/scramble.h"

namespace tessera {

// The rule of this very instance, from nothing but runs of it. kRuleNotLearned.
StatusOr<Rule> LearnAt(const BlackBox& box, const ScrambleOptions& options, ScrambleStats& stats);

struct Learned {
  RuleTemplate relation;
  Rule rule;  // bound to the shapes of the box and checked
};
StatusOr<Learned> LearnTemplate(const BlackBox& box, const ScrambleOptions& options, ScrambleStats& stats);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_LEARN_H_
