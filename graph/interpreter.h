// interpreter: runs a graph slowly and plainly, in double: what every compiled program and every pass is compared with.
//
//   ASSIGN_OR_RETURN(std::vector<RefTensor> outputs, Interpret(graph, {x}));
//   outputs[0].f[3];
//
// Floats are never rounded to their storage type on the way; integers and bool are exact and wrap as when stored. Nodes
// run through their ops' references, and an epilogue through its Body; or, as a second opinion, through the evaluated
// NodeCompute of each node. Declared-pruned elements count as zeros: of constants as they stand in the data, of inputs
// and computed values whatever is there (apply_masks.h makes that explicit); an output that is a graph input is handed
// back as it came. The graph is one that the verifier accepts. Values are freed after their last use. Pure functions.
// Tested by interpreter_test.cc.
#ifndef TESSERA_GRAPH_INTERPRETER_H_
#define TESSERA_GRAPH_INTERPRETER_H_

#include <span>
#include <vector>

#include "graph/compute.h"
#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

enum class Interpretation : uint8_t {
  kReference,  // OpDef::reference, then the epilogue's Body
  kCompute,    // Evaluate(NodeCompute): what kernels are made from
};

// The graph's outputs for `inputs`, in the order of graph.inputs and of their types; errors name the input that is not.
StatusOr<std::vector<RefTensor>> Interpret(const Graph& graph, std::span<const Tensor> inputs,
                                           Interpretation how = Interpretation::kReference);

// Likewise, every value of the graph, by ValueId; constants and inputs included. Takes 8 bytes for each element.
StatusOr<std::vector<RefTensor>> InterpretAll(const Graph& graph, std::span<const Tensor> inputs,
                                              Interpretation how = Interpretation::kReference);

// One node's results. `operands` are as Operands(node), nullptr where absent.
std::vector<RefTensor> InterpretNode(const Graph& graph, const Node& node, std::span<const RefTensor* const> operands,
                                     Interpretation how = Interpretation::kReference);

}  // namespace tessera

#endif  // TESSERA_GRAPH_INTERPRETER_H_
