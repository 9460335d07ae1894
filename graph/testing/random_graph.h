// Random networks: connected graphs of the ops that real ones use, with attributes, epilogues and quantised edges.
//
//   Random random(seed);
//   Graph graph = RandomGraph(random, {.min_nodes = 10, .max_nodes = 60});
//   std::vector<Tensor> inputs = RandomInputs(random, graph);
//
// What property tests of files, passes and propagation draw from. Each graph is valid, has residual branches and shared
// values, and keeps its numbers of moderate size: no divisors near 0, no overflow, sums of a few hundred terms at most.
// Unlike RandomNode, which draws every op with any of its parameters, this draws plausible neighbours.
// Tested by random_graph_test.cc.
#ifndef TESSERA_GRAPH_TESTING_RANDOM_GRAPH_H_
#define TESSERA_GRAPH_TESTING_RANDOM_GRAPH_H_

#include <vector>

#include "graph/graph.h"
#include "tesa/random.h"

namespace tessera {

struct RandomGraphOptions {
  int min_nodes = 4;
  int max_nodes = 24;
  bool attributes = true;  // on weights, and now and then on what is computed
  bool epilogues = true;
  bool quantization = true;  // quantize, integer convolutions and matmuls, dequantize
};

Graph RandomGraph(Random& random, const RandomGraphOptions& options = {});

// Tensors for graph.inputs, in their order.
std::vector<Tensor> RandomInputs(Random& random, const Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_RANDOM_GRAPH_H_
