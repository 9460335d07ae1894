// Every node test of ONNX (libonnx-testdata) whose operator is on the project's list: import, interpret, compare.
#include <iostream>

#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "models/import/onnx/node_case.h"
#include "models/import/onnx/node_list.h"

namespace tessera {
namespace {

// In onnx_importer_test.cc.
const std::set<std::string> kNewerOps = {"BitwiseNot", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
                                         "Gelu",       "Mish",       "Swish"};

StatusOr<std::vector<Tensor>> RunInterpreter(const Graph& graph, std::span<const Tensor> inputs) {
  ASSIGN_OR_RETURN(const std::vector<RefTensor> outputs, Interpret(graph, inputs));
  std::vector<Tensor> tensors;
  for (const RefTensor& output : outputs) tensors.push_back(output.ToTensor());
  return tensors;
}

TEST(OnnxNodeTest, EveryListedCasePasses) {
  const NodeSummary summary = RunNodeCases(kNodeCases, RunInterpreter, /*quantized_slack=*/1);
  std::cout << summary.ToString();
  // Fewer cases than these mean that the package libonnx-testdata is missing or that the harness drops some.
  EXPECT_GE(summary.listed, 600);
  EXPECT_EQ(summary.passed, summary.listed);
  for (const std::string& failure : summary.failures) ADD_FAILURE() << failure;
  // Every row of models/import/onnx/onnx_ops.def has a case here, or is newer than the cases and is tested elsewhere.
  for (const OnnxOp& row : AllOnnxOps()) {
    const std::string op(row.op_type);
    if (row.domain.empty() && kNewerOps.count(op) == 0) {
      EXPECT_EQ(summary.passed_ops.count(op), 1) << op << " passes no case";
    }
  }
}

}  // namespace
}  // namespace tessera
