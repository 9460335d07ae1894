// pipeline: the order in which passes rewrite a graph for a target. Between reading a model and compiling it the engine
// simplifies, propagates and shrinks (propagate/pipeline.h), and lowers.
//
//   RETURN_IF_ERROR(RunPasses(graph, SimplifyPipeline()));
//   …
//   RETURN_IF_ERROR(RunPasses(graph, LoweringPipeline()));
//   RETURN_IF_ERROR(OptimizeForHost(graph));                                    // both, nothing between
//   RETURN_IF_ERROR(RunPasses(graph, HostPipeline(), {.print_after = "all", .out = &std::cout}));
//
// The graph computes the same function afterwards (graph/passes/README.md says how exactly); its inputs, outputs and
// their names stay. The graph is one that the verifier accepts; it is verified after each pass. Tested by
// pipeline_test.cc and golden_test.cc.
#ifndef TESSERA_GRAPH_PASSES_PIPELINE_H_
#define TESSERA_GRAPH_PASSES_PIPELINE_H_

#include <span>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/pass.h"

namespace tessera {

// What the kernels are for: processors want u8 by i8 and scattered convolutions as planes, GPUs neither.
enum class MachineKind { kProcessor, kGpu };

// The passes for the host CPU, in order; one may stand there several times.
std::span<const Pass> HostPipeline();
// Its first part, which makes a graph plain whatever it is for, and what suits it to a machine's kernels: for
// processors its second.
std::span<const Pass> SimplifyPipeline();
std::span<const Pass> LoweringPipeline(MachineKind machine = MachineKind::kProcessor);
// Every pass once, for tools and tests that name one.
std::span<const Pass> AllPasses();

// Runs HostPipeline. An error is a fault of a pass, named in the message; the graph is then unusable.
Status OptimizeForHost(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_PIPELINE_H_
