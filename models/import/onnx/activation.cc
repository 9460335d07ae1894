// ONNX's activations; those without an op of their own are written as the chain that defines them.
#include <cmath>
#include <limits>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// x · f(x).
StatusOr<ValueId> Gate(OnnxNode& node, ValueId x, StatusOr<ValueId> gate) {
  if (!gate.ok()) return gate;
  return node.Emit(Op::kMul, {x, *gate});
}

}  // namespace

Imported ImportClip(OnnxNode& node) {
  const ValueId x = node.in(0);
  Attrs attrs;
  if (node.opset() < 11) {
    if (node.HasAttr("min")) attrs.Set("min", node.Float("min", 0));
    if (node.HasAttr("max")) attrs.Set("max", node.Float("max", 0));
    return node.Emit(Op::kClip, {x}, std::move(attrs));
  }
  // Bounds that are computed while the model runs, or that cross, become max and min, ONNX's own definition.
  bool known = true;
  for (int k = 1; k <= 2; ++k) {
    if (!node.has(k)) continue;
    if (!node.writer().IsConstant(node.in(k))) {
      known = false;
      continue;
    }
    ASSIGN_OR_RETURN(const double bound, node.ConstScalar(k, k == 1 ? "min" : "max"));
    attrs.Set(k == 1 ? "min" : "max", bound);
    known = known && !std::isnan(bound) && std::fabs(bound) <= 9007199254740992.0;  // 2^53: exact as a double
  }
  if (known && attrs.Float("min", -std::numeric_limits<double>::infinity()) <=
                   attrs.Float("max", std::numeric_limits<double>::infinity())) {
    return node.Emit(Op::kClip, {x}, std::move(attrs));
  }
  ValueId result = x;
  if (node.has(1)) {
    ASSIGN_OR_RETURN(result, node.Emit(Op::kMax, {result, node.in(1)}));
  }
  if (node.has(2)) {
    ASSIGN_OR_RETURN(result, node.Emit(Op::kMin, {result, node.in(2)}));
  }
  return result;
}

Imported ImportLeakyRelu(OnnxNode& node) {
  return node.Emit(Op::kLeakyRelu, {node.in(0)}, MakeAttrs({{"alpha", node.Float("alpha", 0.01f)}}));
}

Imported ImportElu(OnnxNode& node) {
  return node.Emit(Op::kElu, {node.in(0)}, MakeAttrs({{"alpha", node.Float("alpha", 1)}}));
}

// max(0, x) + min(0, alpha · (exp(x / alpha) - 1)), which is alpha · elu(x / alpha).
Imported ImportCelu(OnnxNode& node) {
  const double alpha = node.Float("alpha", 1);
  if (alpha == 0) return node.Error(ErrorCode::kAttributeInvalid, "expected alpha != 0, found 0");
  ASSIGN_OR_RETURN(const ValueId scaled, node.EmitScalar(Op::kDiv, node.in(0), alpha));
  ASSIGN_OR_RETURN(const ValueId elu, node.Emit(Op::kElu, {scaled}, MakeAttrs({{"alpha", 1.0}})));
  return node.EmitScalar(Op::kMul, elu, alpha);
}

Imported ImportSelu(OnnxNode& node) {
  return node.Emit(Op::kSelu, {node.in(0)},
                   MakeAttrs({{"alpha", node.Float("alpha", 1.67326319217681884765625f)},
                              {"gamma", node.Float("gamma", 1.05070102214813232421875f)}}));
}

// x where x > alpha, else 0.
Imported ImportThresholdedRelu(OnnxNode& node) {
  const ValueId x = node.in(0);
  const ValueId alpha = node.writer().Scalar(node.dtype(x), node.Float("alpha", 1));
  ASSIGN_OR_RETURN(const ValueId above, node.Emit(Op::kLess, {alpha, x}));
  return node.Emit(Op::kWhere, {above, x, node.writer().Scalar(node.dtype(x), 0)});
}

Imported ImportPrelu(OnnxNode& node) {
  const ValueId x = node.in(0);
  ValueId slope = node.in(1);
  // Before opset 7 a vector ran along the channels.
  if (node.opset() < 7 && node.rank(slope) == 1 && node.rank(x) > 1 && node.shape(slope)[0] == node.shape(x)[1]) {
    std::vector<int64_t> dims(node.rank(x) - 1, 1);
    dims[0] = node.shape(x)[1];
    ASSIGN_OR_RETURN(slope, node.Reshape(slope, dims));
  }
  return node.Emit(Op::kPrelu, {x, slope});
}

Imported ImportHardSigmoid(OnnxNode& node) {
  return node.Emit(Op::kHardSigmoid, {node.in(0)},
                   MakeAttrs({{"alpha", node.Float("alpha", 0.2f)}, {"beta", node.Float("beta", 0.5)}}));
}

Imported ImportSwish(OnnxNode& node) {
  const double alpha = node.Float("alpha", 1);
  if (alpha == 1) return node.Emit(Op::kSilu, {node.in(0)});
  ASSIGN_OR_RETURN(const ValueId scaled, node.EmitScalar(Op::kMul, node.in(0), alpha));
  return Gate(node, node.in(0), node.Emit(Op::kSigmoid, {scaled}));
}

// x · tanh(softplus(x)).
Imported ImportMish(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId softplus, node.Emit(Op::kSoftplus, {node.in(0)}));
  return Gate(node, node.in(0), node.Emit(Op::kTanh, {softplus}));
}

Imported ImportGelu(OnnxNode& node) {
  const std::string approximate = node.String("approximate", "none");
  if (approximate != "none" && approximate != "tanh") {
    return node.Error(ErrorCode::kAttributeInvalid, "expected approximate to be none or tanh, found '", approximate,
                      "'");
  }
  return node.Emit(Op::kGelu, {node.in(0)}, MakeAttrs({{"approximate", approximate}}));
}

// gelu(x + bias), the tanh form (com.microsoft).
Imported ImportFastGelu(OnnxNode& node) {
  ValueId x = node.in(0);
  if (node.has(1)) {
    ASSIGN_OR_RETURN(x, node.Emit(Op::kAdd, {x, node.in(1)}));
  }
  return node.Emit(Op::kGelu, {x}, MakeAttrs({{"approximate", std::string("tanh")}}));
}

// x · sigmoid(alpha · x) (com.microsoft).
Imported ImportQuickGelu(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId scaled, node.EmitScalar(Op::kMul, node.in(0), node.Float("alpha", 1.702f)));
  return Gate(node, node.in(0), node.Emit(Op::kSigmoid, {scaled}));
}

}  // namespace tessera
