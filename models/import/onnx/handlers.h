// The handlers of onnx_ops.def, by family: each turns one ONNX node, in any of its forms, into ops of our graph.
//
// Only onnx_importer.cc includes this. To add an operator: a handler in the file of its family, its declaration here,
// its row in onnx_ops.def; node_test.cc then runs ONNX's own tests of it.
#ifndef TESSERA_MODELS_IMPORT_ONNX_HANDLERS_H_
#define TESSERA_MODELS_IMPORT_ONNX_HANDLERS_H_

#include "models/import/onnx/onnx_node.h"

namespace tessera {

using OnnxHandler = Imported (*)(OnnxNode& node);

// elementwise.cc
Imported ImportUnaryOp(OnnxNode& node, Op op);
Imported ImportBinaryOp(OnnxNode& node, Op op, bool swapped);
Imported ImportVariadicOp(OnnxNode& node, Op op);
template <Op op>
Imported ImportUnary(OnnxNode& node) {
  return ImportUnaryOp(node, op);
}
template <Op op>
Imported ImportBinary(OnnxNode& node) {
  return ImportBinaryOp(node, op, false);
}
template <Op op>
Imported ImportSwapped(OnnxNode& node) {
  return ImportBinaryOp(node, op, true);
}
template <Op op>
Imported ImportVariadic(OnnxNode& node) {
  return ImportVariadicOp(node, op);
}
Imported ImportTan(OnnxNode& node);
Imported ImportIsInf(OnnxNode& node);
Imported ImportCast(OnnxNode& node);
Imported ImportCastLike(OnnxNode& node);
Imported ImportMul(OnnxNode& node);
Imported ImportPow(OnnxNode& node);
Imported ImportMod(OnnxNode& node);
Imported ImportMean(OnnxNode& node);
Imported ImportWhere(OnnxNode& node);
Imported ImportIdentity(OnnxNode& node);
Imported ImportDropout(OnnxNode& node);

// activation.cc
Imported ImportClip(OnnxNode& node);
Imported ImportLeakyRelu(OnnxNode& node);
Imported ImportElu(OnnxNode& node);
Imported ImportCelu(OnnxNode& node);
Imported ImportSelu(OnnxNode& node);
Imported ImportThresholdedRelu(OnnxNode& node);
Imported ImportPrelu(OnnxNode& node);
Imported ImportHardSigmoid(OnnxNode& node);
Imported ImportSwish(OnnxNode& node);
Imported ImportMish(OnnxNode& node);
Imported ImportGelu(OnnxNode& node);
Imported ImportFastGelu(OnnxNode& node);
Imported ImportQuickGelu(OnnxNode& node);

// contrib.cc: operators of ONNX Runtime's own (com.microsoft), which its optimiser and its quantiser write.
Imported ImportBiasGelu(OnnxNode& node);
Imported ImportFusedConv(OnnxNode& node);
Imported ImportFusedMatMul(OnnxNode& node);
Imported ImportQLinearBinaryOp(OnnxNode& node, Op op);
template <Op op>
Imported ImportQLinearBinary(OnnxNode& node) {
  return ImportQLinearBinaryOp(node, op);
}
Imported ImportQLinearThrough(OnnxNode& node, OnnxHandler handler);
template <OnnxHandler handler>
Imported ImportQLinear(OnnxNode& node) {
  return ImportQLinearThrough(node, handler);
}
Imported ImportQLinearConcat(OnnxNode& node);
Imported ImportQGemm(OnnxNode& node);
Imported ImportMatMulIntegerToFloat(OnnxNode& node);
Imported ImportDynamicQuantizeMatMul(OnnxNode& node);
Imported ImportMatMulNBits(OnnxNode& node);

// contrib_attention.cc: attention as ONNX Runtime's optimiser writes it.
Imported ImportContribAttention(OnnxNode& node);
Imported ImportMultiHeadAttention(OnnxNode& node);

// matmul.cc
Imported ImportMatMul(OnnxNode& node);
Imported ImportGemm(OnnxNode& node);
Imported ImportMatMulInteger(OnnxNode& node);
// (a - a_zero) x (b - b_zero) as i32; zero points may be kNone.
StatusOr<ValueId> EmitMatMulInteger(const OpEmitter& emitter, ValueId a, ValueId a_zero, ValueId b, ValueId b_zero);
Imported ImportQLinearMatMul(OnnxNode& node);
// a x b with the rules of NumPy's matmul, one-dimensional operands included.
StatusOr<ValueId> EmitMatMul(const OpEmitter& emitter, ValueId a, ValueId b);

// conv.cc
Imported ImportConv(OnnxNode& node);
Imported ImportConvInteger(OnnxNode& node);
Imported ImportQLinearConv(OnnxNode& node);

// pool.cc
Imported ImportMaxPool(OnnxNode& node);
Imported ImportAveragePool(OnnxNode& node);
Imported ImportGlobalPoolOp(OnnxNode& node, Op op);
template <Op op>
Imported ImportGlobalPool(OnnxNode& node) {
  return ImportGlobalPoolOp(node, op);
}
// The attributes kernel_shape, strides, pads, dilations and auto_pad of Conv and the poolings, over the dims of `x`
// from 2 on; `kernel` when kernel_shape is absent.
StatusOr<SpatialWindow> ReadWindow(OnnxNode& node, const Shape& x, std::vector<int64_t> kernel);

// resize.cc
Imported ImportResize(OnnxNode& node);
Imported ImportUpsample(OnnxNode& node);

// reduce.cc
Imported ImportReduceOp(OnnxNode& node, Op op);
Imported ImportArgOp(OnnxNode& node, Op op);
Imported ImportSoftmaxOp(OnnxNode& node, Op op);
template <Op op>
Imported ImportReduce(OnnxNode& node) {
  return ImportReduceOp(node, op);
}
template <Op op>
Imported ImportArg(OnnxNode& node) {
  return ImportArgOp(node, op);
}
template <Op op>
Imported ImportSoftmax(OnnxNode& node) {
  return ImportSoftmaxOp(node, op);
}
Imported ImportReduceLogSum(OnnxNode& node);

// norm.cc
Imported ImportBatchNormalization(OnnxNode& node);
Imported ImportLayerNormalization(OnnxNode& node);
Imported ImportInstanceNormalization(OnnxNode& node);
Imported ImportSkipLayerNormalization(OnnxNode& node);

// movement.cc
Imported ImportReshape(OnnxNode& node);
Imported ImportFlatten(OnnxNode& node);
Imported ImportSqueeze(OnnxNode& node);
Imported ImportUnsqueeze(OnnxNode& node);
Imported ImportTranspose(OnnxNode& node);
Imported ImportExpand(OnnxNode& node);
Imported ImportTile(OnnxNode& node);
Imported ImportSlice(OnnxNode& node);
Imported ImportSplit(OnnxNode& node);
Imported ImportConcat(OnnxNode& node);
Imported ImportPad(OnnxNode& node);
Imported ImportGather(OnnxNode& node);
Imported ImportGatherElements(OnnxNode& node);
Imported ImportDepthToSpace(OnnxNode& node);
Imported ImportSpaceToDepth(OnnxNode& node);

// constant.cc
Imported ImportShape(OnnxNode& node);
Imported ImportSize(OnnxNode& node);
Imported ImportConstant(OnnxNode& node);
Imported ImportConstantOfShape(OnnxNode& node);
Imported ImportRange(OnnxNode& node);

// quantize.cc
Imported ImportQuantizeLinear(OnnxNode& node);
Imported ImportDequantizeLinear(OnnxNode& node);
Imported ImportDynamicQuantizeLinear(OnnxNode& node);
// A real tensor from integers with scale and zero point (kNone: 0); per tensor, or along `axis` when the scale is a
// vector longer than 1.
StatusOr<ValueId> EmitDequantize(const OpEmitter& emitter, ValueId x, ValueId scale, ValueId zero_point, int64_t axis,
                                 int64_t block_size = 0);
// x - zero_point as i32, or x itself when the zero point is absent or known to be 0. A vector runs along `axis`.
StatusOr<ValueId> SubtractZeroPoint(const OpEmitter& emitter, ValueId x, ValueId zero_point, int axis);
// x as u8, its scale and its zero point, found from its values.
StatusOr<std::vector<ValueId>> EmitDynamicQuantize(const OpEmitter& emitter, ValueId x);
// The reverse of EmitDequantize; the element type is `to`.
StatusOr<ValueId> EmitQuantize(const OpEmitter& emitter, ValueId x, ValueId scale, ValueId zero_point, DType to,
                               int64_t axis, int64_t block_size = 0);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_ONNX_HANDLERS_H_
