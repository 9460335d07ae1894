// algebra: the exact Rule that a compute description implies.
//
//   Rule rule = RuleOf("matmul", NodeCompute(graph, node));
//
// Each read of a stage is a clause from the accesses as they stand. What annihilates it is found by evaluating the
// stage's body in part: read z set to 0 (or 1, for bool) and all others unknown; a read that the simplified body no
// longer reaches is annihilated by z. Stages compose through temporaries: points join where both touch the same
// element, annihilators of the second are kept, those of the first run through all points that lead to one element. A
// combiner that multiplies is annihilated by any one zero. The published TeSA algebra ({pruned, kept}, + is or, x is
// and) is what this gives for matmul. Pure functions. Tested by algebra_test.cc; //propagate:agreement_test holds it
// against scrambling for every op of ops.def.
#ifndef TESSERA_PROPAGATE_ALGEBRA_ALGEBRA_H_
#define TESSERA_PROPAGATE_ALGEBRA_ALGEBRA_H_

#include <string>
#include <vector>

#include "graph/compute.h"
#include "propagate/rule/rule.h"

namespace tessera {

// Inputs and outputs are those of `compute`. The result is canonical. Where a relation cannot be said by clauses
// exactly it is the next wider one that can, and `widened`, where given, gets a line that says so: an index that is
// computed, an equation of several variables between two stages. (That two conditions on different tensors only
// together annihilate is never said: a rule has no such form. algebra_walk_test.cc lists the ops where that matters.)
Rule RuleOf(std::string name, const Compute& compute, std::vector<std::string>* widened = nullptr);

// Part of RuleOf, for tests: for each input of `body`, which inputs annihilate it at 0 and at 1.
struct BodyAnnihilators {
  std::vector<std::vector<int>> by_zero, by_one;  // [input] -> inputs that stop it
};
BodyAnnihilators AnnihilatorsOf(const Body& body);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_ALGEBRA_ALGEBRA_H_
