// pipeline: the order in which passes rewrite a graph for a target. OptimizeForHost is what the engine calls between
// reading a model and compiling it.
//
//   RETURN_IF_ERROR(OptimizeForHost(graph));
//
// The graph computes the same function afterwards (graph/passes/README.md says how exactly); its inputs, outputs and
// their names stay. The graph is one that the verifier accepts. Tested by pipeline_test.cc.
#ifndef TESSERA_GRAPH_PASSES_PIPELINE_H_
#define TESSERA_GRAPH_PASSES_PIPELINE_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

// Rewrites `graph` for the host CPU. An error is a fault of a pass, named in the message; the graph is then unusable.
Status OptimizeForHost(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_PIPELINE_H_
