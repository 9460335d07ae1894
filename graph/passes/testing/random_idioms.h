// random_idioms: random small networks of what exporters write, for tests of passes.
//
//   IdiomCase c = RandomIdioms(seed);        // the same seed, the same graph
//   Interpret(c.graph, c.inputs) …
//
// Each is a valid DAG of a dozen pieces: single ops, and the idioms that exporters write (conv + batch norm +
// activation
// + residual sum, squeeze and excite, layer norm, gelu, hard swish and attention in their parts, head splits). Values
// are read several times, weights are shared, and some values in the middle are graph outputs. Floats are f64, so that
// whatever is folded into constants is not rounded and results can be compared to the last digits; integers of several
// widths occur beside them. (graph/testing/random_graph.h draws plausible f32 networks without the exporters' detours.)
// Tested by the passes' tests, which it serves.
#ifndef TESSERA_GRAPH_PASSES_TESTING_RANDOM_IDIOMS_H_
#define TESSERA_GRAPH_PASSES_TESTING_RANDOM_IDIOMS_H_

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

struct IdiomCase {
  Graph graph;
  std::vector<Tensor> inputs;  // as graph.inputs
};

struct IdiomOptions {
  int pieces = 14;
};

IdiomCase RandomIdioms(uint64_t seed, const IdiomOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_TESTING_RANDOM_IDIOMS_H_
