// quantize and dequantize, as ONNX QuantizeLinear-21 and DequantizeLinear-21: per tensor, per axis, or blocked.
//
//   quantize     saturate(round_half_even(x / scale) + zero_point)        a division: x * (1 / scale) rounds elsewhere
//   dequantize   (x - zero_point) * scale
//
// Blocked scales make two loops of the blocked axis, block and element within it; a last block that is not full is a
// stage of its own, so that every index stays affine.
#include <algorithm>
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

using Context = const OpContext&;

enum class ScaleForm : uint8_t { kTensor, kAxis, kBlocked };

ScaleForm FormOf(Context c) {
  if (c.attrs.Int("block_size", 0) > 0) return ScaleForm::kBlocked;
  const Shape& scale = c.shape(1);
  const bool single = scale.rank() == 0 || (scale.rank() == 1 && scale[0] == 1);
  return c.attrs.Has("axis") && !single ? ScaleForm::kAxis : ScaleForm::kTensor;
}

int AxisOf(Context c) { return static_cast<int>(c.attrs.Int("axis")); }

// Do axis, block_size and the shapes of scale and zero_point fit x?
Status CheckScales(Context c) {
  const Shape& shape = c.shape(0);
  const int64_t block = c.attrs.Int("block_size", 0);
  if (block < 0) return Error(ErrorCode::kAttributeInvalid, "expected block_size >= 0, found ", block);
  if (block > 0 && !c.attrs.Has("axis")) {
    return Error(ErrorCode::kAttributeInvalid, "expected an axis with block_size = ", block, ", found none");
  }
  if (c.attrs.Has("axis")) RETURN_IF_ERROR(CheckAxis(c.attrs.Int("axis"), shape.rank()));
  switch (FormOf(c)) {
    case ScaleForm::kTensor:
      if (c.shape(1).num_elements() != 1 || c.shape(1).rank() > 1) {
        return Error(ErrorCode::kShapeMismatch, "operand 1: expected one scale, as no axis is given, found ",
                     c.input(1));
      }
      break;
    case ScaleForm::kAxis: RETURN_IF_ERROR(CheckShapeIs(c, 1, Shape{shape[AxisOf(c)]})); break;
    case ScaleForm::kBlocked: {
      Shape expected = shape;
      const int64_t extent = shape[AxisOf(c)];
      expected[AxisOf(c)] = extent / block + (extent % block != 0);
      RETURN_IF_ERROR(CheckShapeIs(c, 1, expected));
      break;
    }
  }
  return c.has_input(2) ? CheckShapeIs(c, 2, c.shape(1)) : OkStatus();
}

// The stages that store `body` over x, scale and, where there is one, zero_point.
std::vector<Stage> ScaledStages(Context c, const std::string& name, const Body& body) {
  const Shape& shape = c.shape(0);
  const int operands = c.has_input(2) ? 3 : 2;
  std::vector<Stage> stages;
  if (FormOf(c) != ScaleForm::kBlocked) {
    std::vector<Access> reads = {Elementwise(In(0), shape)};
    for (int k = 1; k < operands; ++k) {
      Access access = {.buffer = In(k), .view = c.shape(k)};
      if (FormOf(c) == ScaleForm::kAxis) {
        access.index = {Axis(AxisOf(c))};
      } else if (c.shape(k).rank() == 1) {
        access.index = {FixedIndex(0)};
      }
      reads.push_back(std::move(access));
    }
    stages.push_back(MapStage(name, shape, std::move(reads), body, Out()));
    return stages;
  }
  const int axis = AxisOf(c);
  const int64_t extent = shape[axis], block = std::min(c.attrs.Int("block_size", 0), extent);
  if (extent == 0) return stages;
  // `blocks` blocks of `size` elements, from block `first` on.
  const auto add_stage = [&](const std::string& stage_name, int64_t first, int64_t blocks, int64_t size) {
    Stage stage;
    stage.name = stage_name;
    Access element = {.buffer = In(0), .view = shape}, scale = {.buffer = In(1), .view = c.shape(1)};
    for (int d = 0; d < shape.rank(); ++d) {
      const int loop = stage.rank();
      if (d == axis) {
        stage.extents.insert(stage.extents.end(), {blocks, size});
        element.index.push_back(AxisPlus(Axis(loop, block, first * block), loop + 1, 1));
        scale.index.push_back(Axis(loop, 1, first));
      } else {
        stage.extents.push_back(shape[d]);
        element.index.push_back(Axis(loop));
        scale.index.push_back(Axis(loop));
      }
    }
    stage.parallel_rank = stage.rank();
    stage.reads = {element, scale};
    if (operands == 3) {
      scale.buffer = In(2);
      stage.reads.push_back(scale);
    }
    stage.body = body;
    stage.write = element;
    stage.write.buffer = Out();
    stages.push_back(std::move(stage));
  };
  if (extent / block > 0) add_stage(name, 0, extent / block, block);
  if (extent % block > 0) add_stage(name + "_tail", extent / block, 1, extent % block);
  return stages;
}

// The position of the scale of element `index`.
int64_t ScalePosition(Context c, const std::vector<int64_t>& index) {
  switch (FormOf(c)) {
    case ScaleForm::kTensor: return 0;
    case ScaleForm::kAxis: return index[AxisOf(c)];
    case ScaleForm::kBlocked: break;
  }
  int64_t position = 0;
  for (int d = 0; d < c.shape(1).rank(); ++d) {
    const int64_t at = d == AxisOf(c) ? index[d] / c.attrs.Int("block_size") : index[d];
    position = position * c.shape(1)[d] + at;
  }
  return position;
}

// ---- quantize ----

StatusOr<std::vector<TensorType>> InferQuantize(Context c) {
  const DType to = c.attrs.Type("dtype");
  if (!IsInteger(to) || TypeInfo(to).bits > 16) {
    return Error(ErrorCode::kAttributeInvalid, "expected dtype to be an integer of at most 16 bits, found ", to);
  }
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kFloat));
  RETURN_IF_ERROR(CheckType(c, 1, TypeClass::kFloat));
  RETURN_IF_ERROR(CheckSameComputeType(c, 1, 0));
  if (c.has_input(2) && c.dtype(2) != to) {
    return Error(ErrorCode::kTypeMismatch, "operand 2: expected a zero point of ", to, " as the result, found ",
                 c.input(2));
  }
  RETURN_IF_ERROR(CheckScales(c));
  return std::vector<TensorType>{{to, c.shape(0)}};
}

Compute QuantizeCompute(Context c) {
  const DType to = c.attrs.Type("dtype");
  BodyBuilder b;
  const Scalar x = b.Input(c.dtype(0)), scale = b.Input(c.dtype(1));
  Scalar value = RoundEven(x / scale);
  if (c.has_input(2)) value = value + b.Cast(b.Input(to), value.type());
  // Bounds while still a float: the cast alone would wrap. All integers up to 16 bits are exact in f32.
  value = Min(Max(value, static_cast<double>(MinInt(to))), static_cast<double>(MaxInt(to)));
  Compute compute = StartCompute(c);
  compute.stages = ScaledStages(c, "quantize", b.Finish(b.Cast(value, ComputeType(to))));
  return compute;
}

void QuantizeReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const DType to = c.attrs.Type("dtype");
  const double low = static_cast<double>(MinInt(to)), high = static_cast<double>(MaxInt(to));
  int64_t k = 0;
  ForEachIndex(c.shape(0), [&](const std::vector<int64_t>& index) {
    const int64_t at = ScalePosition(c, index);
    const double quotient = inputs[0]->f[k] / inputs[1]->f[at];
    // Round half to even by hand, so that no rounding mode matters.
    double nearest = std::floor(quotient);
    const double rest = quotient - nearest;
    if (rest > 0.5 || (rest == 0.5 && std::fmod(nearest, 2) != 0)) nearest += 1;
    if (c.has_input(2)) nearest += static_cast<double>(inputs[2]->i[at]);
    if (std::isnan(quotient)) nearest = 0;
    outputs[0].i[k++] = static_cast<int64_t>(nearest < low ? low : (nearest > high ? high : nearest));
  });
}

// ---- dequantize ----

StatusOr<std::vector<TensorType>> InferDequantize(Context c) {
  const DType from = c.dtype(0);
  if (!IsInteger(from) || (TypeInfo(from).bits > 16 && from != DType::kI32)) {
    return Error(ErrorCode::kTypeMismatch, "operand 0: expected an integer of at most 16 bits or i32, found ",
                 c.input(0));
  }
  RETURN_IF_ERROR(CheckType(c, 1, TypeClass::kFloat));
  if (c.has_input(2)) RETURN_IF_ERROR(CheckSameType(c, 2, 0));
  RETURN_IF_ERROR(CheckScales(c));
  return std::vector<TensorType>{{c.dtype(1), c.shape(0)}};
}

Compute DequantizeCompute(Context c) {
  const DType from = c.dtype(0), type = ComputeType(c.dtype(1));
  BodyBuilder b;
  const Scalar x = b.Input(from), scale = b.Input(c.dtype(1));
  Scalar value = x;
  if (c.has_input(2) && TypeInfo(from).bits <= 16) {
    value = b.Cast(x - b.Input(from), type);
  } else if (c.has_input(2)) {
    // A difference of two i32 may not fit i32.
    value = b.Cast(x, type) - b.Cast(b.Input(from), type);
  } else {
    value = b.Cast(x, type);
  }
  Compute compute = StartCompute(c);
  compute.stages = ScaledStages(c, "dequantize", b.Finish(value * scale));
  return compute;
}

void DequantizeReference(Context c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  int64_t k = 0;
  ForEachIndex(c.shape(0), [&](const std::vector<int64_t>& index) {
    const int64_t at = ScalePosition(c, index);
    const int64_t zero_point = c.has_input(2) ? inputs[2]->i[at] : 0;
    outputs[0].f[k] = static_cast<double>(inputs[0]->i[k] - zero_point) * inputs[1]->f[at];
    ++k;
  });
}

OpDef ScaledOp(std::string_view doc) {
  OpDef def = {};
  def.doc = doc;
  def.min_inputs = 2;
  def.max_inputs = 3;
  def.attrs = {
      {"axis", AttrKind::kInt, false, "the dimension that has a scale per index or block"},
      {"block_size", AttrKind::kInt, false, "elements along axis that share a scale; 0 (default): not blocked"}};
  return def;
}

}  // namespace

OpDef MakeQuantizeOp() {
  OpDef def = ScaledOp("saturate(round_half_even(x / scale) + zero_point).");
  def.attrs.push_back({"dtype", AttrKind::kDType, true, "the type of the result"});
  def.infer = &InferQuantize;
  def.reference = &QuantizeReference;
  def.compute = &QuantizeCompute;
  return def;
}

OpDef MakeDequantizeOp() {
  OpDef def = ScaledOp("(x - zero_point) * scale, in the type of scale.");
  def.infer = &InferDequantize;
  def.reference = &DequantizeReference;
  def.compute = &DequantizeCompute;
  return def;
}

}  // namespace tessera
