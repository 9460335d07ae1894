// Dense convolutions with channels last and first, as products of images and of windows, odd sizes, halves and bytes,
// against the interpreter in double.
#include "codegen/emit/testing/gpu_kernels.h"
#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

void Check(const Graph& graph, double allowed = 1e-5) {
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_conv", allowed));
}

Tensor Filter(DType type, Shape shape) {
  Tensor filter(type, std::move(shape));
  for (int64_t k = 0; k < filter.num_elements(); ++k) {
    IsFloat(type) ? filter.Set(k, static_cast<double>(k * 7 % 11) / 8 - 0.5) : filter.SetInt(k, k * 7 % 11 - 5);
  }
  return filter;
}

Shape Image(const std::string& layout, int64_t batch, int64_t channels, int64_t y, int64_t x) {
  return layout == "nhwc" ? Shape({batch, y, x, channels}) : Shape({batch, channels, y, x});
}

TEST(GpuConvTest, ImagesAndWindows) {
  for (const std::string layout : {"nhwc", "nchw"}) {
    for (int64_t channels : {3, 20}) {
      for (int64_t taps : {1, 3}) {
        for (int64_t stride : {1, 2}) {
          GraphBuilder b(internal::Join(layout, " channels ", channels, " taps ", taps, " stride ", stride));
          const int64_t pad = taps / 2;
          const WindowParams window = {
              .strides = {stride, stride}, .dilations = {}, .pads = {pad, pad, pad, pad}, .layout = layout};
          const ValueId x = b.Input("x", DType::kF32, Image(layout, 2, channels, 13, 15));
          const ValueId conv = b.Conv(x, b.Constant("w", Filter(DType::kF32, {34, channels, taps, taps})), window);
          BodyBuilder body;
          const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32);
          const Shape shape = layout == "nhwc" ? Shape({34}) : Shape({34, 1, 1});
          b.Output(b.WithEpilogue(conv, body.Finish(Max(sum + bias, 0.0)), {b.Input("bias", DType::kF32, shape)},
                                  DType::kF32));
          Check(Built(std::move(b)));
        }
      }
    }
  }
}

TEST(GpuConvTest, HalvesAndBytes) {
  const WindowParams window = {.strides = {1, 1}, .dilations = {2, 1}, .pads = {2, 1, 2, 1}, .layout = "nhwc"};
  GraphBuilder halves("halves");
  halves.Output(halves.Conv(halves.Input("x", DType::kF16, Image("nhwc", 2, 16, 9, 11)),
                            halves.Constant("w", Filter(DType::kF16, {24, 16, 3, 3})), window));
  Check(Built(std::move(halves)), 2e-3);
  GraphBuilder bytes("bytes");
  bytes.Output(bytes.Conv(bytes.Input("x", DType::kU8, Image("nhwc", 2, 16, 9, 11)),
                          bytes.Constant("w", Filter(DType::kI8, {24, 16, 3, 3})), window));
  Graph graph = Built(std::move(bytes));
  graph.nodes[0].attrs.Set("pad_value", int64_t{3});
  Check(graph, 0);
}

TEST(GpuConvTest, OneSpatialAxis) {
  for (const std::string layout : {"nhwc", "nchw"}) {
    GraphBuilder b("one axis " + layout);
    const WindowParams window = {.strides = {2}, .dilations = {}, .pads = {1, 2}, .layout = layout};
    const Shape shape = layout == "nhwc" ? Shape({3, 41, 12}) : Shape({3, 12, 41});
    b.Output(b.Conv(b.Input("x", DType::kF32, shape), b.Constant("w", Filter(DType::kF32, {18, 12, 4})), window));
    Check(Built(std::move(b)));
  }
}

}  // namespace
}  // namespace tessera
