// Quantisation. ONNX's integer and quantised operators all become: integers on an edge whose Value carries the scale
// and zero point, dequantize, the operator on reals, quantize. What runs on integers is decided later, where it pays.
#include <cmath>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

bool IsFloat8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

// The parameters an edge carries, when they are known; nothing when they are not, or are not sound.
void AnnotateEdge(const OpEmitter& emitter, ValueId x, ValueId scale, ValueId zero_point, int64_t axis,
                  int64_t block_size) {
  GraphWriter& writer = emitter.writer();
  const bool shifted = zero_point != ValueId::kNone;
  if (!writer.IsConstant(scale) || (shifted && !writer.IsConstant(zero_point)) || !IsInteger(writer.dtype(x))) return;
  QuantParams params;
  const Tensor scales = writer.constant(scale);
  if (shifted && writer.constant(zero_point).num_elements() != scales.num_elements()) return;
  for (int64_t i = 0; i < scales.num_elements(); ++i) {
    params.scales.push_back(scales.Get(i));
    if (shifted) params.zero_points.push_back(writer.constant(zero_point).GetInt(i));
  }
  if (scales.num_elements() > 1) params.axis = static_cast<int>(axis);
  params.block_size = block_size;
  if (CheckQuantParams(params, writer.dtype(x), writer.shape(x)).ok()) writer.SetQuant(x, std::move(params));
}

// Which of the three forms a scale has for x, as parameters of quantize and dequantize.
StatusOr<Attrs> ScaleForm(const OpEmitter& emitter, ValueId x, ValueId scale, int64_t axis, int64_t block_size) {
  Attrs attrs;
  if (block_size == 0 && emitter.rank(scale) == 0) return attrs;
  if (block_size == 0 && emitter.rank(scale) == 1 && emitter.shape(scale)[0] == 1) return attrs;
  ASSIGN_OR_RETURN(axis, emitter.Axis(axis, emitter.rank(x)));
  attrs.Set("axis", axis);
  if (block_size != 0) attrs.Set("block_size", block_size);
  return attrs;
}

// One zero point under the shape of its scale: files mix scalars and vectors of one element.
StatusOr<ValueId> LikeScale(const OpEmitter& emitter, ValueId zero_point, ValueId scale) {
  const bool both_single = zero_point != ValueId::kNone && emitter.shape(zero_point).num_elements() == 1 &&
                           emitter.shape(scale).num_elements() == 1;
  return both_single ? emitter.Reshape(zero_point, emitter.shape(scale).dims()) : StatusOr<ValueId>(zero_point);
}

// A scale shaped so that it broadcasts to x.
StatusOr<ValueId> ShapedScale(const OpEmitter& emitter, ValueId x, ValueId scale, const Attrs& form) {
  if (form.Has("block_size")) {
    return emitter.Error(ErrorCode::kOpUnsupported, "blocked quantisation of float8 is not supported");
  }
  if (!form.Has("axis")) return emitter.Reshape(scale, {});
  std::vector<int64_t> dims(emitter.rank(x), 1);
  dims[form.Int("axis")] = emitter.shape(x)[form.Int("axis")];
  if (emitter.rank(scale) != 1 || emitter.shape(scale)[0] != dims[form.Int("axis")]) {
    return emitter.Error(ErrorCode::kShapeMismatch, "a scale ", emitter.type(scale), " does not fit ", emitter.type(x));
  }
  return emitter.Reshape(scale, std::move(dims));
}

}  // namespace

StatusOr<ValueId> SubtractZeroPoint(const OpEmitter& emitter, ValueId x, ValueId zero_point, int axis) {
  if (zero_point == ValueId::kNone) return x;
  const GraphWriter& writer = emitter.writer();
  if (writer.IsConstant(zero_point)) {
    const Tensor values = writer.constant(zero_point);
    bool zero = true;
    for (int64_t i = 0; i < values.num_elements(); ++i) zero = zero && values.GetInt(i) == 0;
    if (zero) return x;
  }
  ASSIGN_OR_RETURN(const ValueId wide, emitter.Cast(x, DType::kI32));
  ASSIGN_OR_RETURN(ValueId shift, emitter.Cast(zero_point, DType::kI32));
  if (emitter.rank(shift) == 1 && emitter.shape(shift)[0] != 1) {
    return emitter.BinaryAlong(Op::kSub, wide, shift, axis);
  }
  if (emitter.rank(shift) == 1) {
    ASSIGN_OR_RETURN(shift, emitter.Reshape(shift, {}));
  }
  ASSIGN_OR_RETURN(const ValueId result, emitter.Emit(Op::kSub, {wide, shift}));
  if (emitter.shape(result) != emitter.shape(x)) {
    return emitter.Error(ErrorCode::kShapeMismatch, "a zero point ", emitter.type(zero_point), " does not fit ",
                         emitter.type(x));
  }
  return result;
}

StatusOr<ValueId> EmitDequantize(const OpEmitter& emitter, ValueId x, ValueId scale, ValueId zero_point, int64_t axis,
                                 int64_t block_size) {
  ASSIGN_OR_RETURN(Attrs form, ScaleForm(emitter, x, scale, axis, block_size));
  if (IsFloat(emitter.dtype(x))) {  // float8 has no zero point
    ASSIGN_OR_RETURN(const ValueId wide, emitter.Cast(x, emitter.dtype(scale)));
    ASSIGN_OR_RETURN(const ValueId shaped, ShapedScale(emitter, x, scale, form));
    return emitter.Emit(Op::kMul, {wide, shaped});
  }
  ASSIGN_OR_RETURN(zero_point, LikeScale(emitter, zero_point, scale));
  AnnotateEdge(emitter, x, scale, zero_point, form.Int("axis", -1), block_size);
  std::vector<ValueId> inputs = {x, scale};
  if (zero_point != ValueId::kNone) inputs.push_back(zero_point);
  // Integer weights stay integers: their width is worth more than a folded node.
  return emitter.Emit(Op::kDequantize, std::move(inputs), std::move(form), Fold::kNever);
}

StatusOr<ValueId> EmitQuantize(const OpEmitter& emitter, ValueId x, ValueId scale, ValueId zero_point, DType to,
                               int64_t axis, int64_t block_size) {
  ASSIGN_OR_RETURN(x, emitter.Cast(x, emitter.dtype(scale)));
  ASSIGN_OR_RETURN(Attrs form, ScaleForm(emitter, x, scale, axis, block_size));
  if (IsFloat8(to)) {
    ASSIGN_OR_RETURN(const ValueId shaped, ShapedScale(emitter, x, scale, form));
    ASSIGN_OR_RETURN(ValueId ratio, emitter.Emit(Op::kDiv, {x, shaped}));
    if (to == DType::kF8E5M2) {
      ASSIGN_OR_RETURN(ratio, emitter.Emit(Op::kClip, {ratio}, MakeAttrs({{"min", -57344.0}, {"max", 57344.0}})));
    }
    return emitter.Cast(ratio, to);
  }
  ASSIGN_OR_RETURN(zero_point, LikeScale(emitter, zero_point, scale));
  const int64_t along = form.Int("axis", -1);
  form.Set("dtype", to);
  std::vector<ValueId> inputs = {x, scale};
  if (zero_point != ValueId::kNone) inputs.push_back(zero_point);
  ASSIGN_OR_RETURN(const ValueId y, emitter.Emit(Op::kQuantize, std::move(inputs), std::move(form)));
  AnnotateEdge(emitter, y, scale, zero_point, along, block_size);
  return y;
}

Imported ImportQuantizeLinear(OnnxNode& node) {
  DType to = node.has(2) ? node.dtype(node.in(2)) : DType::kU8;
  if (const int64_t type = node.Int("output_dtype", 0); type != 0 && !node.has(2)) {
    StatusOr<DType> dtype = DTypeFromOnnx(static_cast<int>(type));
    if (!dtype.ok()) return dtype.status().WithContext(node.Where());
    to = *dtype;
  }
  if (IsFloat8(to) && node.Int("saturate", 1) == 0) {
    return node.Error(ErrorCode::kOpUnsupported, "quantisation to float8 with saturate = 0 is not supported");
  }
  return EmitQuantize(node, node.in(0), node.in(1), node.in(2), to, node.Int("axis", 1), node.Int("block_size", 0));
}

Imported ImportDequantizeLinear(OnnxNode& node) {
  return EmitDequantize(node, node.in(0), node.in(1), node.in(2), node.Int("axis", 1), node.Int("block_size", 0));
}

// To u8 with a range that includes 0: scale = (max(x, 0) - min(x, 0)) / 255, zero_point = round(-min(x, 0) / scale).
StatusOr<std::vector<ValueId>> EmitDynamicQuantize(const OpEmitter& node, ValueId x) {
  std::vector<int64_t> axes(node.rank(x));
  for (size_t d = 0; d < axes.size(); ++d) axes[d] = static_cast<int64_t>(d);
  const Attrs all = MakeAttrs({{"axes", axes}, {"keepdims", int64_t{0}}});
  ASSIGN_OR_RETURN(ValueId high, node.Emit(Op::kReduceMax, {x}, all));
  ASSIGN_OR_RETURN(ValueId low, node.Emit(Op::kReduceMin, {x}, all));
  ASSIGN_OR_RETURN(high, node.EmitScalar(Op::kMax, high, 0));
  ASSIGN_OR_RETURN(low, node.EmitScalar(Op::kMin, low, 0));
  ASSIGN_OR_RETURN(const ValueId range, node.Emit(Op::kSub, {high, low}));
  ASSIGN_OR_RETURN(const ValueId scale, node.EmitScalar(Op::kDiv, range, 255));
  ASSIGN_OR_RETURN(const ValueId ratio, node.Emit(Op::kDiv, {low, scale}));
  ASSIGN_OR_RETURN(ValueId zero_point, node.Emit(Op::kNeg, {ratio}));
  ASSIGN_OR_RETURN(zero_point, node.Emit(Op::kClip, {zero_point}, MakeAttrs({{"min", 0.0}, {"max", 255.0}})));
  ASSIGN_OR_RETURN(zero_point, node.Emit(Op::kRound, {zero_point}));
  ASSIGN_OR_RETURN(zero_point, node.Cast(zero_point, DType::kU8));
  ASSIGN_OR_RETURN(const ValueId y, EmitQuantize(node, x, scale, zero_point, DType::kU8, 0));
  return std::vector<ValueId>{y, scale, zero_point};
}

Imported ImportDynamicQuantizeLinear(OnnxNode& node) {
  ASSIGN_OR_RETURN(std::vector<ValueId> outputs, EmitDynamicQuantize(node, node.in(0)));
  return outputs;
}

}  // namespace tessera
