// Element-wise ONNX operators, casts among them, and those that leave their operand as it is.
#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// Before opset 7 a binary operator broadcast its second operand only when told so, from `axis` on.
StatusOr<ValueId> LegacyBroadcast(OnnxNode& node, ValueId a, ValueId b) {
  if (node.opset() >= 7 || node.Int("broadcast", 0) == 0 || !node.HasAttr("axis")) return b;
  ASSIGN_OR_RETURN(const int64_t axis, node.Axis(node.Int("axis", 0), node.rank(a)));
  std::vector<int64_t> dims = node.shape(b).dims();
  if (axis + static_cast<int64_t>(dims.size()) > node.rank(a)) {
    return node.Error(ErrorCode::kShapeMismatch, "cannot broadcast ", node.type(b), " to ", node.type(a), " from axis ",
                      axis);
  }
  dims.resize(node.rank(a) - axis, 1);
  return node.Reshape(b, std::move(dims));
}

// All elements are 0 or 1, and both occur.
bool IsBinaryMask(const Tensor& tensor) {
  bool zero = false, one = false;
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    const double value = tensor.Get(i);
    if (value != 0 && value != 1) return false;
    (value == 0 ? zero : one) = true;
  }
  return zero && one;
}

}  // namespace

Imported ImportUnaryOp(OnnxNode& node, Op op) { return node.Emit(op, {node.in(0)}); }

Imported ImportBinaryOp(OnnxNode& node, Op op, bool swapped) {
  ASSIGN_OR_RETURN(const ValueId b, LegacyBroadcast(node, node.in(0), node.in(1)));
  if (swapped) return node.Emit(op, {b, node.in(0)});
  return node.Emit(op, {node.in(0), b});
}

Imported ImportVariadicOp(OnnxNode& node, Op op) {
  ValueId result = node.in(0);
  for (int k = 1; k < node.num_inputs(); ++k) {
    if (!node.has(k)) return node.Error(ErrorCode::kGraphInvalid, "operand ", k, " is required, found none");
    ASSIGN_OR_RETURN(result, node.Emit(op, {result, node.in(k)}));
  }
  return result;
}

Imported ImportMean(OnnxNode& node) {
  Imported sum = ImportVariadicOp(node, Op::kAdd);
  if (!sum.status.ok()) return sum;
  return node.EmitScalar(Op::kDiv, sum.outputs[0], node.num_inputs());
}

Imported ImportTan(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId sine, node.Emit(Op::kSin, {node.in(0)}));
  ASSIGN_OR_RETURN(const ValueId cosine, node.Emit(Op::kCos, {node.in(0)}));
  return node.Emit(Op::kDiv, {sine, cosine});
}

Imported ImportIsInf(OnnxNode& node) {
  return node.Emit(Op::kIsInf, {node.in(0)},
                   MakeAttrs({{"positive", int64_t{node.Int("detect_positive", 1) != 0}},
                              {"negative", int64_t{node.Int("detect_negative", 1) != 0}}}));
}

Imported ImportCast(OnnxNode& node) {
  StatusOr<DType> to = DTypeFromOnnx(static_cast<int>(node.Int("to", 0)));
  if (!to.ok()) return to.status().WithContext(node.Where());
  ValueId x = node.in(0);
  // Our cast to f8e4m3 saturates and to f8e5m2 overflows to infinity; ONNX lets the node choose (opset 19).
  if ((*to == DType::kF8E4M3 || *to == DType::kF8E5M2) && IsFloat(node.dtype(x))) {
    const bool saturate = node.Int("saturate", 1) != 0;
    if (!saturate && *to == DType::kF8E4M3) {
      return node.Error(ErrorCode::kOpUnsupported, "a cast to FLOAT8E4M3FN with saturate = 0 is not supported");
    }
    if (saturate && *to == DType::kF8E5M2) {
      ASSIGN_OR_RETURN(x, node.Emit(Op::kClip, {x}, MakeAttrs({{"min", -57344.0}, {"max", 57344.0}})));
    }
  }
  return node.Cast(x, *to);
}

Imported ImportCastLike(OnnxNode& node) { return node.Cast(node.in(0), node.dtype(node.in(1))); }

Imported ImportMul(OnnxNode& node) {
  Imported product = ImportBinaryOp(node, Op::kMul, false);
  if (!product.status.ok() || !node.writer().IsConstant(product.outputs[0])) return product;
  // weight · mask, as pruning tools export it: the mask is a declaration.
  const ValueId result = product.outputs[0];
  for (int k = 0; k < 2; ++k) {
    const ValueId mask = node.in(k), weight = node.in(1 - k);
    if (node.rank(weight) < 2 || node.shape(mask) != node.shape(result)) continue;
    if (!IsBinaryMask(node.writer().constant(mask)) || IsBinaryMask(node.writer().constant(weight))) continue;
    ConstantOrigin origin = node.writer().origin(weight);
    origin.declared = "0/1 mask '" + node.writer().graph()[mask].name + "'";
    ASSIGN_OR_RETURN(origin.mask, MaskFromTensor(node.writer().constant(mask)));
    node.writer().SetOrigin(result, std::move(origin));
  }
  return product;
}

Imported ImportPow(OnnxNode& node) {
  ASSIGN_OR_RETURN(ValueId exponent, LegacyBroadcast(node, node.in(0), node.in(1)));
  ValueId base = node.in(0);
  const DType result = node.dtype(base);
  // The type of the result is the base's; a float exponent of an integer base is computed in that float type.
  if (IsFloat(node.dtype(exponent)) && !IsFloat(result)) {
    ASSIGN_OR_RETURN(base, node.Cast(base, node.dtype(exponent)));
  } else {
    ASSIGN_OR_RETURN(exponent, node.Cast(exponent, result));
  }
  ASSIGN_OR_RETURN(const ValueId power, node.Emit(Op::kPow, {base, exponent}));
  return node.Cast(power, result);
}

Imported ImportMod(OnnxNode& node) {
  return node.Emit(Op::kMod, {node.in(0), node.in(1)}, MakeAttrs({{"fmod", int64_t{node.Int("fmod", 0) != 0}}}));
}

Imported ImportWhere(OnnxNode& node) { return node.Emit(Op::kWhere, {node.in(0), node.in(1), node.in(2)}); }

Imported ImportIdentity(OnnxNode& node) { return node.in(0); }

Imported ImportDropout(OnnxNode& node) {
  const bool training = node.opset() >= 12 ? node.has(2) : node.opset() < 7 && node.Int("is_test", 0) == 0;
  if (training && node.opset() >= 12) {
    ASSIGN_OR_RETURN(const double mode, node.ConstScalar(2, "training_mode"));
    double ratio = 0.5;
    if (node.has(1)) {
      ASSIGN_OR_RETURN(ratio, node.ConstScalar(1, "ratio"));
    }
    if (mode != 0 && ratio != 0) {
      return node.Error(ErrorCode::kOpUnsupported,
                        "training mode draws random numbers; export the model for inference");
    }
  }
  std::vector<ValueId> outputs = {node.in(0)};
  if (node.wants(1)) {
    ASSIGN_OR_RETURN(const ValueId mask, node.Expand(node.writer().Scalar(DType::kBool, 1), node.shape(node.in(0))));
    outputs.push_back(mask);
  }
  return outputs;
}

}  // namespace tessera
