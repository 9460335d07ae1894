// Random networks with much to prune: what propagation and shrinking are tested on.
//
//   Random random(seed);
//   Graph graph = PrunableGraph(random, {.min_nodes = 10, .max_nodes = 60});
//   std::vector<Tensor> inputs = RandomInputs(random, graph);                     // random_graph.h
//
// Convolutions (plain, grouped, depthwise), matmuls and attention whose weights lost channels, blocks or scattered
// elements, with biases behind them, joined by residual sums, products, concatenations, splits, reshapes and
// transposes, and every op of ops.def in between. Pruned weights declare it or just hold zeros. Numbers stay of
// moderate size; divisors and roots stay away from 0, so that two orders of summation agree. Tested by
// propagate/soundness_test.cc.
#ifndef TESSERA_GRAPH_TESTING_PRUNABLE_GRAPH_H_
#define TESSERA_GRAPH_TESTING_PRUNABLE_GRAPH_H_

#include "graph/graph.h"
#include "tesa/random.h"

namespace tessera {

struct PrunableGraphOptions {
  int min_nodes = 10;
  int max_nodes = 60;
};

Graph PrunableGraph(Random& random, const PrunableGraphOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_PRUNABLE_GRAPH_H_
