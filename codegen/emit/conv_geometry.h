// ConvGeometry: a convolution of channels-last images, as numbers that kernels are made from.
//
//   std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, &why);
//   input element (n, y, x, c) of window (oy, ox) and tap (ky, kx):
//     y = oy * y_axis.stride - y_axis.pad + ky * y_axis.dilation,   x likewise;   outside the image it is pad_value
//
// One spatial axis is taken for the x axis of images one pixel high. Values only. Tested by conv_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_CONV_GEOMETRY_H_
#define TESSERA_CODEGEN_EMIT_CONV_GEOMETRY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

struct ConvAxis {
  int64_t in = 1, out = 1, taps = 1, stride = 1, dilation = 1, pad = 0;  // pad: before the first pixel
  // Does every tap of every window lie within the image?
  bool inside() const { return pad == 0 && (out - 1) * stride + (taps - 1) * dilation < in; }
  // Do the taps of window `w` all lie within the image?
  bool window_inside(int64_t w) const { return w * stride >= pad && w * stride - pad + (taps - 1) * dilation < in; }
};

struct ConvGeometry {
  DType type = DType::kF32, weights_type = DType::kF32;  // of the image, of the weights
  int64_t pad_value = 0;                                 // an integer image's outside
  int64_t batch = 1;
  ConvAxis y, x;
  int64_t groups = 1;
  int64_t in_channels = 1, out_channels = 1;  // of one group

  int64_t pixels() const { return batch * y.out * x.out; }  // of the result
  int64_t taps() const { return y.taps * x.taps; }
  // A 1x1 convolution at every pixel: a product with the matrix of pixels × channels where it lies.
  bool IsMatmul() const {
    return groups == 1 && taps() == 1 && y.inside() && x.inside() && y.stride == 1 && x.stride == 1;
  }
  int64_t image_elements() const { return batch * y.in * x.in * all_in_channels(); }
  int64_t all_in_channels() const { return groups * in_channels; }
  int64_t all_out_channels() const { return groups * out_channels; }
  double flops() const {
    return 2.0 * static_cast<double>(pixels() * all_out_channels()) * static_cast<double>(taps() * in_channels);
  }
  // Bytes of input, weights and result.
  double bytes() const;
  std::string Key() const;
};

// Of a conv node in layout nhwc with one or two spatial axes and constant weights, in any types; otherwise nullopt, and
// *why says what was found. With layout "nchw", of a convolution of images with channels first.
std::optional<ConvGeometry> ReadConvGeometry(const Graph& graph, const Node& node, std::string* why,
                                             std::string_view layout = "nhwc");

// Weights [out, in, ky, kx] as [out, ky, kx, in], the order in which a window of a channels-last image lies.
Tensor WeightsInWindowOrder(const Tensor& weights, const ConvGeometry& geometry);
// Depthwise weights [channels, 1, ky, kx] as [ky, kx, channels].
Tensor FilterByTaps(const Tensor& weights, const ConvGeometry& geometry);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_CONV_GEOMETRY_H_
