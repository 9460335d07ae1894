#include "models/import/tflite/tflite_node.h"

#include <algorithm>

namespace tessera {

StatusOr<ValueId> Dequantized(const OpEmitter& emitter, ValueId stored, const QuantParams& quant) {
  GraphWriter& writer = emitter.writer();
  const DType dtype = writer.dtype(stored);
  if (TypeInfo(dtype).bits > 32) {  // biases of 16-bit activations
    ASSIGN_OR_RETURN(stored, emitter.Cast(stored, DType::kI32));
  }
  const bool single = quant.scales.size() == 1;
  const ValueId scale = single ? writer.Scalar(DType::kF32, quant.scales[0]) : writer.Vector(DType::kF32, quant.scales);
  std::vector<ValueId> inputs = {stored, scale};
  if (!quant.zero_points.empty()) {
    const std::vector<double> zero_points(quant.zero_points.begin(), quant.zero_points.end());
    inputs.push_back(single ? writer.Scalar(writer.dtype(stored), zero_points[0])
                            : writer.Vector(writer.dtype(stored), zero_points));
  }
  Attrs attrs;
  if (!single) attrs.Set("axis", int64_t{quant.axis});
  return emitter.Emit(Op::kDequantize, std::move(inputs), std::move(attrs), Fold::kNever);
}

TfliteNode::TfliteNode(const tfl::Operator& op, std::string kind, GraphWriter& writer,
                       std::vector<TfliteTensor*> inputs, std::vector<TfliteTensor*> outputs)
    : OpEmitter(writer, outputs.empty() || outputs[0] == nullptr ? kind : outputs[0]->name, kind),
      op_(&op),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)) {}

StatusOr<ValueId> TfliteNode::real(int k) const {
  TfliteTensor& tensor = input(k);
  if (!tensor.quant) return tensor.value;
  if (tensor.real == ValueId::kNone) {
    ASSIGN_OR_RETURN(tensor.real, Dequantized(*this, tensor.value, *tensor.quant));
  }
  return tensor.real;
}

bool TfliteNode::moves_as_stored(int k) const {
  // Moving along an axis with scales of its own would need the scales to move as well.
  return input(k).quant == output(0).quant && (!input(k).quant || input(k).quant->scales.size() == 1);
}

StatusOr<ValueId> TfliteNode::Weight(int k, const std::vector<int64_t>& perm) const {
  const TfliteTensor& tensor = input(k);
  ASSIGN_OR_RETURN(const ValueId moved, Transpose(tensor.value, perm));
  if (!tensor.quant) return moved;
  QuantParams quant = *tensor.quant;
  if (quant.axis >= 0) {
    quant.axis = static_cast<int>(std::find(perm.begin(), perm.end(), quant.axis) - perm.begin());
  }
  writer().SetQuant(moved, quant);
  return Dequantized(*this, moved, quant);
}

StatusOr<Tensor> TfliteNode::Const(int k, std::string_view what) const {
  if (!has(k)) return Error(ErrorCode::kGraphInvalid, "expected operand ", k, " (", what, "), found none");
  if (!writer().IsConstant(raw(k))) {
    return Error(ErrorCode::kShapeUnknown, "operand ", k, " (", what, "), '", input(k).name,
                 "', must be known before the run; ", HowToBind(writer().graph(), raw(k)));
  }
  return writer().constant(raw(k));
}

StatusOr<std::vector<int64_t>> TfliteNode::ConstInts(int k, std::string_view what) const {
  ASSIGN_OR_RETURN(const Tensor tensor, Const(k, what));
  if (!IsInteger(tensor.dtype())) {
    return Error(ErrorCode::kTypeMismatch, "operand ", k, " (", what, "): expected integers, found ", tensor.type());
  }
  std::vector<int64_t> values(tensor.num_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = tensor.GetInt(static_cast<int64_t>(i));
  return values;
}

StatusOr<ValueId> TfliteNode::Activate(ValueId x, tfl::Activation activation) const {
  switch (activation) {
    case tfl::Activation::NONE: return x;
    case tfl::Activation::RELU: return Emit(Op::kRelu, {x});
    case tfl::Activation::RELU6: return Emit(Op::kClip, {x}, MakeAttrs({{"min", 0.0}, {"max", 6.0}}));
    case tfl::Activation::RELU_N1_TO_1: return Emit(Op::kClip, {x}, MakeAttrs({{"min", -1.0}, {"max", 1.0}}));
    case tfl::Activation::TANH: return Emit(Op::kTanh, {x});
    default: break;
  }
  return Error(ErrorCode::kOpUnsupported, "the fused activation ", static_cast<int>(activation), " is not supported");
}

}  // namespace tessera
