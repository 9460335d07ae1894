// gather, gather_elements: elements of x picked along one axis by an operand of indices.
//
//   gather:           out[before.., i.., after..] = x[before.., indices[i..], after..]
//   gather_elements:  out[i0, i1, ..]             = x[i0, .., indices[i0, i1, ..], ..]
//
// An index v < 0 stands for v + extent; what is then out of range gives 0, since an op cannot fail on its data.
#include "graph/ops/common.h"

namespace tessera {
namespace {

Status CheckIndices(const OpContext& c) {
  if (c.dtype(1) == DType::kI32 || c.dtype(1) == DType::kI64) return OkStatus();
  return Error(ErrorCode::kTypeMismatch, "operand 1: expected indices of type i32 or i64, found ", c.input(1),
               "; insert a cast");
}

StatusOr<std::vector<TensorType>> InferGather(const OpContext& c) {
  RETURN_IF_ERROR(CheckIndices(c));
  const Shape &x = c.shape(0), &indices = c.shape(1);
  const int64_t axis = c.attrs.Int("axis");
  RETURN_IF_ERROR(CheckAxis(axis, x.rank()));
  std::vector<int64_t> dims(x.begin(), x.begin() + axis);
  dims.insert(dims.end(), indices.begin(), indices.end());
  dims.insert(dims.end(), x.begin() + axis + 1, x.end());
  return std::vector<TensorType>{{c.dtype(0), Shape(std::move(dims))}};
}

StatusOr<std::vector<TensorType>> InferGatherElements(const OpContext& c) {
  RETURN_IF_ERROR(CheckIndices(c));
  const Shape &x = c.shape(0), &indices = c.shape(1);
  const int64_t axis = c.attrs.Int("axis");
  RETURN_IF_ERROR(CheckAxis(axis, x.rank()));
  bool fits = indices.rank() == x.rank();
  for (int d = 0; fits && d < x.rank(); ++d) fits = d == axis || indices[d] <= x[d];
  if (!fits) {
    return Error(ErrorCode::kShapeMismatch, "operand 1: expected indices of the rank of operand 0 ", c.input(0),
                 " that do not exceed it except along axis ", axis, ", found ", c.input(1));
  }
  return std::vector<TensorType>{{c.dtype(0), indices}};
}

// The position that index `v` means along an extent, or -1.
int64_t Resolve(int64_t v, int64_t extent) {
  if (v < 0) v += extent;
  return v >= 0 && v < extent ? v : -1;
}

void ReferenceGather(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const RefTensor &x = *inputs[0], &indices = *inputs[1];
  const Shape& shape = x.type.shape;
  const int axis = static_cast<int>(c.attrs.Int("axis"));
  int64_t before = 1, after = 1;
  for (int d = 0; d < axis; ++d) before *= shape[d];
  for (int d = axis + 1; d < shape.rank(); ++d) after *= shape[d];
  int64_t to = 0;
  for (int64_t b = 0; b < before; ++b) {
    for (int64_t index : indices.i) {
      const int64_t at = Resolve(index, shape[axis]);
      for (int64_t a = 0; a < after; ++a, ++to) {
        if (at >= 0) outputs[0].Set(to, x.Get((b * shape[axis] + at) * after + a));
      }
    }
  }
}

void ReferenceGatherElements(const OpContext& c, std::span<const RefTensor* const> inputs,
                             std::span<RefTensor> outputs) {
  const RefTensor &x = *inputs[0], &indices = *inputs[1];
  const Shape& shape = x.type.shape;
  const int axis = static_cast<int>(c.attrs.Int("axis"));
  const std::vector<int64_t> strides = shape.Strides();
  int64_t to = 0;
  ForEachIndex(indices.type.shape, [&](const std::vector<int64_t>& at) {
    const int64_t picked = Resolve(indices.i[to], shape[axis]);
    int64_t from = 0;
    for (int d = 0; d < shape.rank(); ++d) from += (d == axis ? picked : at[d]) * strides[d];
    if (picked >= 0) outputs[0].Set(to, x.Get(from));
    ++to;
  });
}

// First stage of both: temp 0 = indices, with negative ones counted from the end.
void NormaliseIndices(const OpContext& c, Compute& compute, int64_t extent) {
  const Shape& shape = c.shape(1);
  compute.temps = {{DType::kI64, shape}};
  BodyBuilder b;
  const Scalar v = b.Cast(b.Input(c.dtype(1)), DType::kI64);
  const Scalar zero = b.ConstInt(DType::kI64, 0), length = b.ConstInt(DType::kI64, extent);
  compute.stages.push_back(
      MapStage("indices", shape, {Elementwise(In(1), shape)}, b.Finish(Select(Less(v, zero), v + length, v)), Temp(0)));
}

// Second stage: out = x at `index`, of which dimension `axis` is read from temp 0 by `indices`.
void PickElements(const OpContext& c, Compute& compute, Access indices, std::vector<IndexExpr> index, int axis) {
  index[axis].read = 0;
  Access x = {.buffer = In(0), .view = c.shape(0), .index = std::move(index), .guarded = true};
  BodyBuilder b;
  b.InputAt(0, DType::kI64);
  const Scalar picked = b.InputAt(1, c.dtype(0));
  compute.stages.push_back(
      MapStage("gather", c.outputs[0].shape, {std::move(indices), std::move(x)}, b.Finish(picked), Out()));
}

Compute ComputeGather(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Shape &x = c.shape(0), &indices = c.shape(1);
  const int axis = static_cast<int>(c.attrs.Int("axis"));
  NormaliseIndices(c, compute, x[axis]);
  std::vector<IndexExpr> index(x.rank());
  for (int d = 0; d < axis; ++d) index[d] = Axis(d);
  for (int d = axis + 1; d < x.rank(); ++d) index[d] = Axis(d - 1 + indices.rank());
  PickElements(c, compute, Elementwise(Temp(0), indices, axis), std::move(index), axis);
  return compute;
}

Compute ComputeGatherElements(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Shape &x = c.shape(0), &indices = c.shape(1);
  const int axis = static_cast<int>(c.attrs.Int("axis"));
  NormaliseIndices(c, compute, x[axis]);
  std::vector<IndexExpr> index(x.rank());
  for (int d = 0; d < x.rank(); ++d) {
    if (d != axis) index[d] = Axis(d);
  }
  PickElements(c, compute, Elementwise(Temp(0), indices), std::move(index), axis);
  return compute;
}

OpDef GatherOp() {
  OpDef def = {};
  def.min_inputs = def.max_inputs = 2;
  def.attrs = {{"axis", AttrKind::kInt, true, "of x, along which indices count"}};
  return def;
}

}  // namespace

OpDef MakeGatherOp() {
  OpDef def = GatherOp();
  def.doc =
      "Slices of x at indices along an axis; negative ones count from the end, others out of range give 0. ONNX "
      "Gather.";
  def.infer = &InferGather;
  def.reference = &ReferenceGather;
  def.compute = &ComputeGather;
  return def;
}

OpDef MakeGatherElementsOp() {
  OpDef def = GatherOp();
  def.doc = "Single elements of x, each with its own index along an axis; out of range gives 0. ONNX GatherElements.";
  def.infer = &InferGatherElements;
  def.reference = &ReferenceGatherElements;
  def.compute = &ComputeGatherElements;
  return def;
}

}  // namespace tessera
