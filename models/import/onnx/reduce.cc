// Reductions, ArgMax/ArgMin and the softmax family.
#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// The reduced axes: from the attribute, or since opset 13 (ReduceSum) and 18 (the others) from operand 1. None means
// all, unless noop_with_empty_axes says that none means none.
StatusOr<std::vector<int64_t>> ReducedAxes(OnnxNode& node) {
  const int rank = node.rank(node.in(0));
  ASSIGN_OR_RETURN(const std::optional<std::vector<int64_t>> axes, node.IntsAttrOrInput("axes", 1));
  if (axes && !axes->empty()) return node.Axes(*axes, rank);
  std::vector<int64_t> all;
  if (node.Int("noop_with_empty_axes", 0) == 0) {
    for (int d = 0; d < rank; ++d) all.push_back(d);
  }
  return all;
}

// What a reduction over no axes does to each element.
StatusOr<ValueId> ReduceNothing(const OnnxNode& node, Op op, ValueId x) {
  switch (op) {
    case Op::kReduceL1:
    case Op::kReduceL2: return node.Emit(Op::kAbs, {x});
    case Op::kReduceSumSquare: return node.Emit(Op::kMul, {x, x});
    default: return x;
  }
}

bool NeedsFloat(Op op) { return op == Op::kReduceMean || op == Op::kReduceL2 || op == Op::kReduceLogSumExp; }

}  // namespace

Imported ImportReduceOp(OnnxNode& node, Op op) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> axes, ReducedAxes(node));
  ValueId x = node.in(0);
  const DType given = node.dtype(x);
  // Means and norms of integers go through f64 and are cut off again; bool (opset 20) reduces as a byte.
  if (NeedsFloat(op) && !IsFloat(given)) {
    ASSIGN_OR_RETURN(x, node.Cast(x, DType::kF64));
  } else if (IsBool(given)) {
    ASSIGN_OR_RETURN(x, node.Cast(x, DType::kU8));
  }
  ValueId y;
  if (axes.empty()) {
    ASSIGN_OR_RETURN(y, ReduceNothing(node, op, x));
  } else {
    ASSIGN_OR_RETURN(
        y, node.Emit(op, {x}, MakeAttrs({{"axes", axes}, {"keepdims", int64_t{node.Int("keepdims", 1) != 0}}})));
  }
  return node.Cast(y, given);
}

Imported ImportReduceLogSum(OnnxNode& node) {
  Imported sum = ImportReduceOp(node, Op::kReduceSum);
  if (!sum.status.ok()) return sum;
  return node.Emit(Op::kLog, {sum.outputs[0]});
}

Imported ImportArgOp(OnnxNode& node, Op op) {
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 0), node.rank(node.in(0))));
  return node.Emit(op, {node.in(0)},
                   MakeAttrs({{"axis", axis},
                              {"keepdims", int64_t{node.Int("keepdims", 1) != 0}},
                              {"select_last", int64_t{node.Int("select_last_index", 0) != 0}}}));
}

Imported ImportSoftmaxOp(OnnxNode& node, Op op) {
  const ValueId x = node.in(0);
  const int rank = node.rank(x);
  if (node.opset() >= 13) {
    ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", -1), rank));
    return node.Emit(op, {x}, MakeAttrs({{"axis", axis}}));
  }
  // Up to opset 12 everything from the axis on is one dimension.
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 1), rank));
  if (axis == rank - 1) return node.Emit(op, {x}, MakeAttrs({{"axis", axis}}));
  const std::vector<int64_t> dims = node.shape(x).dims();
  int64_t rows = 1, columns = 1;
  for (int d = 0; d < rank; ++d) (d < axis ? rows : columns) *= dims[d];
  ASSIGN_OR_RETURN(const ValueId flat, node.Reshape(x, {rows, columns}));
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(op, {flat}, MakeAttrs({{"axis", int64_t{1}}})));
  return node.Reshape(y, dims);
}

}  // namespace tessera
