#include "graph/passes/float_report.h"

#include <algorithm>

#include "graph/op.h"
#include "graph/passes/computed_product.h"
#include "graph/passes/expression.h"
#include "graph/passes/integer_product.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

bool IsQuantized(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    if (node.op == Op::kQuantize || node.op == Op::kDequantize) return true;
    return (node.op == Op::kMatmul || node.op == Op::kConv) && IsInteger(graph[node.inputs[0]].type.dtype);
  });
}

bool OnlyMoves(Op op) {
  switch (op) {
    case Op::kReshape:
    case Op::kTranspose:
    case Op::kExpand:
    case Op::kTile:
    case Op::kSlice:
    case Op::kConcat:
    case Op::kPad:
    case Op::kGather:
    case Op::kGatherElements: return true;
    default: return false;
  }
}

// What stands before and behind it, as far as that is quantised.
std::string Neighbours(const Rewriter& r, const Node& node) {
  const bool read = std::any_of(node.inputs.begin(), node.inputs.end(),
                                [&](ValueId id) { return r.ProducerIs(id, Op::kDequantize); });
  const std::set<NodeId>& readers = r.Readers(node.outputs[0]);
  const bool made =
      std::any_of(readers.begin(), readers.end(), [&](NodeId reader) { return r.node(reader).op == Op::kQuantize; });
  if (read && made) return "; it reads dequantised integers, and what it makes is quantised";
  if (read) return "; it reads dequantised integers";
  return made ? "; what it makes is quantised" : "";
}

std::string Reason(const Rewriter& r, const Node& node) {
  if (OnlyMoves(node.op)) return "it moves reals that no quantize waits for";
  if (node.op == Op::kMatmul || node.op == Op::kConv) {
    std::string why;
    const std::optional<Dequantized> second = ReadDequantize(r, node.inputs[1]);
    const bool computed = second && !r.graph().IsConstant(second->integers);
    if (computed ? ReadComputedProduct(r, node, &why).has_value() : ReadProduct(r, node, &why).has_value()) {
      why = "it could run on integers and was not seen";
    }
    return why + Neighbours(r, node);
  }
  return "no integer form" + Neighbours(r, node);
}

}  // namespace

std::string FloatLineStart(Op op, const std::string& node_name) {
  return std::string(Name(op)) + " '" + node_name + "': ";
}

std::vector<std::string> WhyFloat(const Graph& graph) {
  std::vector<std::string> lines;
  if (!IsQuantized(graph)) return lines;
  Graph copy = graph;  // shares the data of constants
  const Rewriter r(copy);
  for (const Node& node : graph.nodes) {
    if (!IsFloat(graph[node.outputs[0]].type.dtype) || IsElementwise(node)) continue;
    if (node.op == Op::kReshape) continue;  // moves nothing
    lines.push_back(FloatLineStart(node.op, node.name) + Reason(r, node));
  }
  return lines;
}

}  // namespace tessera
