// Resize and its predecessor Upsample: nearest and linear. Cubic and antialiased resizing are refused.
#include <algorithm>
#include <cmath>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

constexpr int64_t kMaxExtent = int64_t{1} << 31;

// Target extents and scale factors for all dims.
struct Target {
  std::vector<int64_t> sizes;
  std::vector<double> scales;
};

StatusOr<Target> FromScales(const OnnxNode& node, const Shape& x, const std::vector<double>& scales,
                            const std::vector<int64_t>& axes) {
  Target target = {x.dims(), std::vector<double>(x.rank(), 1)};
  if (scales.size() != axes.size()) {
    return node.Error(ErrorCode::kShapeMismatch, "expected ", axes.size(), " scales, found ", scales.size());
  }
  for (size_t k = 0; k < axes.size(); ++k) {
    const double size = std::floor(static_cast<double>(x[static_cast<int>(axes[k])]) * scales[k]);
    if (!(scales[k] > 0) || !(size <= kMaxExtent)) {
      return node.Error(ErrorCode::kValueInvalid, "expected finite scales above 0, found ", scales[k]);
    }
    target.scales[axes[k]] = scales[k];
    target.sizes[axes[k]] = static_cast<int64_t>(size);
  }
  return target;
}

StatusOr<Target> FromSizes(const OnnxNode& node, const Shape& x, const std::vector<int64_t>& sizes,
                           const std::vector<int64_t>& axes, const std::string& policy) {
  Target target = {x.dims(), std::vector<double>(x.rank(), 1)};
  if (sizes.size() != axes.size()) {
    return node.Error(ErrorCode::kShapeMismatch, "expected ", axes.size(), " sizes, found ", sizes.size());
  }
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t extent = x[static_cast<int>(axes[k])];
    if (sizes[k] < 0 || sizes[k] > kMaxExtent || extent == 0) {
      return node.Error(ErrorCode::kValueInvalid, "cannot resize ", x, " to sizes ", Shape(sizes));
    }
    target.sizes[axes[k]] = sizes[k];
    target.scales[axes[k]] = static_cast<double>(sizes[k]) / static_cast<double>(extent);
  }
  if (policy == "stretch" || axes.empty()) return target;
  if (policy != "not_larger" && policy != "not_smaller") {
    return node.Error(ErrorCode::kAttributeInvalid, "keep_aspect_ratio_policy '", policy, "' is not known");
  }
  double scale = target.scales[axes[0]];
  for (int64_t axis : axes) {
    scale = policy == "not_larger" ? std::min(scale, target.scales[axis]) : std::max(scale, target.scales[axis]);
  }
  for (int64_t axis : axes) {
    target.scales[axis] = scale;
    const double size = std::floor(scale * static_cast<double>(x[static_cast<int>(axis)]) + 0.5);
    if (!(size <= kMaxExtent)) return node.Error(ErrorCode::kLimitExceeded, "cannot resize ", x, " by ", scale);
    target.sizes[axis] = static_cast<int64_t>(size);
  }
  return target;
}

// The resize of operand 0; `extra` holds parameters of some coordinate modes.
Imported EmitResize(const OnnxNode& node, const Target& target, const std::string& mode, const std::string& coordinate,
                    const std::string& nearest, Attrs extra = {}) {
  const ValueId x = node.in(0);
  if (target.sizes == node.shape(x).dims() && coordinate != "tf_crop_and_resize") return x;
  extra.Set("sizes", target.sizes);
  extra.Set("scales", target.scales);
  extra.Set("mode", mode);
  extra.Set("coordinate", coordinate);
  if (mode == "nearest") extra.Set("nearest", nearest);
  return node.Emit(Op::kResize, {x}, std::move(extra));
}

// The parameters of tf_crop_and_resize: the region as shares of the extents, starts and then ends, of the dims in
// `axes`.
StatusOr<Attrs> ReadRegion(OnnxNode& node, const std::vector<int64_t>& axes) {
  ASSIGN_OR_RETURN(const Tensor given, node.Const(1, "roi"));
  const size_t rank = node.rank(node.in(0));
  if (given.num_elements() != static_cast<int64_t>(2 * axes.size())) {
    return node.Error(ErrorCode::kShapeMismatch, "expected ", 2 * axes.size(), " values of roi, found ", given.type());
  }
  std::vector<double> roi(2 * rank, 0);
  std::fill(roi.begin() + static_cast<int64_t>(rank), roi.end(), 1);
  for (size_t k = 0; k < axes.size(); ++k) {
    roi[axes[k]] = given.Get(static_cast<int64_t>(k));
    roi[axes[k] + rank] = given.Get(static_cast<int64_t>(k + axes.size()));
  }
  return MakeAttrs({{"roi", std::move(roi)}, {"extrapolation", node.Float("extrapolation_value", 0)}});
}

StatusOr<std::vector<double>> ReadScales(const OnnxNode& node, int k) {
  ASSIGN_OR_RETURN(const Tensor tensor, node.Const(k, "scales"));
  std::vector<double> scales(tensor.num_elements());
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = tensor.Get(static_cast<int64_t>(i));
  return scales;
}

std::vector<int64_t> AllAxes(int rank) {
  std::vector<int64_t> axes(rank);
  for (int d = 0; d < rank; ++d) axes[d] = d;
  return axes;
}

bool IsEmpty(const OnnxNode& node, int k) { return !node.has(k) || node.shape(node.in(k)).num_elements() == 0; }

}  // namespace

Imported ImportResize(OnnxNode& node) {
  const Shape x = node.shape(node.in(0));
  std::string mode = node.String("mode", "nearest");
  if (mode != "nearest" && mode != "linear") {
    return node.Error(ErrorCode::kOpUnsupported, "expected the mode nearest or linear, found '", mode, "'");
  }
  if (node.opset() == 10) {
    if (!node.has(1)) return node.Error(ErrorCode::kGraphInvalid, "expected scales as operand 1, found none");
    ASSIGN_OR_RETURN(const std::vector<double> scales, ReadScales(node, 1));
    ASSIGN_OR_RETURN(const Target target, FromScales(node, x, scales, AllAxes(x.rank())));
    return EmitResize(node, target, mode, "asymmetric", "floor");
  }
  const std::string coordinate = node.String("coordinate_transformation_mode", "half_pixel");
  if (node.Int("antialias", 0) != 0) return node.Error(ErrorCode::kOpUnsupported, "antialiasing is not supported");
  std::vector<int64_t> axes = AllAxes(x.rank());
  if (node.HasAttr("axes")) {
    axes = node.Ints("axes");  // in the order of sizes and scales
    for (int64_t& axis : axes) {
      ASSIGN_OR_RETURN(axis, node.Axis(axis, x.rank()));
    }
  }
  const std::string nearest = node.String("nearest_mode", "round_prefer_floor");
  Attrs extra;
  if (coordinate == "tf_crop_and_resize") {
    ASSIGN_OR_RETURN(extra, ReadRegion(node, axes));
  }
  if (!IsEmpty(node, 3)) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> sizes, node.ConstInts(3, "sizes"));
    ASSIGN_OR_RETURN(const Target target,
                     FromSizes(node, x, sizes, axes, node.String("keep_aspect_ratio_policy", "stretch")));
    return EmitResize(node, target, mode, coordinate, nearest, extra);
  }
  if (IsEmpty(node, 2)) return node.Error(ErrorCode::kGraphInvalid, "expected scales or sizes, found neither");
  ASSIGN_OR_RETURN(const std::vector<double> scales, ReadScales(node, 2));
  ASSIGN_OR_RETURN(const Target target, FromScales(node, x, scales, axes));
  return EmitResize(node, target, mode, coordinate, nearest, extra);
}

Imported ImportUpsample(OnnxNode& node) {
  const Shape x = node.shape(node.in(0));
  std::string mode = node.String("mode", "nearest");
  if (mode == "bilinear") mode = "linear";
  if (mode != "nearest" && mode != "linear") {
    return node.Error(ErrorCode::kOpUnsupported, "expected the mode nearest or linear, found '", mode, "'");
  }
  std::vector<double> scales = node.Floats("scales");
  if (node.has(1)) {
    ASSIGN_OR_RETURN(scales, ReadScales(node, 1));
  }
  ASSIGN_OR_RETURN(const Target target, FromScales(node, x, scales, AllAxes(x.rank())));
  return EmitResize(node, target, mode, "asymmetric", "floor");
}

}  // namespace tessera
