// window: the geometry that conv and the pools share: a kernel that slides over the spatial axes of x.
//
//   in 5, kernel 3, stride 2, dilation 1, pads 1 and 1:      x   . 0 1 2 3 4 .
//   out = (5 + 1 + 1 - 3) / 2 + 1 = 3                        o0  |---|
//   tap k of window o lies at  o * 2 - 1 + k * 1             o1      |---|
//                                                            o2          |---|
//
// Parameters: strides, dilations, pads (begins, then ends; >= 0), layout: "nchw" (batch, channels, spatial axes) or
// "nhwc" (batch, spatial axes, channels), whatever the number of spatial axes. Values only. Tested by window_test.cc.
#ifndef TESSERA_GRAPH_OPS_WINDOW_H_
#define TESSERA_GRAPH_OPS_WINDOW_H_

#include <cstdint>
#include <vector>

#include "graph/op.h"

namespace tessera {

// The window along one spatial axis.
struct WindowAxis {
  int64_t in = 0;      // extent of x
  int64_t out = 0;     // number of windows
  int64_t kernel = 1;  // number of taps
  int64_t stride = 1;
  int64_t dilation = 1;
  int64_t pad_begin = 0;
  int64_t pad_end = 0;

  int64_t Position(int64_t window, int64_t tap) const { return window * stride - pad_begin + tap * dilation; }
  // How many taps of a window lie in [low, high).
  int64_t TapsIn(int64_t window, int64_t low, int64_t high) const;
};

struct Window {
  bool channels_last = false;
  std::vector<WindowAxis> axes;

  int rank() const { return static_cast<int>(axes.size()) + 2; }
  int channel_dim() const { return channels_last ? rank() - 1 : 1; }
  int spatial_dim(int axis) const { return axis + (channels_last ? 1 : 2); }
  // The shape of x or of the result: batch, channels and the spatial extents in the layout's order.
  Shape WithLayout(int64_t batch, int64_t channels, const std::vector<int64_t>& spatial) const;
  Shape OutputShape(int64_t batch, int64_t channels) const;
  std::vector<int64_t> Kernel() const;  // the taps of each axis
};

// The rows of OpDef::attrs for strides, dilations, pads and layout.
std::vector<AttrDef> WindowAttrs();

// Reads and checks the parameters of a window over x. `kernel` has one extent for each spatial axis. With `ceil`, a
// last window may hang over the padded end as long as it begins within x or its begin padding.
StatusOr<Window> ReadWindow(const Attrs& attrs, const Shape& x, const std::vector<int64_t>& kernel, bool ceil = false);
// Does each window hold at least one element of x? Otherwise the error says which axis and why.
Status CheckWindowsHoldElements(const Window& window);

// The read of x at tap (first_tap_axis + i) of the window at spatial_axes[i], guarded with `fill` where padding can be
// read. Its batch index is axis 0 of the stage; `channel` indexes the channels.
Access WindowRead(BufferRef x, const Shape& shape, const Window& window, const IndexExpr& channel,
                  int first_spatial_axis, int first_tap_axis, double fill);

}  // namespace tessera

#endif  // TESSERA_GRAPH_OPS_WINDOW_H_
