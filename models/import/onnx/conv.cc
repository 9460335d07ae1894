// Convolutions over any number of spatial dims, and their integer and quantised forms.
#include <algorithm>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// conv(x, w) with the attributes of the node.
StatusOr<ValueId> EmitConv(OnnxNode& node, ValueId x, ValueId w) {
  if (node.rank(x) < 3 || node.rank(w) != node.rank(x)) {
    return node.Error(ErrorCode::kShapeMismatch, "expected an input [N,C,…] and a weight of as many dimensions, found ",
                      node.type(x), " and ", node.type(w));
  }
  const Shape weight = node.shape(w);
  const std::vector<int64_t> kernel(weight.begin() + 2, weight.end());
  ASSIGN_OR_RETURN(SpatialWindow window, ReadWindow(node, node.shape(x), kernel));
  if (window.kernel != kernel) {
    return node.Error(ErrorCode::kAttributeInvalid, "kernel_shape is ", Shape(window.kernel), ", the weight is ",
                      node.type(w));
  }
  return node.Emit(Op::kConv, {x, w},
                   MakeAttrs({{"strides", window.strides},
                              {"dilations", window.dilations},
                              {"pads", window.pads},
                              {"groups", node.Int("group", 1)},
                              {"layout", std::string("nchw")}}));
}

}  // namespace

Imported ImportConv(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId y, EmitConv(node, node.in(0), node.in(1)));
  if (!node.has(2)) return y;
  return node.AddAlong(y, node.in(2), 1);
}

Imported ImportConvInteger(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, SubtractZeroPoint(node, node.in(0), node.in(2), 1));
  ASSIGN_OR_RETURN(const ValueId w, SubtractZeroPoint(node, node.in(1), node.in(3), 0));
  return EmitConv(node, x, w);
}

// Operands: x, its scale and zero point; w, its scale and zero point; the result's scale and zero point; a bias in i32
// whose scale is that of x times that of w.
Imported ImportQLinearConv(OnnxNode& node) {
  ASSIGN_OR_RETURN(const ValueId x, EmitDequantize(node, node.in(0), node.in(1), node.in(2), 1));
  ASSIGN_OR_RETURN(const ValueId w, EmitDequantize(node, node.in(3), node.in(4), node.in(5), 0));
  ASSIGN_OR_RETURN(ValueId y, EmitConv(node, x, w));
  if (node.has(8)) {
    ASSIGN_OR_RETURN(const ValueId scale, node.Emit(Op::kMul, {node.in(1), node.in(4)}));
    ASSIGN_OR_RETURN(const ValueId bias, EmitDequantize(node, node.in(8), scale, ValueId::kNone, 0));
    ASSIGN_OR_RETURN(y, node.AddAlong(y, bias, 1));
  }
  return EmitQuantize(node, y, node.in(6), node.in(7), node.dtype(node.in(7)), 1);
}

}  // namespace tessera
