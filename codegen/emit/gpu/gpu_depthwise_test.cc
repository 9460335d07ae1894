// Depthwise convolutions with channels last and first, strides, padding, dilation, odd sizes, narrow types and bytes
// whose padding is not zero, against the interpreter in double.
#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/testing/gpu_kernels.h"
#include "codegen/emitter.h"
#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

void Check(const Graph& graph, double allowed = 1e-5) {
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_depthwise", allowed));
}

Tensor Filter(DType type, int64_t channels, int64_t ky, int64_t kx) {
  Tensor filter(type, {channels, 1, ky, kx});
  for (int64_t k = 0; k < filter.num_elements(); ++k) {
    IsFloat(type) ? filter.Set(k, static_cast<double>(k * 7 % 11) / 8 - 0.5) : filter.SetInt(k, k * 7 % 11 - 5);
  }
  return filter;
}

ValueId Image(GraphBuilder& b, const std::string& layout, DType type, int64_t batch, int64_t channels, int64_t y,
              int64_t x) {
  return b.Input("x", type, layout == "nhwc" ? Shape({batch, y, x, channels}) : Shape({batch, channels, y, x}));
}

TEST(GpuDepthwiseTest, WindowsOfAllKinds) {
  for (const std::string layout : {"nhwc", "nchw"}) {
    for (int64_t channels : {3, 32}) {
      for (int64_t stride : {1, 2}) {
        for (int64_t taps : {3, 5}) {
          GraphBuilder b(internal::Join(layout, " ", channels, " stride ", stride, " taps ", taps));
          const int64_t pad = taps / 2;
          const WindowParams window = {
              .strides = {stride, stride}, .dilations = {}, .pads = {pad, pad, pad - 1, pad}, .layout = layout};
          const ValueId x = Image(b, layout, DType::kF32, 2, channels, 15, 13);
          const ValueId w = b.Constant("w", Filter(DType::kF32, channels, taps, taps));
          b.Output(b.Relu(b.Conv(x, w, window, channels)));
          Check(Built(std::move(b)));
        }
      }
    }
  }
}

// So many threads that each takes a tile, whose last rows and columns do not exist.
TEST(GpuDepthwiseTest, LargeImages) {
  for (const std::string layout : {"nhwc", "nchw"}) {
    GraphBuilder b("large " + layout);
    const WindowParams window = {.strides = {1, 1}, .dilations = {2, 1}, .pads = {2, 1, 2, 1}, .layout = layout};
    const ValueId x = Image(b, layout, DType::kF32, 3, 64, 111, 109);
    b.Output(b.Conv(x, b.Constant("w", Filter(DType::kF32, 64, 3, 3)), window, 64));
    Check(Built(std::move(b)));
  }
}

TEST(GpuDepthwiseTest, NarrowTypes) {
  const WindowParams window = {.strides = {2, 1}, .dilations = {}, .pads = {1, 1, 1, 1}, .layout = "nhwc"};
  GraphBuilder halves("halves");
  halves.Output(halves.Conv(Image(halves, "nhwc", DType::kF16, 2, 24, 14, 9),
                            halves.Constant("w", Filter(DType::kF16, 24, 3, 3)), window, 24));
  Check(Built(std::move(halves)), 2e-3);
  for (DType type : {DType::kU8, DType::kI8}) {
    GraphBuilder bytes("bytes");
    bytes.Output(bytes.Conv(Image(bytes, "nhwc", type, 2, 20, 14, 9), bytes.Constant("w", Filter(DType::kI8, 20, 3, 3)),
                            window, 20));
    Graph graph = Built(std::move(bytes));
    graph.nodes[0].attrs.Set("pad_value", int64_t{3});
    Check(graph, 0);
  }
}

TEST(GpuDepthwiseTest, EveryTile) {
  for (const std::string layout : {"nhwc", "nchw"}) {
    GraphBuilder b("tiles " + layout);
    const WindowParams window = {.strides = {1, 1}, .dilations = {}, .pads = {1, 1, 1, 1}, .layout = layout};
    b.Output(
        b.Conv(Image(b, layout, DType::kF32, 1, 8, 7, 9), b.Constant("w", Filter(DType::kF32, 8, 3, 3)), window, 8));
    const Graph graph = Built(std::move(b));
    Target target = *MakeTarget("simt:nvptx:sm_90");
    std::string why;
    EXPECT_EQ(WaysOf(EmitterNamed("gpu_depthwise"), graph, graph.nodes[0], target, &why).size(), 1u);
    target.whole_space = true;
    const std::vector<Way> ways = WaysOf(EmitterNamed("gpu_depthwise"), graph, graph.nodes[0], target, &why);
    EXPECT_GE(ways.size(), 3u);
    for (const Way& way : ways) {
      EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), target.name,
                                 {.only_emitter = "gpu_depthwise:" + way.name}, 1e-5))
          << way.name;
    }
  }
}

TEST(GpuDepthwiseTest, EpilogueOfEveryShape) {
  GraphBuilder b("epilogue");
  const WindowParams window = {.strides = {1, 1}, .dilations = {}, .pads = {1, 1, 1, 1}, .layout = "nhwc"};
  const ValueId x = Image(b, "nhwc", DType::kF32, 2, 16, 7, 7);
  const ValueId conv = b.Conv(x, b.Constant("w", Filter(DType::kF32, 16, 3, 3)), window, 16);
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32), residual = body.Input(DType::kF32),
               pixel = body.Input(DType::kF32);
  b.Output(b.WithEpilogue(conv, body.Finish(Max((sum + bias) * pixel + residual, 0.0)),
                          {b.Input("bias", DType::kF32, {16}), x, b.Input("pixel", DType::kF32, {7, 7, 1})},
                          DType::kF32));
  Check(Built(std::move(b)));
}

}  // namespace
}  // namespace tessera
