// memory_need: which elements must stand rightly in memory, for a graph that is about to be cut.
//
//   ASSIGN_OR_RETURN(std::vector<Needed> needed, NeededInMemory(graph, facts, book));
//
// The fixed point's Needed (propagate.h) lets a reader of a known element use the constant, so two computed zeros that
// meet in a product may excuse each other. Kernels read memory. Here, of two that excuse each other one stays needed,
// and an element that may become infinite or NaN when what feeds it is cut (a quotient, a logarithm of it) is not
// excused by a zero, because 0 * inf is not 0. So with these elements right, every needed one is, by induction from the
// inputs on, and dead ones may hold any value. One sweep from the outputs, two when quotients are about. Tested by
// shrink_test.cc and soundness_test.cc.
#ifndef TESSERA_PROPAGATE_SHRINK_MEMORY_NEED_H_
#define TESSERA_PROPAGATE_SHRINK_MEMORY_NEED_H_

#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/propagate.h"
#include "propagate/rule_book.h"
#include "tesa/needed.h"

namespace tessera {

// By ValueId. Graph outputs are live.
StatusOr<std::vector<Needed>> NeededInMemory(const Graph& graph, const Facts& facts, RuleBook& book);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_MEMORY_NEED_H_
