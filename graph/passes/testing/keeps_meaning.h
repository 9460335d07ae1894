// keeps_meaning: the property that every pass has: the graph computes afterwards what it computed before.
//
//   TEST(FoldConstants, KeepsMeaning) { ExpectKeepsMeaning(FoldConstants); }
//
// Runs the pass over random graphs (graph/passes/testing/random_idioms.h) and compares inputs, outputs, names, types,
// and the values of the interpreter: floats to 1e-9 of the largest, integers exactly. A failure prints the seed and
// both graphs; TESSERA_SEED=n runs that seed alone. Tested by the passes' tests, which it serves.
#ifndef TESSERA_GRAPH_PASSES_TESTING_KEEPS_MEANING_H_
#define TESSERA_GRAPH_PASSES_TESTING_KEEPS_MEANING_H_

#include <cstdint>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/testing/run_op.h"

namespace tessera {

using PassFunction = Status (*)(Graph&);

// Do both compute the same? `seed` draws the inputs; floats of the inputs lie in [-2, 2], integers in [0, 3].
Status SameMeaning(const Graph& before, const Graph& after, uint64_t seed, Tolerance tolerance = {});

// Reports to googletest.
void ExpectKeepsMeaning(PassFunction pass, int num_graphs = 1000, Tolerance tolerance = {1e-9, 1e-9});

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_TESTING_KEEPS_MEANING_H_
