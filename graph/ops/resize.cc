// resize: ONNX Resize-19 in the modes nearest and linear.
//
// Each axis has its own map from a position o of the result to a real position in x (`coordinate`), of which nearest
// takes one element, and linear the two around it, weighed by how near they are. Positions beyond an edge read the
// edge, except with tf_crop_and_resize, which samples a region of x (`roi`) and takes `extrapolation` for what lies
// outside x.
//
//   out = 2 * in, half_pixel, nearest round_prefer_floor:   o: 0 1 2 3  ->  real: -0.25 0.25 0.75 1.25  ->  in: 0 0 1 1
//
// Along axes that are not resized the map is the identity and costs nothing. Positions are found in double; the weights
// of linear are then rounded to the type in which x computes.
#include <algorithm>
#include <cmath>

#include "graph/ops/common.h"

namespace tessera {
namespace {

constexpr std::string_view kCoordinates[] = {"half_pixel",        "pytorch_half_pixel",   "align_corners",
                                             "asymmetric",        "half_pixel_symmetric", "tf_half_pixel_for_nn",
                                             "tf_crop_and_resize"};
constexpr std::string_view kCrop = "tf_crop_and_resize";
constexpr std::string_view kRoundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};

bool IsOneOf(std::string_view word, std::span<const std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string Rounding(const OpContext& c) { return c.attrs.String("nearest", "round_prefer_floor"); }

// Real positions stay finite, and differences of neighbours exact enough, with scales and regions within this.
constexpr double kMaxFactor = 1e9;

// roi: starts of all dimensions, then ends, as shares of x.
Status CheckRegion(const OpContext& c) {
  const std::vector<double>& roi = c.attrs.Floats("roi");
  if (roi.size() != 2 * static_cast<size_t>(c.shape(0).rank())) {
    return Error(ErrorCode::kAttributeInvalid, "expected ", 2 * c.shape(0).rank(), " values of roi, found ",
                 roi.size());
  }
  for (double value : roi) {
    if (std::fabs(value) <= kMaxFactor) continue;
    return Error(ErrorCode::kAttributeInvalid, "expected values of roi within ", kMaxFactor, ", found ", value);
  }
  RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kFloat));
  return OkStatus();
}

StatusOr<std::vector<TensorType>> Infer(const OpContext& c) {
  const std::vector<int64_t>& sizes = c.attrs.Ints("sizes");
  const std::vector<double>& scales = c.attrs.Floats("scales");
  const Shape& x = c.shape(0);
  if (static_cast<int>(sizes.size()) != x.rank() || sizes.size() != scales.size()) {
    return Error(ErrorCode::kAttributeInvalid, "expected ", x.rank(), " sizes and scales for operand 0 ", c.input(0),
                 ", found ", sizes.size(), " and ", scales.size());
  }
  const std::string& mode = c.attrs.String("mode");
  if (mode != "nearest" && mode != "linear") {
    return Error(ErrorCode::kAttributeInvalid, "expected mode \"nearest\" or \"linear\", found \"", mode, "\"");
  }
  if (mode == "linear") RETURN_IF_ERROR(CheckType(c, 0, TypeClass::kFloat));
  const std::string& coordinate = c.attrs.String("coordinate");
  if (!IsOneOf(coordinate, kCoordinates)) {
    return Error(ErrorCode::kAttributeInvalid, "expected a coordinate_transformation_mode of ONNX Resize, found \"",
                 coordinate, "\"");
  }
  if ((coordinate == kCrop) != c.attrs.Has("roi")) {
    return Error(ErrorCode::kAttributeInvalid, "expected a roi with ", kCrop, " and only then, found ", coordinate);
  }
  if (coordinate == kCrop) RETURN_IF_ERROR(CheckRegion(c));
  if (!IsOneOf(Rounding(c), kRoundings)) {
    return Error(ErrorCode::kAttributeInvalid, "expected nearest to be a rounding of ONNX Resize, found \"",
                 Rounding(c), "\"");
  }
  for (int d = 0; d < x.rank(); ++d) {
    if (!(scales[d] >= 1 / kMaxFactor && scales[d] <= kMaxFactor)) {
      return Error(ErrorCode::kAttributeInvalid, "dimension ", d, ": expected a scale from ", 1 / kMaxFactor, " to ",
                   kMaxFactor, ", found ", scales[d]);
    }
    if (sizes[d] < 0 || (sizes[d] > 0 && x[d] == 0)) {
      return Error(ErrorCode::kAttributeInvalid, "dimension ", d, ": expected a size that ", x[d],
                   " elements can be resized to, found ", sizes[d]);
    }
  }
  return std::vector<TensorType>{{c.dtype(0), Shape(sizes)}};
}

// One axis that is resized.
struct ResizedAxis {
  std::string_view coordinate;
  int64_t in, out;
  double scale;
  double roi_start, roi_end;  // of tf_crop_and_resize

  // The real position in x of position `o` of the result.
  double Original(int64_t o) const {
    const double length = static_cast<double>(in), at = static_cast<double>(o);
    if (coordinate == "asymmetric") return at / scale;
    if (coordinate == "align_corners") {
      // The resized length is scale * length, which for given scales need not be whole, as in ONNX's own expectations.
      double resized = scale * length;
      if (std::fabs(resized - static_cast<double>(out)) < 1e-6 * resized) resized = static_cast<double>(out);
      return resized == 1 ? 0 : at * (length - 1) / (resized - 1);
    }
    if (coordinate == kCrop) {
      const double reach = roi_end - roi_start;
      if (out > 1) return roi_start * (length - 1) + at * reach * (length - 1) / static_cast<double>(out - 1);
      return 0.5 * (roi_start + roi_end) * (length - 1);
    }
    if (coordinate == "tf_half_pixel_for_nn") return (at + 0.5) / scale;
    const double half_pixel = (at + 0.5) / scale - 0.5;
    if (coordinate == "pytorch_half_pixel") return out > 1 ? half_pixel : 0;
    if (coordinate == "half_pixel_symmetric") {
      const double adjustment = static_cast<double>(out) / (scale * length);
      return length / 2 * (1 - adjustment) + half_pixel;
    }
    return half_pixel;
  }
  // Does a position take the extrapolation value instead of an element?
  bool IsOutside(double position) const {
    return coordinate == kCrop && (position < 0 || position > static_cast<double>(in - 1));
  }
  int64_t Clamp(double position) const {
    return static_cast<int64_t>(std::clamp(position, 0.0, static_cast<double>(in - 1)));
  }
};

ResizedAxis AxisOf(const OpContext& c, int d) {
  ResizedAxis axis = {.coordinate = c.attrs.String("coordinate"),
                      .in = c.shape(0)[d],
                      .out = c.attrs.Ints("sizes")[d],
                      .scale = c.attrs.Floats("scales")[d]};
  if (axis.coordinate == kCrop) {
    const std::vector<double>& roi = c.attrs.Floats("roi");
    axis.roi_start = roi[d];
    axis.roi_end = roi[d + c.shape(0).rank()];
  }
  return axis;
}

double Extrapolation(const OpContext& c) { return c.attrs.Float("extrapolation", 0); }

double RoundPosition(const std::string& rounding, double position) {
  if (rounding == "floor") return std::floor(position);
  if (rounding == "ceil") return std::ceil(position);
  return rounding == "round_prefer_ceil" ? std::floor(position + 0.5) : std::ceil(position - 0.5);
}

// ---- Reference: for each element of the result, all elements of x that it is made of ----

// Element `position` of x, dimension by dimension: decides dimension d of the point `at`; those before made `position`.
double SumAround(const OpContext& c, const RefTensor& x, const std::vector<double>& at, int d, int64_t position,
                 double weight) {
  if (weight == 0) return 0;
  if (d == x.type.shape.rank()) return weight * x.f[position];
  const ResizedAxis axis = AxisOf(c, d);
  const double left = std::floor(at[d]), share = RoundToFloat(ComputeType(x.type.dtype), at[d] - left);
  return SumAround(c, x, at, d + 1, position * axis.in + axis.Clamp(left), weight * (1 - share)) +
         SumAround(c, x, at, d + 1, position * axis.in + axis.Clamp(left + 1), weight * share);
}

void Reference(const OpContext& c, std::span<const RefTensor* const> inputs, std::span<RefTensor> outputs) {
  const RefTensor& x = *inputs[0];
  const bool linear = c.attrs.String("mode") == "linear";
  const std::string rounding = Rounding(c);
  std::vector<double> at(x.type.shape.rank());
  int64_t k = 0;
  ForEachIndex(outputs[0].type.shape, [&](const std::vector<int64_t>& index) {
    bool outside = false;
    int64_t nearest = 0;
    for (int d = 0; d < x.type.shape.rank(); ++d) {
      const ResizedAxis axis = AxisOf(c, d);
      at[d] = axis.Original(index[d]);
      outside |= axis.IsOutside(at[d]);
      nearest = nearest * axis.in + axis.Clamp(RoundPosition(rounding, at[d]));
    }
    if (outside) {
      outputs[0].Set(k++, {.f = Extrapolation(c)});
    } else if (linear) {
      outputs[0].Set(k++, {.f = SumAround(c, x, at, 0, 0, 1)});
    } else {
      outputs[0].Set(k++, x.Get(nearest));
    }
  });
}

// ---- Compute ----

// Adds a table of i64 to the compute and the read of it along `axis`.
Access AddTable(Compute& compute, Tensor table, int axis) {
  const BufferRef buffer = Table(static_cast<int>(compute.tables.size()));
  Access access = {.buffer = buffer, .view = table.shape(), .index = {Axis(axis)}};
  compute.tables.push_back(std::move(table));
  return access;
}

// The positions in x along one axis, if nearest; -1 outside, which a guarded read fills.
std::vector<int64_t> NearestPositions(const ResizedAxis& axis, const std::string& rounding) {
  std::vector<int64_t> positions;
  for (int64_t o = 0; o < axis.out; ++o) {
    const double original = axis.Original(o);
    positions.push_back(axis.IsOutside(original) ? -1 : axis.Clamp(RoundPosition(rounding, original)));
  }
  return positions;
}

// The stride s if positions are 0·s + c, 1·s + c, …: an affine map (every third element; the identity). Else 0.
int64_t StrideOf(const std::vector<int64_t>& positions) {
  if (std::find(positions.begin(), positions.end(), -1) != positions.end()) return 0;
  if (positions.size() < 2) return 1;
  const int64_t stride = positions[1] - positions[0];
  for (size_t o = 1; o < positions.size(); ++o) {
    if (positions[o] - positions[o - 1] != stride) return 0;
  }
  return stride;
}

// The factor f if position o is o / f and the result f times as long: an affine map of [in, f]. Else 0.
int64_t RepeatOf(const ResizedAxis& axis, const std::vector<int64_t>& positions) {
  if (axis.in == 0 || axis.out % axis.in != 0) return 0;
  const int64_t factor = axis.out / axis.in;
  for (int64_t o = 0; o < axis.out; ++o) {
    if (positions[o] != o / factor) return 0;
  }
  return factor;
}

// One stage. Whole factors need no table: up, the result is viewed as [.., in, factor, ..]; down, x is read in steps.
Compute ComputeNearest(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Shape& shape = c.shape(0);
  std::vector<int64_t> extents;
  std::vector<Access> reads;
  BodyBuilder b;
  Access x = {.buffer = In(0), .view = shape};
  for (int d = 0; d < shape.rank(); ++d) {
    const ResizedAxis axis = AxisOf(c, d);
    const std::vector<int64_t> positions = NearestPositions(axis, Rounding(c));
    const int first = static_cast<int>(extents.size());
    if (const int64_t factor = RepeatOf(axis, positions); factor > 1) {
      extents.push_back(axis.in);
      extents.push_back(factor);
      x.index.push_back(Axis(first));
      continue;
    }
    extents.push_back(axis.out);
    if (const int64_t stride = StrideOf(positions); stride > 0) {
      x.index.push_back(Axis(first, stride, positions.empty() ? 0 : positions[0]));
      continue;
    }
    const int read = static_cast<int>(reads.size());
    b.InputAt(read, DType::kI64);
    reads.push_back(AddTable(compute, Tensor::FromVector<int64_t>({axis.out}, positions), first));
    x.index.push_back(FixedIndex(0));
    x.index.back().read = read;
    x.guarded = true;
    x.fill = Extrapolation(c);
  }
  const Scalar picked = b.InputAt(static_cast<int>(reads.size()), c.dtype(0));
  reads.push_back(std::move(x));
  compute.stages.push_back(
      MapStage("resize_nearest", Shape(std::move(extents)), std::move(reads), b.Finish(picked), Out()));
  return compute;
}

// Along dimension d:  to[.., o, ..] = from[.., left[o], ..] * (1 - share[o]) + from[.., right[o], ..] * share[o]
// What is outside has two positions out of range, whose guarded reads both give the extrapolation value.
Stage LinearStage(const OpContext& c, Compute& compute, int d, BufferRef from, const Shape& from_shape, DType from_type,
                  BufferRef to) {
  const ResizedAxis axis = AxisOf(c, d);
  const DType type = ComputeType(c.dtype(0));
  Tensor left(DType::kI64, {axis.out}), right(DType::kI64, {axis.out}), share(type, {axis.out});
  for (int64_t o = 0; o < axis.out; ++o) {
    const double original = axis.Original(o), before = std::floor(original);
    if (axis.IsOutside(original)) {
      left.SetInt(o, -1);
      right.SetInt(o, -1);
      continue;
    }
    left.SetInt(o, axis.Clamp(before));
    // Where only the left one counts it is read twice: 0 times an infinity further right would be NaN.
    right.SetInt(o, original == before ? axis.Clamp(before) : axis.Clamp(before + 1));
    share.Set(o, original - before);
  }
  Shape shape = from_shape;
  shape[d] = axis.out;
  BodyBuilder b;
  b.InputAt(0, DType::kI64);
  b.InputAt(1, DType::kI64);
  const Scalar weight = b.InputAt(2, type), x = b.InputAt(3, from_type), y = b.InputAt(4, from_type);
  const auto at = [&](int read) {
    Access access = Elementwise(from, from_shape);
    access.index[d] = FixedIndex(0);
    access.index[d].read = read;
    access.guarded = true;
    access.fill = Extrapolation(c);
    return access;
  };
  std::vector<Access> reads = {AddTable(compute, std::move(left), d), AddTable(compute, std::move(right), d),
                               AddTable(compute, std::move(share), d), at(0), at(1)};
  return MapStage("resize_linear", shape, std::move(reads), b.Finish(x * (1 - weight) + y * weight), to);
}

// One stage for each axis that is resized, through temporaries in the compute type; first those that become shorter, so
// that no temporary is larger than both x and the result.
Compute ComputeLinear(const OpContext& c) {
  Compute compute = StartCompute(c);
  const Shape& shape = c.shape(0);
  std::vector<int> order;
  for (int d = 0; d < shape.rank(); ++d) {
    const ResizedAxis axis = AxisOf(c, d);
    bool identity = axis.in == axis.out;
    for (int64_t o = 0; identity && o < axis.out; ++o) identity = axis.Original(o) == static_cast<double>(o);
    if (!identity) order.push_back(d);
  }
  std::stable_partition(order.begin(), order.end(), [&](int d) { return c.outputs[0].shape[d] < shape[d]; });
  if (order.empty()) {
    compute.stages.push_back(MapStage("copy", shape, {Elementwise(In(0), shape)}, IdentityBody(c.dtype(0)), Out()));
    return compute;
  }
  BufferRef from = In(0);
  TensorType type = c.input(0);
  for (size_t n = 0; n < order.size(); ++n) {
    const int d = order[n];
    const BufferRef to = n + 1 == order.size() ? Out() : Temp(static_cast<int>(n));
    compute.stages.push_back(LinearStage(c, compute, d, from, type.shape, type.dtype, to));
    type.dtype = ComputeType(c.dtype(0));
    type.shape[d] = c.outputs[0].shape[d];
    if (to.kind == BufferKind::kTemp) compute.temps.push_back(type);
    from = to;
  }
  return compute;
}

Compute MakeCompute(const OpContext& c) {
  return c.attrs.String("mode") == "nearest" ? ComputeNearest(c) : ComputeLinear(c);
}

}  // namespace

OpDef MakeResizeOp() {
  OpDef def = {};
  def.doc = "x sampled at other positions, along any of its dimensions. ONNX Resize-19, modes nearest and linear.";
  def.attrs = {
      {"sizes", AttrKind::kInts, true, "extents of the result"},
      {"scales", AttrKind::kFloats, true, "as given, or size / extent: what the coordinate formula divides by"},
      {"mode", AttrKind::kString, true, "\"nearest\" or \"linear\""},
      {"coordinate", AttrKind::kString, true, "coordinate_transformation_mode of ONNX Resize"},
      {"nearest", AttrKind::kString, false, "rounding of mode nearest, \"round_prefer_floor\" when absent"},
      {"roi", AttrKind::kFloats, false, "of tf_crop_and_resize: starts of all dimensions, then ends, as shares of x"},
      {"extrapolation", AttrKind::kFloat, false, "of tf_crop_and_resize: what stands outside x; 0 when absent"}};
  def.infer = &Infer;
  def.reference = &Reference;
  def.compute = &MakeCompute;
  return def;
}

}  // namespace tessera
