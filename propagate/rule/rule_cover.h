// Covers: whether one clause says all that another says. Part of Canonical. Tested by rule_test.cc.
#ifndef TESSERA_PROPAGATE_RULE_RULE_COVER_H_
#define TESSERA_PROPAGATE_RULE_RULE_COVER_H_

#include "propagate/rule/rule.h"

namespace tessera {

// Is each point of `small` one of `big` whose annihilators all are annihilators of `small` too? Looks for variables of
// `big` as expressions of those of `small`.
// Both are canonical. False where it cannot tell.
bool Covers(const Clause& big, const Clause& small);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_RULE_COVER_H_
