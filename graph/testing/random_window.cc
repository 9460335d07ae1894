// Random cases of the families pool and resize.
#include <algorithm>
#include <string>
#include <vector>

#include "graph/testing/random_node.h"

namespace tessera {
namespace {

// x and the window's parameters, such that each window holds an element of x.
void RandomPool(CaseBuilder& c, DType dtype, bool ceil) {
  const int rank = c.Chance(0.7) ? 2 : (c.Chance(0.7) ? 1 : 3);
  const bool channels_last = c.Chance(0.5);
  const int64_t channels = c.Int(1, 5);
  std::vector<int64_t> x = {c.Int(1, 2)}, kernel, strides, dilations, begins, ends;
  if (!channels_last) x.push_back(channels);
  for (int i = 0; i < rank; ++i) {
    const int64_t extent = c.Int(1, rank == 1 ? 30 : (rank == 2 ? 9 : 5));
    const int64_t taps = c.Chance(0.15) ? extent : c.Int(1, std::min<int64_t>(extent, 4));
    // A dilation up to x's extent never steps over all of x.
    const int64_t dilation =
        c.Chance(0.7) ? 1 : std::clamp<int64_t>((extent - 1) / std::max<int64_t>(1, taps - 1), 1, 3);
    const int64_t span = (taps - 1) * dilation + 1;
    kernel.push_back(taps);
    dilations.push_back(dilation);
    strides.push_back(c.Int(1, 3));
    const bool padded = c.Chance(0.5);
    begins.push_back(padded ? c.Int(0, span - 1) : 0);
    ends.push_back(padded ? c.Int(0, span - 1) : 0);
    x.push_back(extent);
  }
  if (channels_last) x.push_back(channels);
  begins.insert(begins.end(), ends.begin(), ends.end());
  c.Input(dtype, Shape(std::move(x)), -100, 100);
  c.attrs.Set("kernel", kernel);
  c.attrs.Set("strides", strides);
  c.attrs.Set("dilations", dilations);
  c.attrs.Set("pads", begins);
  c.attrs.Set("layout", std::string(channels_last ? "nhwc" : "nchw"));
  if (ceil) c.attrs.Set("out_shape_ceil", int64_t{1});
}

}  // namespace

void RandomMaxPool(CaseBuilder& c) { RandomPool(c, c.NumberType(), false); }

void RandomAvgPool(CaseBuilder& c) {
  RandomPool(c, c.FloatType(), c.Chance(0.4));
  if (c.Chance(0.5)) c.attrs.Set("count_include_pad", c.Int(0, 1));
}

void RandomResize(CaseBuilder& c) {
  const bool linear = c.Chance(0.5);
  const Shape shape = c.RandomShape(1, 4);
  std::vector<int64_t> sizes;
  std::vector<double> scales;
  int64_t elements = 1;
  for (int64_t extent : shape) {
    int64_t size = extent;
    double scale = 1;
    if (c.Chance(0.4) && elements < 400) {  // by a scale, of which the size is what fits
      scale = c.Chance(0.5) ? static_cast<double>(c.Int(1, 3)) : c.Real(0.3, 2.5);
      size = static_cast<int64_t>(static_cast<double>(extent) * scale);
    } else if (c.Chance(0.4) && elements < 400) {  // to a size
      size = c.Int(1, 2 * extent);
      scale = static_cast<double>(size) / static_cast<double>(extent);
    }
    if (size == 0) {
      size = extent;
      scale = 1;
    }
    sizes.push_back(size);
    scales.push_back(scale);
    elements *= size;
  }
  const DType dtype = linear ? c.FloatType() : c.NumberType();
  c.Input(dtype, shape);
  c.attrs.Set("sizes", sizes);
  c.attrs.Set("scales", scales);
  c.attrs.Set("mode", std::string(linear ? "linear" : "nearest"));
  std::string coordinate = c.Pick({"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
                                   "half_pixel_symmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"});
  if (coordinate == "tf_crop_and_resize" && !IsFloat(dtype)) coordinate = "half_pixel";
  if (coordinate == "tf_crop_and_resize") {
    std::vector<double> roi;
    for (int k = 0; k < 2 * shape.rank(); ++k) roi.push_back(k < shape.rank() ? c.Real(-0.3, 0.4) : c.Real(0.6, 1.3));
    c.attrs.Set("roi", roi);
    c.attrs.Set("extrapolation", c.Real(-2, 2));
  }
  c.attrs.Set("coordinate", coordinate);
  if (c.Chance(0.7)) {
    c.attrs.Set("nearest", std::string(c.Pick({"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})));
  }
}

}  // namespace tessera
