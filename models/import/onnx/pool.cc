// Poolings. MaxPool's second output, the position of each maximum, is written as a gather of all windows and an
// arg_max.
#include <algorithm>
#include <limits>

#include "models/import/onnx/handlers.h"

namespace tessera {
namespace {

// The number of windows when the last may hang over the end (ceil_mode), which it may as long as it begins before the
// end padding does.
int64_t CeilCount(int64_t extent, const SpatialWindow& window, size_t d, size_t rank) {
  const int64_t reach = (window.kernel[d] - 1) * window.dilations[d] + 1;
  const int64_t span = extent + window.pads[d] + window.pads[d + rank] - reach;
  if (span < 0) return 0;
  int64_t count = (span + window.strides[d] - 1) / window.strides[d] + 1;
  if ((count - 1) * window.strides[d] >= extent + window.pads[d]) --count;
  return count;
}

// Lengthens the end pads so that the plain formula yields the count of ceil_mode.
void ExtendPads(const Shape& x, SpatialWindow& window) {
  const size_t rank = window.kernel.size();
  for (size_t d = 0; d < rank; ++d) {
    const int64_t extent = x[static_cast<int>(d) + 2];
    const int64_t reach = (window.kernel[d] - 1) * window.dilations[d] + 1;
    const int64_t end = (CeilCount(extent, window, d, rank) - 1) * window.strides[d] + reach;
    window.pads[d + rank] = std::max(window.pads[d + rank], end - extent - window.pads[d]);
  }
}

// What no element of the type is below.
double Lowest(DType dtype) {
  return IsFloat(dtype) ? -std::numeric_limits<double>::infinity() : static_cast<double>(MinInt(dtype));
}

// For each window its maximum's index in x, flattened over all of x (row-major, or column-major over the spatial dims
// when storage_order is 1). One table holds, for each window and each of its positions, where that is in one padded
// plane.
StatusOr<ValueId> MaxPoolIndices(OnnxNode& node, ValueId x, const SpatialWindow& window, const Shape& y,
                                 bool column_major) {
  const size_t rank = window.kernel.size();
  const Shape s = node.shape(x);
  std::vector<int64_t> pads(2 * s.rank(), 0), padded(rank), extents(rank), out(rank);
  int64_t plane = 1, padded_plane = 1, taps = 1, windows = 1;
  for (size_t d = 0; d < rank; ++d) {
    pads[d + 2] = window.pads[d];
    pads[s.rank() + d + 2] = window.pads[d + rank];
    extents[d] = s[static_cast<int>(d) + 2];
    padded[d] = extents[d] + window.pads[d] + window.pads[d + rank];
    out[d] = y[static_cast<int>(d) + 2];
    plane *= extents[d];
    padded_plane *= padded[d];
    taps *= window.kernel[d];
    windows *= out[d];
  }
  if (taps > (int64_t{1} << 24) / std::max<int64_t>(windows, 1)) {
    return node.Error(ErrorCode::kLimitExceeded, "the second output of a pooling this large is not supported");
  }
  // positions: in the padded plane, to gather by; sources: in the plane of x, the answer.
  Tensor positions(DType::kI64, {windows * taps}), sources(DType::kI64, {windows, taps});
  const std::vector<int64_t> padded_strides = Shape(padded).Strides();
  std::vector<int64_t> source_strides = Shape(extents).Strides();
  if (column_major) {
    int64_t stride = 1;
    for (size_t d = 0; d < rank; ++d) {
      source_strides[d] = stride;
      stride *= extents[d];
    }
  }
  int64_t n = 0;
  ForEachIndex(Shape(out), [&](const std::vector<int64_t>& o) {
    ForEachIndex(Shape(window.kernel), [&](const std::vector<int64_t>& k) {
      int64_t position = 0, source = 0;
      for (size_t d = 0; d < rank; ++d) {
        const int64_t at = o[d] * window.strides[d] + k[d] * window.dilations[d];
        position += at * padded_strides[d];
        source += (at - window.pads[d]) * source_strides[d];  // of a padded position never asked for
      }
      positions.SetInt(n, position);
      sources.SetInt(n++, source);
    });
  });
  ASSIGN_OR_RETURN(
      ValueId v,
      node.Emit(Op::kPad, {x},
                MakeAttrs({{"pads", pads}, {"mode", std::string("constant")}, {"value", Lowest(node.dtype(x))}})));
  const int64_t planes = s[0] * s[1];
  ASSIGN_OR_RETURN(v, node.Reshape(v, {planes, padded_plane}));
  const ValueId table = node.writer().AddConstant("window_positions", std::move(positions));
  ASSIGN_OR_RETURN(v, node.Emit(Op::kGather, {v, table}, MakeAttrs({{"axis", int64_t{1}}})));
  ASSIGN_OR_RETURN(v, node.Reshape(v, {planes, windows, taps}));
  ASSIGN_OR_RETURN(v, node.Emit(Op::kArgMax, {v}, MakeAttrs({{"axis", int64_t{2}}})));  // [planes, windows, 1]
  const ValueId answers = node.writer().AddConstant("window_sources", std::move(sources));
  ASSIGN_OR_RETURN(const ValueId spread, node.Expand(answers, {planes, windows, taps}));
  ASSIGN_OR_RETURN(v, node.Emit(Op::kGatherElements, {spread, v}, MakeAttrs({{"axis", int64_t{2}}})));
  Tensor first(DType::kI64, {planes, 1, 1});
  for (int64_t p = 0; p < planes; ++p) first.SetInt(p, p * plane);
  ASSIGN_OR_RETURN(v, node.Emit(Op::kAdd, {v, node.writer().AddConstant("plane_starts", std::move(first))}));
  return node.Reshape(v, y.dims());
}

}  // namespace

StatusOr<SpatialWindow> ReadWindow(OnnxNode& node, const Shape& x, std::vector<int64_t> kernel) {
  if (x.rank() < 3) {
    return node.Error(ErrorCode::kShapeMismatch, "expected an input [N,C,…] of at least 3 dimensions, found ", x);
  }
  const std::string mode = node.String("auto_pad", "NOTSET");
  AutoPad auto_pad = AutoPad::kExplicit;
  if (mode == "SAME_UPPER") {
    auto_pad = AutoPad::kSameUpper;
  } else if (mode == "SAME_LOWER") {
    auto_pad = AutoPad::kSameLower;
  } else if (mode == "VALID") {
    auto_pad = AutoPad::kValid;
  } else if (mode != "NOTSET" && !mode.empty()) {
    return node.Error(ErrorCode::kAttributeInvalid, "expected auto_pad to be NOTSET, SAME_UPPER, SAME_LOWER or VALID, ",
                      "found '", mode, "'");
  }
  if (node.HasAttr("kernel_shape")) kernel = node.Ints("kernel_shape");
  const std::vector<int64_t> extents(x.begin() + 2, x.end());
  return node.ResolveWindow(extents,
                            {.kernel = std::move(kernel),
                             .strides = node.Ints("strides"),
                             .dilations = node.Ints("dilations"),
                             .pads = node.Ints("pads")},
                            auto_pad);
}

Imported ImportMaxPool(OnnxNode& node) {
  const ValueId x = node.in(0);
  ASSIGN_OR_RETURN(SpatialWindow window, ReadWindow(node, node.shape(x), {}));
  if (node.Int("ceil_mode", 0) != 0) ExtendPads(node.shape(x), window);
  ASSIGN_OR_RETURN(const ValueId y, node.Emit(Op::kMaxPool, {x},
                                              MakeAttrs({{"kernel", window.kernel},
                                                         {"strides", window.strides},
                                                         {"dilations", window.dilations},
                                                         {"pads", window.pads},
                                                         {"layout", std::string("nchw")}})));
  std::vector<ValueId> outputs = {y};
  if (node.wants(1)) {
    const Shape shape = node.shape(y);
    ASSIGN_OR_RETURN(const ValueId indices, MaxPoolIndices(node, x, window, shape, node.Int("storage_order", 0) != 0));
    outputs.push_back(indices);
  }
  return outputs;
}

Imported ImportAveragePool(OnnxNode& node) {
  const ValueId x = node.in(0);
  ASSIGN_OR_RETURN(const SpatialWindow window, ReadWindow(node, node.shape(x), {}));
  return node.Emit(Op::kAvgPool, {x},
                   MakeAttrs({{"kernel", window.kernel},
                              {"strides", window.strides},
                              {"dilations", window.dilations},
                              {"pads", window.pads},
                              {"layout", std::string("nchw")},
                              {"count_include_pad", int64_t{node.Int("count_include_pad", 0) != 0}},
                              {"out_shape_ceil", int64_t{node.Int("ceil_mode", 0) != 0}}}));
}

Imported ImportGlobalPoolOp(OnnxNode& node, Op op) {
  const ValueId x = node.in(0);
  if (node.rank(x) < 3) {
    return node.Error(ErrorCode::kShapeMismatch, "expected an input [N,C,…] of at least 3 dimensions, found ",
                      node.type(x));
  }
  std::vector<int64_t> axes;
  for (int d = 2; d < node.rank(x); ++d) axes.push_back(d);
  return node.Emit(op, {x}, MakeAttrs({{"axes", axes}, {"keepdims", int64_t{1}}}));
}

}  // namespace tessera
