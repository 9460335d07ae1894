// expression: an element-wise node, with its epilogue, as one Body over its operands.
//
//   %y = quantize(%x, %s) epilogue(%b) {…}      ->      (x, s, b) { … }, operands x, s, b
//
// What fuse_epilogues joins to producers and requantize simplifies. Pure functions but for new constants: scales along
// an axis are reshaped so that they broadcast. Tested by fuse_epilogues_test.cc and requantize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_EXPRESSION_H_
#define TESSERA_GRAPH_PASSES_EXPRESSION_H_

#include <optional>
#include <vector>

#include "graph/graph.h"
#include "graph/passes/rewriter.h"

namespace tessera {

// A value as a function of other values, element by element; the operands broadcast to its shape.
struct Expression {
  Body body;
  std::vector<ValueId> operands;
  DType dtype = DType::kF32;  // as which the value is stored
};

// Ops that have one, quantize and dequantize among them.
bool IsElementwise(const Node& node);
// nullopt where the node is not element-wise or its parameters do not broadcast (blocked or computed scales along an
// inner axis).
std::optional<Expression> ExpressionOf(Rewriter& r, NodeId id);

// The value of `operand` inside a body under construction, with constants of one element as numbers. `inputs` are the
// epilogue's operands so far; input 0 of the body is not among them.
Scalar ReadOperand(const Graph& graph, ValueId operand, std::vector<ValueId>& inputs, BodyBuilder& b);

// What a reader would see of `x` had it been stored as `dtype`.
Scalar AsStored(BodyBuilder& b, Scalar x, DType dtype);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_EXPRESSION_H_
