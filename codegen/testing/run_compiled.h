// run_compiled: a graph, compiled and run on this machine, and what its interpretation in double says.
//
//   for (const std::string& level : RunnableLevels()) {
//     EXPECT_TRUE(CompiledAgrees(graph, inputs, level, {.only_emitter = "rowwise"}, 1e-5));
//   }
//
// For tests of emitters: whole small graphs, on every processor level that this machine can run, two threads.
// Pure functions. Tested through its users.
#ifndef TESSERA_CODEGEN_TESTING_RUN_COMPILED_H_
#define TESSERA_CODEGEN_TESTING_RUN_COMPILED_H_

#include <span>
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "graph/builder.h"
#include "graph/graph.h"
#include "gtest/gtest.h"
#include "tesa/tensor.h"

namespace tessera {

// Of "host", "host:x86-64-v3" and "host:x86-64" those whose instructions this processor has.
std::vector<std::string> RunnableLevels();

// Outputs of the compiled graph. `result`, if given, receives what Compile said.
StatusOr<std::vector<Tensor>> RunCompiled(const Graph& graph, std::span<const Tensor> inputs, const std::string& level,
                                          const CompileOptions& options, CompileResult* result = nullptr);

// Every output within `allowed` (relative to the largest magnitude) of its interpretation; integers are exact. With
// nothing allowed the two must be equal.
testing::AssertionResult CompiledAgrees(const Graph& graph, std::span<const Tensor> inputs, const std::string& level,
                                        const CompileOptions& options, double allowed);

// Whether `emitter` applies to every node of the graph and is taken where it is asked for.
testing::AssertionResult EveryNodeTakes(const Graph& graph, const std::string& level, const std::string& emitter);

// The graph of a builder that cannot fail; ends the test with the reason otherwise.
Graph Built(GraphBuilder builder);

// A tensor for each input of the graph, floats uniform in [-1, 1], integers in [0, 8).
std::vector<Tensor> RandomInputs(const Graph& graph, uint64_t seed);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TESTING_RUN_COMPILED_H_
