// abstract_walk: which elements of an op's results are known, and which of its operands' are live, found by running its
// compute element by element on "known value" and "unknown": no rule, no clause, every point of every stage. Slow and
// plainly right; what the algebra is tested against.
//
// A value is known when the body's known operands decide it (partial_body.h), a combination when a known point absorbs
// the others or all are known. Backward, from the last stage to the first: an element that is read is live when a live
// element is written by a body that still reaches it with all other reads at their known values. Pure functions.
#ifndef TESSERA_PROPAGATE_TESTING_ABSTRACT_WALK_H_
#define TESSERA_PROPAGATE_TESTING_ABSTRACT_WALK_H_

#include "graph/compute.h"
#include "propagate/testing/rule_points.h"

namespace tessera {

struct AbstractWalk {
  ElementSets known_outputs;
  ElementSets live_inputs;
};
AbstractWalk WalkCompute(const Compute& compute, const ElementFacts& facts, const ElementSets& live_outputs);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_TESTING_ABSTRACT_WALK_H_
