// Operators of ONNX Runtime's own (domain com.microsoft): what its optimiser fuses, and what its quantiser writes where
// ONNX has no quantised form. Each becomes what it was made of. Contracts: docs/ContribOperators.md of ONNX Runtime.
#include <algorithm>
#include <string>
#include <utility>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// "Relu", "Clip", … with its parameters, as FusedConv names what follows it.
StatusOr<ValueId> EmitActivation(OnnxNode& node, ValueId x) {
  const std::string kind = node.String("activation", "");
  const std::vector<double> params = node.Floats("activation_params");
  const auto param = [&](size_t k, double otherwise) { return k < params.size() ? params[k] : otherwise; };
  if (kind.empty()) return x;
  if (kind == "Relu") return node.Emit(Op::kRelu, {x});
  if (kind == "Tanh") return node.Emit(Op::kTanh, {x});
  if (kind == "Sigmoid") return node.Emit(Op::kSigmoid, {x});
  if (kind == "LeakyRelu") return node.Emit(Op::kLeakyRelu, {x}, MakeAttrs({{"alpha", param(0, 0.01)}}));
  if (kind == "HardSigmoid") {
    return node.Emit(Op::kHardSigmoid, {x}, MakeAttrs({{"alpha", param(0, 0.2)}, {"beta", param(1, 0.5)}}));
  }
  if (kind == "Clip" && params.size() == 2) {
    return node.Emit(Op::kClip, {x}, MakeAttrs({{"min", params[0]}, {"max", params[1]}}));
  }
  return node.Error(ErrorCode::kOpUnsupported, "the activation '", kind, "' with ", params.size(),
                    " parameters is not supported");
}

// The type that a result has: its zero point's, or that of an operand where none is given.
DType ResultType(const OnnxNode& node, ValueId zero_point, ValueId operand) {
  return node.dtype(zero_point == ValueId::kNone ? operand : zero_point);
}

// x with its last two dimensions exchanged where asked.
StatusOr<ValueId> Transposed(const OnnxNode& node, ValueId x, bool transposed) {
  if (!transposed) return x;
  const int rank = node.rank(x);
  if (rank < 2) return node.Error(ErrorCode::kShapeMismatch, "expected a matrix, found ", node.type(x));
  std::vector<int64_t> perm(rank);
  for (int d = 0; d < rank; ++d) perm[d] = d;
  std::swap(perm[rank - 1], perm[rank - 2]);
  return node.Transpose(x, std::move(perm));
}

// i32 sums times both scales, plus bias.
StatusOr<ValueId> ScaledSum(const OnnxNode& node, ValueId sum, ValueId a_scale, ValueId b_scale, ValueId bias) {
  ASSIGN_OR_RETURN(ValueId y, node.Cast(sum, node.dtype(a_scale)));
  ASSIGN_OR_RETURN(const ValueId scale, node.Emit(Op::kMul, {a_scale, b_scale}));
  const Shape shape = node.shape(y);
  ASSIGN_OR_RETURN(y, node.Emit(Op::kMul, {y, scale}));
  if (bias != ValueId::kNone) {
    ASSIGN_OR_RETURN(y, node.Emit(Op::kAdd, {y, bias}));
  }
  if (node.shape(y) == shape) return y;
  return node.Error(ErrorCode::kShapeMismatch, "expected scales and bias that broadcast to ", shape, ", found ",
                    node.type(scale));
}

}  // namespace

Imported ImportBiasGelu(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId sum, node.Emit(Op::kAdd, {node.in(0), node.in(1)}));
  return node.Emit(Op::kGelu, {sum});
}

// Operands: x, w, bias?, and a tensor that is added before the activation?
Imported ImportFusedConv(OnnxNode& node) {
  const ValueId addend = node.in(3);
  node.SetInputs({node.in(0), node.in(1), node.in(2)});
  Imported conv = ImportConv(node);
  if (!conv.status.ok()) return conv;
  ValueId y = conv.outputs[0];
  if (addend != ValueId::kNone) {
    ASSIGN_OR_RETURN(y, node.Emit(Op::kAdd, {y, addend}));
  }
  return EmitActivation(node, y);
}

// alpha · op(a) · op(b).
Imported ImportFusedMatMul(OnnxNode& node) {
  if (node.Int("transBatchA", 0) != 0 || node.Int("transBatchB", 0) != 0) {
    return node.Error(ErrorCode::kOpUnsupported, "transBatchA and transBatchB are not supported");
  }
  const bool trans_a = node.Int("transA", 0) != 0, trans_b = node.Int("transB", 0) != 0;
  ASSIGN_OR_RETURN(const ValueId a, Transposed(node, node.in(0), trans_a));
  ASSIGN_OR_RETURN(const ValueId b, Transposed(node, node.in(1), trans_b));
  ASSIGN_OR_RETURN(const ValueId y, EmitMatMul(node, a, b));
  const double alpha = node.Float("alpha", 1);
  return alpha == 1 ? StatusOr<ValueId>(y) : node.EmitScalar(Op::kMul, y, alpha);
}

// Operands: a, its scale and zero point; b likewise; the result's scale and zero point.
Imported ImportQLinearBinaryOp(OnnxNode& node, Op op) {
  ASSIGN_OR_RETURN(const ValueId a, EmitDequantize(node, node.in(0), node.in(1), node.in(2), 0));
  ASSIGN_OR_RETURN(const ValueId b, EmitDequantize(node, node.in(3), node.in(4), node.in(5), 0));
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(op, {a, b}));
  return EmitQuantize(node, y, node.in(6), node.in(7), ResultType(node, node.in(7), node.in(0)), 0);
}

// Operands: x, its scale and zero point; the result's. `handler` knows the operator on reals.
Imported ImportQLinearThrough(OnnxNode& node, OnnxHandler handler) {
  if (node.Int("channels_last", 0) != 0) {
    return node.Error(ErrorCode::kOpUnsupported, "channels_last = 1 is not supported");
  }
  const ValueId scale = node.in(3), zero_point = node.in(4);
  const DType to = ResultType(node, zero_point, node.in(0));
  ASSIGN_OR_RETURN(const ValueId x, EmitDequantize(node, node.in(0), node.in(1), node.in(2), 0));
  node.SetInputs({x});
  Imported result = handler(node);
  if (!result.status.ok()) return result;
  return EmitQuantize(node, result.outputs[0], scale, zero_point, to, 0);
}

// Operands: the result's scale and zero point, then each tensor with its scale and zero point.
Imported ImportQLinearConcat(OnnxNode& node) {
  std::vector<ValueId> parts;
  for (int k = 2; k < node.num_inputs(); k += 3) {
    if (!node.has(k) || !node.has(k + 1)) {
      return node.Error(ErrorCode::kAttributeInvalid, "expected a tensor, a scale and a zero point for each part");
    }
    ASSIGN_OR_RETURN(const ValueId part, EmitDequantize(node, node.in(k), node.in(k + 1), node.in(k + 2), 0));
    parts.push_back(part);
  }
  const ValueId scale = node.in(0), zero_point = node.in(1);
  const DType to = ResultType(node, zero_point, node.in(2));
  node.SetInputs(std::move(parts));
  Imported whole = ImportConcat(node);
  if (!whole.status.ok()) return whole;
  return EmitQuantize(node, whole.outputs[0], scale, zero_point, to, 0);
}

// alpha · op(a) · op(b) + c. Operands: a, b with scale and zero point each; c in i32, at alpha times both scales?; the
// result's scale and zero point, without which it is real.
Imported ImportQGemm(OnnxNode& node) {
  const bool trans_b = node.Int("transB", 0) != 0;
  const double alpha = node.Float("alpha", 1);
  ASSIGN_OR_RETURN(const ValueId a, EmitDequantize(node, node.in(0), node.in(1), node.in(2), 0));
  ASSIGN_OR_RETURN(const ValueId b, EmitDequantize(node, node.in(3), node.in(4), node.in(5), trans_b ? 0 : 1));
  const ValueId c = node.in(6), scale = node.in(7), zero_point = node.in(8);
  const DType to = ResultType(node, zero_point, node.in(0));
  ValueId bias = ValueId::kNone;
  if (c != ValueId::kNone) {
    ASSIGN_OR_RETURN(ValueId c_scale, node.Emit(Op::kMul, {node.in(1), node.in(4)}));
    if (alpha != 1) {
      ASSIGN_OR_RETURN(c_scale, node.EmitScalar(Op::kMul, c_scale, alpha));
    }
    ASSIGN_OR_RETURN(bias, EmitDequantize(node, c, c_scale, ValueId::kNone, std::max(0, node.rank(c) - 1)));
  }
  node.SetInputs({a, b, bias});
  Imported y = ImportGemm(node);
  if (!y.status.ok() || scale == ValueId::kNone) return y;
  return EmitQuantize(node, y.outputs[0], scale, zero_point, to, 0);
}

// Operands: a, b, their scales, their zero points?, a bias?
Imported ImportMatMulIntegerToFloat(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId sum, EmitMatMulInteger(node, node.in(0), node.in(4), node.in(1), node.in(5)));
  return ScaledSum(node, sum, node.in(2), node.in(3), node.in(6));
}

// Operands: a real, b, its scale, its zero point?, a bias?
Imported ImportDynamicQuantizeMatMul(OnnxNode& node) {
  ASSIGN_OR_RETURN(const std::vector<ValueId> a, EmitDynamicQuantize(node, node.in(0)));
  ASSIGN_OR_RETURN(const ValueId sum, EmitMatMulInteger(node, a[0], a[2], node.in(1), node.in(3)));
  return ScaledSum(node, sum, a[1], node.in(2), node.in(4));
}

// a · wᵀ with w [N, K] of 4 or 8 bits in blocks along K. Operands: a; w as bytes [N, blocks, bytes of a block], low
// half first; scales of all blocks; zero points in as many bits?; g_idx, which must be absent; a bias?
Imported ImportMatMulNBits(OnnxNode& node) {
  const int64_t k = node.Int("K", 0), n = node.Int("N", 0), bits = node.Int("bits", 4);
  const int64_t block = node.Int("block_size", 0);
  if (bits != 4 && bits != 8) {
    return node.Error(ErrorCode::kOpUnsupported, "expected weights of 4 or 8 bits, found ", bits);
  }
  if (k <= 0 || n <= 0 || block < 16 || block > (1 << 20) || k > (1 << 24) || n > (1 << 24)) {
    return node.Error(ErrorCode::kAttributeInvalid, "K = ", k, ", N = ", n, ", block_size = ", block,
                      " are out of range");
  }
  if (node.has(4)) return node.Error(ErrorCode::kOpUnsupported, "the operand g_idx is not supported");
  const int64_t blocks = (k + block - 1) / block, block_bytes = block * bits / 8;
  ASSIGN_OR_RETURN(const Tensor packed, node.Const(1, "the weight"));
  if (packed.dtype() != DType::kU8 || packed.num_elements() != n * blocks * block_bytes ||
      node.shape(node.in(2)).num_elements() != n * blocks) {
    return node.Error(ErrorCode::kShapeMismatch, "expected u8[", n, ",", blocks, ",", block_bytes,
                      "] and a scale for each block, found ", packed.type(), " and ", node.type(node.in(2)));
  }
  // Without zero points the middle stands for 0, and the integers can be signed instead.
  const bool shifted = node.has(3);
  const DType type = bits == 4 ? (shifted ? DType::kU4 : DType::kI4) : (shifted ? DType::kU8 : DType::kI8);
  const int64_t middle = shifted ? 0 : int64_t{1} << (bits - 1);
  const auto unpacked = [&](const Tensor& bytes, int64_t row_bytes, int64_t row, int64_t at) {
    const int64_t byte = bytes.GetInt(row * row_bytes + at * bits / 8);
    return (bits == 8 ? byte : at % 2 == 0 ? byte & 15 : byte >> 4) - middle;
  };
  Tensor weight(type, {n, k});
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t at = 0; at < k; ++at) {
      weight.SetInt(row * k + at, unpacked(packed, blocks * block_bytes, row, at));
    }
  }
  ValueId zero_point = ValueId::kNone;
  if (shifted) {
    ASSIGN_OR_RETURN(const Tensor points, node.Const(3, "the zero points"));
    const int64_t row_bytes = (blocks * bits + 7) / 8;
    if (points.dtype() != DType::kU8 || points.num_elements() != n * row_bytes) {
      return node.Error(ErrorCode::kOpUnsupported, "expected zero points u8[", n, ",", row_bytes, "], found ",
                        points.type());
    }
    Tensor all(type, {n, blocks});
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t at = 0; at < blocks; ++at) all.SetInt(row * blocks + at, unpacked(points, row_bytes, row, at));
    }
    zero_point = node.writer().AddConstant(node.name() + ".zero_point", std::move(all));
  }
  ASSIGN_OR_RETURN(const ValueId scales, node.Reshape(node.in(2), {n, blocks}));
  ConstantOrigin origin = node.writer().origin(node.in(1));
  origin.declared.clear();
  origin.mask.reset();
  origin.type = weight.type();
  const std::string name = origin.name.empty() ? node.name() + ".weight" : origin.name;
  const ValueId w = node.writer().AddConstant(name, std::move(weight), std::move(origin));
  ASSIGN_OR_RETURN(const ValueId reals, EmitDequantize(node, w, scales, zero_point, 1, block));
  ASSIGN_OR_RETURN(ValueId a, node.Cast(node.in(0), node.dtype(reals)));
  if (node.rank(a) == 1) {
    ASSIGN_OR_RETURN(a, node.Reshape(a, {1, node.shape(a)[0]}));
  }
  ASSIGN_OR_RETURN(ValueId y, node.Emit(Op::kMatmul, {a, reals}, MakeAttrs({{"transpose_b", int64_t{1}}})));
  if (node.rank(node.in(0)) == 1) {
    ASSIGN_OR_RETURN(y, node.Reshape(y, {n}));
  }
  if (node.has(5)) {
    ASSIGN_OR_RETURN(y, node.Emit(Op::kAdd, {y, node.in(5)}));
  }
  return node.Cast(y, node.dtype(node.in(0)));
}

}  // namespace tessera
