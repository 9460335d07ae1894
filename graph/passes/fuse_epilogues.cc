#include "graph/passes/fuse_epilogues.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/constants.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// A value as a function of other values, element by element; the operands broadcast to its shape.
struct Expression {
  Body body;
  std::vector<ValueId> operands;
  DType dtype = DType::kF32;  // as which the value is stored
};

// The value of `operand` inside a body under construction, with constants of one element as numbers.
// `inputs` are the epilogue's operands so far; input 0 of the body is not among them.
Scalar Read(const Graph& graph, ValueId operand, std::vector<ValueId>& inputs, BodyBuilder& b) {
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

// What a reader would see of `x` had it been stored as `dtype`.
Scalar AsStored(BodyBuilder& b, Scalar x, DType dtype) { return IsFloat(dtype) ? x : b.Cast(x, dtype); }

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

// The node as an expression with its epilogue, if it is element-wise.
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

bool IsElementwise(const Node& node) {
  return GetOp(node.op).elementwise() || node.op == Op::kQuantize || node.op == Op::kDequantize;
}

// Who should take in an element-wise reader; 0: nobody.
int Weight(const Node& node) {
  switch (node.op) {
    case Op::kMatmul:
    case Op::kConv:
    case Op::kAttention: return 4;
    case Op::kTranspose:
    case Op::kSlice:
    case Op::kConcat:
    case Op::kPad:
    case Op::kGather:
    case Op::kGatherElements:
    case Op::kResize: return 2;
    case Op::kReshape:
    case Op::kExpand:
    case Op::kTile: return 0;
    default: return IsElementwise(node) ? 1 : 3;
  }
}

class Fuser {
 public:
  explicit Fuser(Graph& graph) : r_(graph) {}

  Status Run() {
    for (NodeId id = r_.First(); id != NodeId::kNone; id = r_.Following(id)) {
      while (JoinProducer(id) || InlineOperand(id)) {
      }
    }
    return std::move(r_).Finish();
  }

 private:
  // Element-wise node `id` becomes its best producer with a longer epilogue.
  bool JoinProducer(NodeId id) {
    if (!IsElementwise(r_.node(id)) || r_.node(id).outputs.size() != 1) return false;
    const Shape shape = r_.shape(r_.node(id).outputs[0]);
    ValueId best = ValueId::kNone;
    std::pair<int, NodeId> best_rank = {0, NodeId::kNone};
    for (ValueId operand : Operands(r_.node(id))) {
      const NodeId maker = r_.Producer(operand);
      if (maker == NodeId::kNone || r_.shape(operand) != shape || !r_.HasOneReader(operand)) continue;
      if (r_.node(maker).outputs.size() != 1) continue;
      // Nodes keep their numbers here, so the larger one is computed later.
      const std::pair<int, NodeId> rank = {Weight(r_.node(maker)), maker};
      if (rank.first == 0 || rank <= best_rank) continue;
      best = operand;
      best_rank = rank;
    }
    return best != ValueId::kNone && Join(best_rank.second, best, id);
  }

  bool Join(NodeId maker, ValueId between, NodeId id) {
    const std::optional<Expression> e = ExpressionOf(r_, id);
    if (!e || e->body.uses_index()) return false;
    Node joined = r_.node(maker);
    Epilogue epilogue;
    BodyBuilder b;
    Scalar x = b.InputAt(0, MakeContext(r_.graph(), joined).outputs[0].dtype);
    if (joined.epilogue) {
      if (joined.epilogue->body.uses_index()) return false;
      std::vector<Scalar> inputs = {x};
      for (ValueId operand : joined.epilogue->inputs) {
        inputs.push_back(Read(r_.graph(), operand, epilogue.inputs, b));
      }
      x = AsStored(b, b.Inline(joined.epilogue->body, inputs), joined.epilogue->dtype);
    }
    std::vector<Scalar> inputs;
    for (ValueId operand : e->operands) {
      inputs.push_back(operand == between ? x : Read(r_.graph(), operand, epilogue.inputs, b));
    }
    epilogue.dtype = e->dtype;
    return Install(id, std::move(joined), std::move(epilogue), b.Finish(b.Inline(e->body, inputs)));
  }

  // An operand of the epilogue of `id` that an element-wise node makes for it alone becomes part of the body.
  bool InlineOperand(NodeId id) {
    if (!r_.node(id).epilogue) return false;
    const Shape shape = r_.shape(r_.node(id).outputs[0]);
    const std::vector<ValueId> operands = r_.node(id).epilogue->inputs;
    for (ValueId operand : operands) {
      const NodeId maker = r_.Producer(operand);
      if (maker == NodeId::kNone || r_.shape(operand) != shape || !r_.HasOneReader(operand)) continue;
      const std::vector<ValueId>& direct = r_.node(id).inputs;
      if (std::find(direct.begin(), direct.end(), operand) != direct.end()) continue;
      const std::optional<Expression> e = ExpressionOf(r_, maker);
      if (!e || e->body.uses_index()) continue;
      Node joined = r_.node(id);
      Epilogue epilogue;
      epilogue.dtype = joined.epilogue->dtype;
      BodyBuilder b;
      std::vector<Scalar> inputs = {b.InputAt(0, MakeContext(r_.graph(), joined).outputs[0].dtype)};
      for (ValueId other : operands) {
        if (other != operand) {
          inputs.push_back(Read(r_.graph(), other, epilogue.inputs, b));
          continue;
        }
        std::vector<Scalar> inner;
        for (ValueId source : e->operands) inner.push_back(Read(r_.graph(), source, epilogue.inputs, b));
        inputs.push_back(AsStored(b, b.Inline(e->body, inner), e->dtype));
      }
      Body body = b.Finish(b.Inline(joined.epilogue->body, inputs));
      if (Install(id, std::move(joined), std::move(epilogue), std::move(body))) return true;
    }
    return false;
  }

  bool Install(NodeId id, Node joined, Epilogue epilogue, Body body) {
    if (static_cast<int>(epilogue.inputs.size()) > kMaxEpilogueOperands ||
        static_cast<int>(body.insts.size()) > kMaxEpilogueInsts) {
      return false;
    }
    body.num_inputs = static_cast<int>(epilogue.inputs.size()) + 1;
    epilogue.body = std::move(body);
    joined.epilogue = std::move(epilogue);
    r_.Rebuild(id, std::move(joined));
    return r_.status().ok();
  }

  Rewriter r_;
};

}  // namespace

Status FuseEpilogues(Graph& graph) { return Fuser(graph).Run(); }

}  // namespace tessera
