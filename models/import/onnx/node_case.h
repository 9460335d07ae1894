// NodeCase: one of ONNX's own tests of an operator: a folder with a model of usually one node, inputs and the outputs
// that are expected for them.
//
//   NodeSummary summary = RunNodeCases(kNodeCases, [](const Graph& graph, std::span<const Tensor> inputs) { … });
//   EXPECT_THAT(summary.failures, IsEmpty());
//   std::cout << summary.ToString();                  // passed, listed, and each reason to skip with its count
//
// The runner is what is tested: the interpreter here, the compiled program elsewhere.
// Operands that determine a shape are inputs of these models; they are bound from the case's data, which kBound lists.
// Cases that hold strings, sequences or optional values, and those whose operators are not on the project's list, say
// so in `skip`. For tests only. Tested by node_test.cc.
#ifndef TESSERA_MODELS_IMPORT_ONNX_NODE_CASE_H_
#define TESSERA_MODELS_IMPORT_ONNX_NODE_CASE_H_

#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "models/import/import.h"
#include "tesa/tensor.h"

namespace tessera {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct NodeCase {
  std::string name;
  std::string model_path;
  std::set<std::string> ops;
  bool listed = false;  // every operator of it is on the project's list
  std::string skip;     // why it cannot be run; empty: it can
  ImportOptions options;
  std::vector<NamedTensor> inputs;  // those that are not bound
  std::vector<NamedTensor> outputs;
};

// The folders below `root` that hold a model.onnx and a data set, sorted.
std::vector<std::string> NodeCaseFolders(const std::string& root);
StatusOr<NodeCase> ReadNodeCase(const std::string& folder);

// Where Debian's libonnx-testdata puts them.
inline constexpr char kNodeCases[] = "/usr/share/libonnx-testdata/data/node";

// Runs a graph: the outputs in the order of graph.outputs, for inputs in the order of graph.inputs.
using NodeRunner = std::function<StatusOr<std::vector<Tensor>>(const Graph& graph, std::span<const Tensor> inputs)>;

struct NodeSummary {
  int passed = 0;  // of those that are listed
  int listed = 0;  // on the list and without a reason to skip
  int beyond = 0;  // passed although an operator is not on the list
  std::set<std::string> passed_ops;
  std::vector<std::string> failures;                        // "test_add: output 'sum': element 3: …"
  std::map<std::string, std::vector<std::string>> skipped;  // reason -> names
  std::string ToString() const;
};

// Imports and runs every case below `root` and compares with ONNX's own bounds, rtol 1e-3 and atol 1e-7.
// `quantized_slack` is what integers may be off by in graphs that quantise by scales they compute (1 for runners that
// do not round the scale to f32).
NodeSummary RunNodeCases(const std::string& root, const NodeRunner& runner, int quantized_slack = 0);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_NODE_CASE_H_
