#include "graph/passes/expression.h"

#include <algorithm>
#include <utility>

#include "graph/op.h"
#include "graph/passes/constants.h"

namespace tessera {
namespace {

// Of quantize and dequantize, where scales broadcast.
std::optional<Expression> ScaledExpression(Rewriter& r, const Node& node) {
  if (node.attrs.Int("block_size", 0) != 0) return std::nullopt;
  const OpContext context = MakeContext(r.graph(), node);
  Expression e = {GetOp(node.op).compute(context).stages[0].body, node.inputs, context.outputs[0].dtype};
  const int rank = r.shape(node.inputs[0]).rank();
  const int axis = static_cast<int>(node.attrs.Int("axis", rank - 1));
  if (e.operands.size() > 2 && e.operands[2] == ValueId::kNone) e.operands.pop_back();
  for (size_t k = 1; k < e.operands.size(); ++k) {
    const Shape scales = r.shape(e.operands[k]);
    if (scales.num_elements() == 1 || axis == rank - 1) continue;
    if (!r.graph().IsConstant(e.operands[k])) return std::nullopt;
    std::vector<int64_t> dims(rank - axis, 1);
    dims[0] = scales[0];
    e.operands[k] = ReshapedConstant(r, e.operands[k], Shape(std::move(dims)));
  }
  return e;
}

}  // namespace

bool IsElementwise(const Node& node) {
  return GetOp(node.op).elementwise() || node.op == Op::kQuantize || node.op == Op::kDequantize;
}

std::optional<Expression> ExpressionOf(Rewriter& r, NodeId id) {
  const Node& node = r.node(id);
  std::optional<Expression> e;
  if (node.op == Op::kQuantize || node.op == Op::kDequantize) {
    e = ScaledExpression(r, Node(node));
  } else if (GetOp(node.op).elementwise()) {
    const OpContext context = MakeContext(r.graph(), node);
    e = {GetOp(node.op).body(context), node.inputs, context.outputs[0].dtype};
  }
  if (!e || e->body.uses_index() || !r.node(id).epilogue) return e;
  const Epilogue& epilogue = *r.node(id).epilogue;
  if (epilogue.body.uses_index()) return std::nullopt;
  BodyBuilder b;
  std::vector<Scalar> inputs;
  for (ValueId operand : e->operands) inputs.push_back(b.Input(r.type(operand).dtype));
  std::vector<Scalar> epilogue_inputs = {AsStored(b, b.Inline(e->body, inputs), e->dtype)};
  for (ValueId operand : epilogue.inputs) {
    epilogue_inputs.push_back(b.Input(r.type(operand).dtype));
    e->operands.push_back(operand);
  }
  e->body = b.Finish(b.Inline(epilogue.body, epilogue_inputs));
  e->dtype = epilogue.dtype;
  return e;
}

Scalar ReadOperand(const Graph& graph, ValueId operand, std::vector<ValueId>& inputs, BodyBuilder& b) {
  const TensorType& type = graph[operand].type;
  if (graph.IsConstant(operand) && type.shape.num_elements() == 1) {
    const Tensor& data = graph[operand].constant;
    const DType compute = ComputeType(type.dtype);
    return IsFloat(compute) ? b.Const(compute, data.Get(0)) : b.ConstInt(compute, data.GetInt(0));
  }
  size_t k = std::find(inputs.begin(), inputs.end(), operand) - inputs.begin();
  if (k == inputs.size()) inputs.push_back(operand);
  return b.InputAt(static_cast<int>(k) + 1, type.dtype);
}

Scalar AsStored(BodyBuilder& b, Scalar x, DType dtype) { return IsFloat(dtype) ? x : b.Cast(x, dtype); }

}  // namespace tessera
