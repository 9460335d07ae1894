// Random rules and facts, small and odd, for property tests.
//
//   Random random(seed);
//   const Rule rule = RandomRule(random);          // any form that rule.h allows: windows, views, lookups, links, …
//   const Known x = RandomKnown(random, rule.inputs[0]);
//
// Used by apply_test.cc and rule_test.cc.
#ifndef TESSERA_PROPAGATE_TESTING_RANDOM_RULE_H_
#define TESSERA_PROPAGATE_TESTING_RANDOM_RULE_H_

#include "propagate/rule/rule.h"
#include "tesa/known.h"
#include "tesa/needed.h"
#include "tesa/random.h"

namespace tessera {

// One to three operands, one or two outputs, up to five clauses; verified.
Rule RandomRule(Random& random);

// Scattered, slices, blocks, wholly known, nothing known; values are small integers, those of integer tensors indices
// that are mostly in range of short axes.
Known RandomKnown(Random& random, const TensorType& type);
Needed RandomNeeded(Random& random, const Shape& shape);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_TESTING_RANDOM_RULE_H_
