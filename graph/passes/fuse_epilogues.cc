#include "graph/passes/fuse_epilogues.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/expression.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

// Who should take in an element-wise reader; 0: nobody.
int Weight(const Node& node) {
  switch (node.op) {
    case Op::kMatmul:
    case Op::kScaledMatmul:
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
        inputs.push_back(ReadOperand(r_.graph(), operand, epilogue.inputs, b));
      }
      x = AsStored(b, b.Inline(joined.epilogue->body, inputs), joined.epilogue->dtype);
    }
    std::vector<Scalar> inputs;
    for (ValueId operand : e->operands) {
      inputs.push_back(operand == between ? x : ReadOperand(r_.graph(), operand, epilogue.inputs, b));
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
          inputs.push_back(ReadOperand(r_.graph(), other, epilogue.inputs, b));
          continue;
        }
        std::vector<Scalar> inner;
        for (ValueId source : e->operands) inner.push_back(ReadOperand(r_.graph(), source, epilogue.inputs, b));
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
