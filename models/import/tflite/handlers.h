// The handlers of tflite_ops.def, by family. Only tflite_importer.cc includes this. To add an operator: a handler in
// the file of its family, its declaration here, its row in tflite_ops.def.
#ifndef TESSERA_MODELS_IMPORT_TFLITE_HANDLERS_H_
#define TESSERA_MODELS_IMPORT_TFLITE_HANDLERS_H_

#include "models/import/tflite/tflite_node.h"

namespace tessera::tflite_handlers {

// elementwise.cc
TfliteResults ImportUnaryOp(TfliteNode& node, Op op);
TfliteResults ImportBinaryOp(TfliteNode& node, Op op, bool swapped);
template <Op op>
TfliteResults ImportUnary(TfliteNode& node) {
  return ImportUnaryOp(node, op);
}
template <Op op>
TfliteResults ImportBinary(TfliteNode& node) {
  return ImportBinaryOp(node, op, false);
}
template <Op op>
TfliteResults ImportSwapped(TfliteNode& node) {
  return ImportBinaryOp(node, op, true);
}
TfliteResults ImportNotEqual(TfliteNode& node);
TfliteResults ImportSquaredDifference(TfliteNode& node);
TfliteResults ImportFloorDiv(TfliteNode& node);
TfliteResults ImportAddN(TfliteNode& node);
TfliteResults ImportSelect(TfliteNode& node);
TfliteResults ImportRelu6(TfliteNode& node);
TfliteResults ImportReluN1To1(TfliteNode& node);
TfliteResults ImportRelu0To1(TfliteNode& node);
TfliteResults ImportLeakyRelu(TfliteNode& node);
TfliteResults ImportPrelu(TfliteNode& node);
TfliteResults ImportGelu(TfliteNode& node);
TfliteResults ImportRsqrt(TfliteNode& node);
TfliteResults ImportSquare(TfliteNode& node);
TfliteResults ImportCast(TfliteNode& node);
TfliteResults ImportDequantize(TfliteNode& node);
TfliteResults ImportPass(TfliteNode& node);
TfliteResults ImportDensify(TfliteNode& node);

// contraction.cc
TfliteResults ImportConv2d(TfliteNode& node);
TfliteResults ImportDepthwiseConv2d(TfliteNode& node);
TfliteResults ImportFullyConnected(TfliteNode& node);
TfliteResults ImportBatchMatmul(TfliteNode& node);
TfliteResults ImportPoolOp(TfliteNode& node, Op op);
template <Op op>
TfliteResults ImportPool(TfliteNode& node) {
  return ImportPoolOp(node, op);
}
TfliteResults ImportResizeBilinear(TfliteNode& node);
TfliteResults ImportResizeNearest(TfliteNode& node);

// reduce.cc
TfliteResults ImportReduceOp(TfliteNode& node, Op op);
TfliteResults ImportArgOp(TfliteNode& node, Op op);
template <Op op>
TfliteResults ImportReduce(TfliteNode& node) {
  return ImportReduceOp(node, op);
}
template <Op op>
TfliteResults ImportArg(TfliteNode& node) {
  return ImportArgOp(node, op);
}
TfliteResults ImportSoftmax(TfliteNode& node);
TfliteResults ImportLogSoftmax(TfliteNode& node);
TfliteResults ImportL2Normalization(TfliteNode& node);

// movement.cc
TfliteResults ImportReshape(TfliteNode& node);
TfliteResults ImportSqueeze(TfliteNode& node);
TfliteResults ImportExpandDims(TfliteNode& node);
TfliteResults ImportTranspose(TfliteNode& node);
TfliteResults ImportBroadcastTo(TfliteNode& node);
TfliteResults ImportTile(TfliteNode& node);
TfliteResults ImportSlice(TfliteNode& node);
TfliteResults ImportStridedSlice(TfliteNode& node);
TfliteResults ImportSplit(TfliteNode& node);
TfliteResults ImportSplitV(TfliteNode& node);
TfliteResults ImportConcatenation(TfliteNode& node);
TfliteResults ImportPack(TfliteNode& node);
TfliteResults ImportUnpack(TfliteNode& node);
TfliteResults ImportPad(TfliteNode& node);
TfliteResults ImportMirrorPad(TfliteNode& node);
TfliteResults ImportGather(TfliteNode& node);
TfliteResults ImportDepthToSpace(TfliteNode& node);
TfliteResults ImportSpaceToDepth(TfliteNode& node);
TfliteResults ImportShape(TfliteNode& node);

}  // namespace tessera::tflite_handlers

#endif  // TESSERA_MODELS_IMPORT_TFLITE_HANDLERS_H_
