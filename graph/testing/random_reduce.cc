// Random cases of the families reduce, normalization and quantization.
#include <string>

#include "graph/testing/random_node.h"

namespace tessera {
namespace {

// Any subset of the dimensions, mostly not empty.
std::vector<int64_t> SomeAxes(CaseBuilder& c, int rank) {
  std::vector<int64_t> axes;
  for (int d = 0; d < rank; ++d) {
    if (c.Chance(0.5)) axes.push_back(d);
  }
  if (axes.empty() && rank > 0 && c.Chance(0.9)) axes.push_back(c.Int(0, rank - 1));
  return axes;
}

void Reduce(CaseBuilder& c, DType dtype, double low, double high) {
  const Shape shape = c.RandomShape(0, 4);
  c.Input(dtype, shape, low, high);
  c.attrs.Set("axes", SomeAxes(c, shape.rank()));
  if (c.Chance(0.6)) c.attrs.Set("keepdims", c.Int(0, 1));
}

void Arg(CaseBuilder& c) {
  const Shape shape = c.RandomShape(1, 4);
  c.Input(c.NumberType(), shape);
  c.attrs.Set("axis", c.Int(0, shape.rank() - 1));
  if (c.Chance(0.6)) c.attrs.Set("keepdims", c.Int(0, 1));
  if (c.Chance(0.6)) c.attrs.Set("select_last", c.Int(0, 1));
}

void Softmax(CaseBuilder& c) {
  const Shape shape = c.RandomShape(1, 4);
  c.Input(c.FloatType(), shape, -8, 8);
  c.attrs.Set("axis", c.Int(0, shape.rank() - 1));
}

// A type that computes in the type in which `dtype` does.
DType Companion(CaseBuilder& c, DType dtype) {
  return dtype == DType::kF64 || c.Chance(0.7) ? dtype : c.Pick({DType::kF32, DType::kF16, DType::kBF16});
}

DType QuantizedType(CaseBuilder& c) {
  return c.Pick({DType::kI8, DType::kU8, DType::kI8, DType::kI16, DType::kU16, DType::kI4, DType::kU4});
}

// Draws the form and adds scale and perhaps a zero point for an operand of `shape`.
void Scales(CaseBuilder& c, const Shape& shape, DType scale_type, DType zero_point_type) {
  Shape scale;
  const int64_t form = shape.rank() == 0 ? c.Int(0, 1) : c.Int(0, 3);
  if (form == 1) scale = {1};
  if (form >= 2) {
    const int axis = static_cast<int>(c.Int(0, shape.rank() - 1));
    c.attrs.Set("axis", int64_t{axis});
    scale = {shape[axis]};
    if (form == 3) {
      const int64_t block = c.Int(1, shape[axis] + 2);
      c.attrs.Set("block_size", block);
      scale = shape;
      scale[axis] = (shape[axis] + block - 1) / block;
    }
  }
  // Powers of two make exact ties; other scales do not.
  Tensor scales(scale_type, scale);
  for (int64_t k = 0; k < scales.num_elements(); ++k) {
    scales.Set(k, c.Chance(0.5) ? c.Pick({0.25, 0.5, 1.0}) : c.Real(0.02, 0.5));
  }
  c.Input(std::move(scales));
  if (c.Chance(0.6)) {
    c.Input(zero_point_type, scale, -100, 130);
  } else if (c.Chance(0.3)) {
    c.NoInput();
  }
}

}  // namespace

void RandomQuantize(CaseBuilder& c) {
  const DType dtype = c.FloatType(), to = QuantizedType(c);
  const Shape shape = c.RandomShape(0, 4);
  const double reach = c.Pick({3.0, 100.0});
  c.Input(dtype, shape, -reach, reach);
  Scales(c, shape, Companion(c, dtype), to);
  c.attrs.Set("dtype", to);
}

void RandomDequantize(CaseBuilder& c) {
  const DType from = c.Chance(0.15) ? DType::kI32 : QuantizedType(c);
  const Shape shape = c.RandomShape(0, 4);
  c.Input(from, shape, -200, 200);
  Scales(c, shape, c.FloatType(), from);
}

void RandomReduceSum(CaseBuilder& c) {
  const DType dtype = c.Chance(0.3) ? QuantizedType(c) : c.NumberType();
  Reduce(c, dtype, IsInteger(dtype) ? -100 : -9, IsInteger(dtype) ? 200 : 9);
  if (IsInteger(dtype) && c.Chance(0.5)) c.attrs.Set("dtype", ComputeType(dtype));
}
void RandomReduceMean(CaseBuilder& c) { Reduce(c, c.FloatType(), -3, 3); }
void RandomReduceMax(CaseBuilder& c) { Reduce(c, c.Chance(0.15) ? DType::kBool : c.NumberType(), -200, 200); }
void RandomReduceMin(CaseBuilder& c) { Reduce(c, c.Chance(0.15) ? DType::kBool : c.NumberType(), -200, 200); }
void RandomReduceProd(CaseBuilder& c) {
  // Near 1, so that the product of many is neither 0 nor infinite.
  const DType dtype = c.NumberType();
  Reduce(c, dtype, IsFloat(dtype) ? 0.9 : -9, IsFloat(dtype) ? 1.1 : 9);
}
void RandomReduceL1(CaseBuilder& c) { Reduce(c, c.NumberType(), -9, 9); }
void RandomReduceL2(CaseBuilder& c) { Reduce(c, c.FloatType(), -3, 3); }
void RandomReduceLogSumExp(CaseBuilder& c) { Reduce(c, c.FloatType(), -30, 30); }
void RandomReduceSumSquare(CaseBuilder& c) { Reduce(c, c.NumberType(), -9, 9); }
void RandomArgMax(CaseBuilder& c) { Arg(c); }
void RandomArgMin(CaseBuilder& c) { Arg(c); }

void RandomSoftmax(CaseBuilder& c) { Softmax(c); }
void RandomLogSoftmax(CaseBuilder& c) { Softmax(c); }

void RandomLayerNorm(CaseBuilder& c) {
  const DType dtype = c.FloatType();
  const Shape shape = c.RandomShape(1, 4);
  const int64_t axis = c.Int(0, shape.rank() - 1);
  const Shape inner(std::vector<int64_t>(shape.begin() + axis, shape.end()));
  c.Input(dtype, shape);
  // Neither, scale, bias, or both.
  const int64_t present = c.Int(0, 3);
  if (present & 1) c.Input(Companion(c, dtype), inner);
  if (present == 2) c.NoInput();
  if (present & 2) c.Input(Companion(c, dtype), inner);
  c.attrs.Set("axis", axis);
  c.attrs.Set("epsilon", c.Pick({1e-5, 1e-3}));
}

void RandomBatchNorm(CaseBuilder& c) {
  const DType dtype = c.FloatType();
  const Shape shape = c.RandomShape(2, 4);
  const int64_t axis = c.Chance(0.5) ? 1 : c.Int(0, shape.rank() - 1);
  if (axis != 1 || c.Chance(0.3)) c.attrs.Set("axis", axis);
  const Shape channels = {shape[static_cast<int>(axis)]};
  c.Input(dtype, shape);
  for (int k = 0; k < 3; ++k) c.Input(Companion(c, dtype), channels);
  c.Input(Companion(c, dtype), channels, 0.2, 2);
  c.attrs.Set("epsilon", c.Pick({1e-5, 1e-3}));
}

}  // namespace tessera
