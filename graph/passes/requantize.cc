#include "graph/passes/requantize.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "graph/passes/affine_body.h"
#include "graph/passes/expression.h"
#include "graph/passes/fuse_epilogues.h"
#include "graph/passes/rewriter.h"

namespace tessera {
namespace {

bool IsNumber(DType type) { return !IsBool(type) && !IsFloat(type); }

// Does an integer become f32 in it, or f32 an integer?
bool MixesIntegersAndReals(const Body& body) {
  return std::any_of(body.insts.begin(), body.insts.end(), [&](const ScalarInst& inst) {
    if (inst.op != ScalarOp::kCast) return false;
    const DType from = body.insts[static_cast<size_t>(inst.args[0])].type;
    return (inst.type == DType::kF32 && IsNumber(from)) || (from == DType::kF32 && IsNumber(inst.type));
  });
}

AffineInput InputOf(const Rewriter& r, ValueId id) {
  return {r.type(id).dtype, r.graph().IsConstant(id) ? &r.value(id).constant : nullptr};
}

class Requantizer {
 public:
  explicit Requantizer(Graph& graph) : r_(graph), exact_(graph.inputs.begin(), graph.inputs.end()) {}

  Status Run() {
    for (NodeId id = r_.First(); id != NodeId::kNone && r_.status().ok(); id = r_.Following(id)) {
      if (r_.node(id).outputs.size() != 1) continue;
      if (!r_.node(id).epilogue && MovesExact(r_.node(id))) exact_.insert(r_.node(id).outputs[0]);
      if (IsElementwise(r_.node(id))) {
        Elementwise(id);
      } else if (r_.node(id).epilogue) {
        Behind(id);
      }
    }
    return std::move(r_).Finish();
  }

 private:
  // Does the interpreter, which computes in double, hold it as a kernel does?
  bool IsExact(ValueId id) const {
    return !IsFloat(r_.type(id).dtype) || r_.graph().IsConstant(id) || exact_.contains(id);
  }
  // Does the node itself, without its epilogue, make what is exact?
  bool MovesExact(const Node& node) const {
    switch (node.op) {
      case Op::kReshape:
      case Op::kTranspose:
      case Op::kSlice:
      case Op::kConcat:
      case Op::kExpand:
      case Op::kTile:
      case Op::kCast:
        return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return IsExact(id); });
      default: return !IsFloat(MakeContext(r_.graph(), node).outputs[0].dtype);
    }
  }

  // The epilogue of a node that is something else besides.
  void Behind(NodeId id) {
    Node node = r_.node(id);
    if (!MixesIntegersAndReals(node.epilogue->body)) return;
    std::vector<AffineInput> inputs = {{MakeContext(r_.graph(), node).outputs[0].dtype, nullptr}};
    for (ValueId operand : node.epilogue->inputs) inputs.push_back(InputOf(r_, operand));
    std::vector<ValueId> ids = {ValueId::kNone};
    ids.insert(ids.end(), node.epilogue->inputs.begin(), node.epilogue->inputs.end());
    Install(id, MakeNode(node.op, node.name, node.inputs, node.attrs), node.epilogue->body, node.epilogue->dtype,
            inputs, ids);
  }

  // A node that is nothing but a body: a cast of one of its operands, to the type in which the body reads it, and the
  // body behind it.
  void Elementwise(NodeId id) {
    const std::optional<Expression> e = ExpressionOf(r_, id);
    if (!e || e->body.uses_index() || !MixesIntegersAndReals(e->body)) return;
    const Shape shape = r_.shape(r_.node(id).outputs[0]);
    // Integers rather than floats, as they are what bodies that can be exact begin with.
    int first = -1;
    for (size_t k = 0; k < e->operands.size(); ++k) {
      const ValueId operand = e->operands[k];
      if (r_.shape(operand) != shape || r_.graph().IsConstant(operand)) continue;
      if (first >= 0 && (IsFloat(r_.type(operand).dtype) || !IsFloat(r_.type(e->operands[first]).dtype))) continue;
      first = static_cast<int>(k);
    }
    if (first < 0) return;
    std::vector<ValueId> ids = e->operands;
    std::swap(ids[0], ids[static_cast<size_t>(first)]);
    Body body = e->body;
    for (ScalarInst& inst : body.insts) {
      if (inst.op != ScalarOp::kInput) continue;
      if (inst.imm_int == 0 || inst.imm_int == first) inst.imm_int = first - inst.imm_int;
    }
    std::vector<AffineInput> inputs;
    for (ValueId operand : ids) inputs.push_back(InputOf(r_, operand));
    const DType to = ComputeType(inputs[0].dtype);
    Node cast = MakeNode(Op::kCast, r_.node(id).name, {ids[0]}, MakeAttrs({{"to", to}}));
    Install(id, std::move(cast), body, e->dtype, inputs, ids);
  }

  // `node` with `body` as its epilogue, made affine, takes the place of `id`. ids[0] is the node's own result.
  void Install(NodeId id, Node node, const Body& body, DType dtype, std::span<const AffineInput> inputs,
               const std::vector<ValueId>& ids) {
    const bool exact =
        MovesExact(node) && std::all_of(ids.begin() + 1, ids.end(), [&](ValueId k) { return IsExact(k); });
    AffineBody affine = MakeAffine(body, inputs, dtype, exact, /*keep_first=*/true);
    if (static_cast<int>(affine.operands.size()) > kMaxEpilogueOperands + 1) return;
    Epilogue epilogue = {.body = std::move(affine.body), .inputs = {}, .dtype = dtype};
    const std::string name = r_.node(id).name + ".scale";
    for (size_t k = 1; k < affine.operands.size(); ++k) {
      AffineOperand& operand = affine.operands[k];
      epilogue.inputs.push_back(operand.old >= 0 ? ids[static_cast<size_t>(operand.old)]
                                                 : r_.Constant(name, std::move(operand.constant)));
    }
    node.epilogue = std::move(epilogue);
    if (exact) exact_.insert(r_.node(id).outputs[0]);
    r_.Rebuild(id, std::move(node));
  }

  Rewriter r_;
  std::set<ValueId> exact_;
};

}  // namespace

Status Requantize(Graph& graph) { return Requantizer(graph).Run(); }

}  // namespace tessera
