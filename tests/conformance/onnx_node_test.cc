// ONNX's own node tests through the whole path: import, store as a .tess file and read it back, run every pass, compile
// for this machine, run, compare.
//
// Beside models/import/onnx:node_test, which interprets the same graphs, a failure here alone is the compiler's. The
// table says how many cases passed of those that are listed, and why others are skipped.
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "codegen/testing/run_compiled.h"
#include "graph/model_file.h"
#include "graph/passes/pipeline.h"
#include "gtest/gtest.h"
#include "models/import/onnx/node_case.h"

namespace tessera {
namespace {

TEST(OnnxNodeTest, EveryListedCasePassesCompiled) {
  const NodeRunner runner = [](const Graph& imported, std::span<const Tensor> inputs) -> StatusOr<std::vector<Tensor>> {
    ASSIGN_OR_RETURN(const std::string file, WriteModelToString(imported));
    ASSIGN_OR_RETURN(Graph graph, ReadModelFromMemory(std::as_bytes(std::span(file)), nullptr));
    RETURN_IF_ERROR(OptimizeForHost(graph));
    return RunCompiled(graph, inputs, "host", {});
  };
  const NodeSummary summary = RunNodeCases(kNodeCases, runner);
  std::cout << summary.ToString();
  EXPECT_GE(summary.listed, 600);
  EXPECT_EQ(summary.passed, summary.listed);
  for (const std::string& failure : summary.failures) ADD_FAILURE() << failure;
}

}  // namespace
}  // namespace tessera
