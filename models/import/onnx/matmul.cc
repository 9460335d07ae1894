// MatMul, Gemm and their integer and quantised forms.
#include <algorithm>

#include "models/import/onnx/handlers.h"

namespace tessera {
StatusOr<ValueId> EmitMatMul(const OpEmitter& emitter, ValueId a, ValueId b) {
  const int rank_a = emitter.rank(a), rank_b = emitter.rank(b);
  if (rank_a == 0 || rank_b == 0) {
    return emitter.Error(ErrorCode::kShapeMismatch, "expected matrices or vectors, found ", emitter.type(a), " and ",
                         emitter.type(b));
  }
  if (rank_a == 1) {
    ASSIGN_OR_RETURN(a, emitter.Reshape(a, {1, emitter.shape(a)[0]}));
  }
  if (rank_b == 1) {
    ASSIGN_OR_RETURN(b, emitter.Reshape(b, {emitter.shape(b)[0], 1}));
  }
  ASSIGN_OR_RETURN(const ValueId product, emitter.Emit(Op::kMatmul, {a, b}));
  std::vector<int64_t> dims = emitter.shape(product).dims();
  if (rank_b == 1) dims.pop_back();
  if (rank_a == 1) dims.erase(rank_b == 1 ? dims.end() - 1 : dims.end() - 2);
  return emitter.Reshape(product, std::move(dims));
}

Imported ImportMatMul(OnnxNode& node) { return EmitMatMul(node, node.in(0), node.in(1)); }

// alpha · op(a) · op(b) + beta · c.
Imported ImportGemm(OnnxNode& node) {
  const double alpha = node.Float("alpha", 1), beta = node.Float("beta", 1);
  if (node.rank(node.in(0)) != 2 || node.rank(node.in(1)) != 2) {
    return node.Error(ErrorCode::kShapeMismatch, "expected two matrices, found ", node.type(node.in(0)), " and ",
                      node.type(node.in(1)));
  }
  ASSIGN_OR_RETURN(ValueId result, node.Emit(Op::kMatmul, {node.in(0), node.in(1)},
                                             MakeAttrs({{"transpose_a", int64_t{node.Int("transA", 0) != 0}},
                                                        {"transpose_b", int64_t{node.Int("transB", 0) != 0}}})));
  if (alpha != 1) {
    ASSIGN_OR_RETURN(result, node.EmitScalar(Op::kMul, result, alpha));
  }
  if (!node.has(2) || beta == 0) return result;
  ValueId c = node.in(2);
  if (beta != 1) {
    ASSIGN_OR_RETURN(c, node.EmitScalar(Op::kMul, c, beta));
  }
  ASSIGN_OR_RETURN(const ValueId sum, node.Emit(Op::kAdd, {result, c}));
  if (node.shape(sum) != node.shape(result)) {
    return node.Error(ErrorCode::kShapeMismatch, "expected a third operand that broadcasts to ", node.shape(result),
                      ", found ", node.type(c));
  }
  return sum;
}

StatusOr<ValueId> EmitMatMulInteger(const OpEmitter& emitter, ValueId a, ValueId a_zero, ValueId b, ValueId b_zero) {
  ASSIGN_OR_RETURN(a, SubtractZeroPoint(emitter, a, a_zero, std::max(0, emitter.rank(a) - 2)));
  ASSIGN_OR_RETURN(b, SubtractZeroPoint(emitter, b, b_zero, std::max(0, emitter.rank(b) - 1)));
  return EmitMatMul(emitter, a, b);
}

Imported ImportMatMulInteger(OnnxNode& node) {
  return EmitMatMulInteger(node, node.in(0), node.in(2), node.in(1), node.in(3));
}

// Operands: a, its scale and zero point; b, its scale and zero point; the result's scale and zero point.
Imported ImportQLinearMatMul(OnnxNode& node) {
  const int rank_a = node.rank(node.in(0)), rank_b = node.rank(node.in(3));
  ASSIGN_OR_RETURN(const ValueId a, EmitDequantize(node, node.in(0), node.in(1), node.in(2), std::max(0, rank_a - 2)));
  ASSIGN_OR_RETURN(const ValueId b, EmitDequantize(node, node.in(3), node.in(4), node.in(5), std::max(0, rank_b - 1)));
  ASSIGN_OR_RETURN(const ValueId product, EmitMatMul(node, a, b));
  return EmitQuantize(node, product, node.in(6), node.in(7), node.dtype(node.in(7)),
                      std::max(0, node.rank(product) - 2));
}

}  // namespace tessera
