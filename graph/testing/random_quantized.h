// random_quantized: random quantised networks as files bring them: quantize and dequantize around convolutions,
// products, pools, sums and moves, integer biases, dynamic quantisation and products of integers.
//
//   QuantizedCase c = RandomQuantized(seed, {.exact = true});
//   Interpret(c.graph, c.inputs) …
//
// Activations are u8 or i8 with any zero point, dequantised once or once for each reader, graph inputs sometimes
// integers; weights i8, u8 or 4 bits wide, per tensor or channel, with and without zero points, dense or pruned. With
// `exact` every scale is a power of two and every constant a multiple of one, and nothing transcendental occurs: then
// f32 holds every value, ties are frequent, and what keeps a network's meaning keeps each of its bits. For tests of
// passes and kernels. Tested by random_quantized_test.cc.
#ifndef TESSERA_GRAPH_TESTING_RANDOM_QUANTIZED_H_
#define TESSERA_GRAPH_TESTING_RANDOM_QUANTIZED_H_

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

struct QuantizedCase {
  Graph graph;
  std::vector<Tensor> inputs;  // as graph.inputs
};

struct QuantizedOptions {
  int pieces = 6;
  bool exact = false;
  bool plain = false;           // as in exact networks nothing transcendental, and no scale that is computed
  bool integer_inputs = false;  // all of them; else some
};

QuantizedCase RandomQuantized(uint64_t seed, const QuantizedOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_RANDOM_QUANTIZED_H_
