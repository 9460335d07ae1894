// Segment: some consecutive nodes of a graph as a graph of its own, so that only what changed is run again.
//
//   Segment tail = MakeSegment(graph, 12, graph.nodes.size());
//   tail.inputs;    // the values of `graph` that nodes 12 … read and did not make: what a cache has to hold
//   tail.outputs;   // graph outputs made there
//
// Names, types, constants and attributes are those of the graph; constants share their bytes. Pure. Tested by
// lower_bits_test.cc.
#ifndef TESSERA_PROPAGATE_BITS_SEGMENT_H_
#define TESSERA_PROPAGATE_BITS_SEGMENT_H_

#include <vector>

#include "graph/graph.h"

namespace tessera {

struct Segment {
  Graph graph;
  std::vector<ValueId> inputs, outputs;  // ids of the whole graph, in the order of graph.inputs and graph.outputs
};

// What nodes `first` … and the graph's outputs read of what comes before: computed values and graph inputs, ascending.
std::vector<ValueId> Frontier(const Graph& graph, size_t first);

// Nodes [begin, end). Outputs: what Frontier(graph, end) holds of their results (with end at the last node, the graph's
// outputs among them). Nodes of the range that feed none of these are left out.
Segment MakeSegment(const Graph& graph, size_t begin, size_t end);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_BITS_SEGMENT_H_
