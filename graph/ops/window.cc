#include "graph/ops/window.h"

#include <algorithm>

namespace tessera {
namespace {

// Larger windows, strides and pads than this are a mistake or an attack; below it no product of two overflows.
constexpr int64_t kMaxParameter = int64_t{1} << 24;

int64_t CeilDiv(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// One list parameter of a window: as many values as needed, each within bounds.
StatusOr<std::vector<int64_t>> ReadList(const Attrs& attrs, std::string_view name, size_t count, int64_t least) {
  const std::vector<int64_t>& values = attrs.Ints(name);
  if (values.size() != count) {
    return Error(ErrorCode::kAttributeInvalid, "expected ", count, " values of '", name, "', found ", values.size());
  }
  for (int64_t value : values) {
    if (value >= least && value <= kMaxParameter) continue;
    return Error(ErrorCode::kAttributeInvalid, "expected values of '", name, "' from ", least, " to ", kMaxParameter,
                 ", found ", value);
  }
  return values;
}

// Taps 0 … of a window that starts at `start` lie at start, start + dilation, …: the first at or after `bound`.
int64_t FirstTapFrom(int64_t start, int64_t dilation, int64_t bound) {
  return start >= bound ? 0 : CeilDiv(bound - start, dilation);
}

}  // namespace

int64_t WindowAxis::TapsIn(int64_t window, int64_t low, int64_t high) const {
  const int64_t start = Position(window, 0);
  const int64_t first = std::min(kernel, FirstTapFrom(start, dilation, low));
  const int64_t last = std::min(kernel, FirstTapFrom(start, dilation, high));
  return std::max<int64_t>(0, last - first);
}

Shape Window::WithLayout(int64_t batch, int64_t channels, const std::vector<int64_t>& spatial) const {
  std::vector<int64_t> dims = {batch};
  if (!channels_last) dims.push_back(channels);
  dims.insert(dims.end(), spatial.begin(), spatial.end());
  if (channels_last) dims.push_back(channels);
  return Shape(std::move(dims));
}

Shape Window::OutputShape(int64_t batch, int64_t channels) const {
  std::vector<int64_t> spatial;
  for (const WindowAxis& axis : axes) spatial.push_back(axis.out);
  return WithLayout(batch, channels, spatial);
}

std::vector<int64_t> Window::Kernel() const {
  std::vector<int64_t> kernel;
  for (const WindowAxis& axis : axes) kernel.push_back(axis.kernel);
  return kernel;
}

std::vector<AttrDef> WindowAttrs() {
  return {{"strides", AttrKind::kInts, true, "one for each spatial axis, >= 1"},
          {"dilations", AttrKind::kInts, true, "one for each spatial axis, >= 1"},
          {"pads", AttrKind::kInts, true, "begins of all spatial axes, then ends, >= 0"},
          {"layout", AttrKind::kString, true, "\"nchw\" or \"nhwc\": where the channels of x and the result stand"}};
}

StatusOr<Window> ReadWindow(const Attrs& attrs, const Shape& x, const std::vector<int64_t>& kernel, bool ceil) {
  if (x.rank() < 3) {
    return Error(ErrorCode::kShapeMismatch, "operand 0: expected batch, channels and at least one spatial axis, found ",
                 x);
  }
  const size_t count = x.rank() - 2;
  if (kernel.size() != count) {
    return Error(ErrorCode::kShapeMismatch, "expected a kernel with ", count, " spatial axes as operand 0 ", x,
                 " has, found ", kernel.size());
  }
  const std::string& layout = attrs.String("layout");
  if (layout != "nchw" && layout != "nhwc") {
    return Error(ErrorCode::kAttributeInvalid, "expected layout \"nchw\" or \"nhwc\", found \"", layout, "\"");
  }
  ASSIGN_OR_RETURN(std::vector<int64_t> strides, ReadList(attrs, "strides", count, 1));
  ASSIGN_OR_RETURN(std::vector<int64_t> dilations, ReadList(attrs, "dilations", count, 1));
  ASSIGN_OR_RETURN(std::vector<int64_t> pads, ReadList(attrs, "pads", 2 * count, 0));
  Window window = {.channels_last = layout == "nhwc"};
  for (size_t i = 0; i < count; ++i) {
    if (kernel[i] < 1 || kernel[i] > kMaxParameter) {
      return Error(ErrorCode::kAttributeInvalid, "expected kernel extents from 1 to ", kMaxParameter, ", found ",
                   kernel[i]);
    }
    WindowAxis axis = {.in = x[static_cast<int>(i) + (window.channels_last ? 1 : 2)],
                       .kernel = kernel[i],
                       .stride = strides[i],
                       .dilation = dilations[i],
                       .pad_begin = pads[i],
                       .pad_end = pads[count + i]};
    const int64_t padded = axis.in + axis.pad_begin + axis.pad_end;
    const int64_t span = (axis.kernel - 1) * axis.dilation + 1;
    if (ceil) {
      axis.out = CeilDiv(padded - span, axis.stride) + 1;
      if (axis.out > 0 && (axis.out - 1) * axis.stride >= axis.in + axis.pad_begin) --axis.out;
    } else {
      axis.out = padded < span ? 0 : (padded - span) / axis.stride + 1;
    }
    if (axis.out < 1) {
      return Error(ErrorCode::kShapeMismatch, "spatial axis ", i, ": expected the window (", axis.kernel,
                   " taps, dilation ", axis.dilation, ") to fit into ", padded, " padded elements; it spans ", span);
    }
    window.axes.push_back(axis);
  }
  return window;
}

Status CheckWindowsHoldElements(const Window& window) {
  for (size_t i = 0; i < window.axes.size(); ++i) {
    const WindowAxis& axis = window.axes[i];
    const auto fail = [&](int64_t o) {
      return Error(ErrorCode::kAttributeInvalid, "spatial axis ", i,
                   ": expected each window to hold an element of x, "
                   "found window ",
                   o, " of ", axis.out, " with padding only; make the pads smaller");
    };
    // A window that starts in x holds its first tap. One that starts before x reaches past its begin; with a dilation
    // it could step over all of x, so those windows, of which there are few, are looked at one by one.
    const int64_t last = axis.out - 1;
    if (axis.TapsIn(0, 0, axis.in) == 0) return fail(0);
    if (axis.TapsIn(last, 0, axis.in) == 0) return fail(last);
    if (axis.in >= axis.dilation) continue;
    for (int64_t o = 0; o < axis.out && axis.Position(o, 0) < 0; ++o) {
      if (axis.TapsIn(o, 0, axis.in) == 0) return fail(o);
    }
  }
  return OkStatus();
}

Access WindowRead(BufferRef x, const Shape& shape, const Window& window, const IndexExpr& channel,
                  int first_spatial_axis, int first_tap_axis, double fill) {
  Access access = {.buffer = x, .view = shape, .index = std::vector<IndexExpr>(shape.rank())};
  access.index[0] = Axis(0);
  access.index[window.channel_dim()] = channel;
  for (int i = 0; i < static_cast<int>(window.axes.size()); ++i) {
    const WindowAxis& axis = window.axes[i];
    access.index[window.spatial_dim(i)] =
        AxisPlus(Axis(first_spatial_axis + i, axis.stride, -axis.pad_begin), first_tap_axis + i, axis.dilation);
    access.guarded |= axis.pad_begin > 0 || axis.Position(axis.out - 1, axis.kernel - 1) >= axis.in;
  }
  if (access.guarded) access.fill = fill;
  return access;
}

}  // namespace tessera
