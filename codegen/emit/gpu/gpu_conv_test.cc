// Dense convolutions with channels last and first, as products of images and of windows, odd sizes, halves and bytes,
// against the interpreter in double.
#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/gpu/testing/gpu_products.h"
#include "codegen/emit/testing/gpu_kernels.h"
#include "codegen/emitter.h"
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

std::vector<Way> GpuConvWays(const Graph& graph, const std::string& target_name, std::string* why) {
  Target target = *MakeTarget(target_name);
  target.whole_space = true;
  return WaysOf(EmitterNamed("gpu_conv"), graph, graph.nodes[0], target, why);
}

// Every `every`-th of the ways that gather windows; how many there are.
int CheckGathering(const Graph& graph, double allowed, const std::string& target = "simt:nvptx:sm_80",
                   size_t every = 1) {
  std::string why;
  int found = 0;
  size_t number = 0;
  for (const Way& way : GpuConvWays(graph, target, &why)) {
    if (way.name.rfind("gather ", 0) != 0) continue;
    ++found;
    if (number++ % every != 0) continue;
    EXPECT_TRUE(
        CompiledAgrees(graph, RandomInputs(graph, 9), target, {.only_emitter = "gpu_conv:" + way.name}, allowed))
        << graph.name << ", " << way.name;
  }
  return found;
}

TEST(GpuConvTest, GatheredWindows) {
  struct Case {
    int64_t channels, taps, stride, dilation, pad;
  };
  // Pieces of 16, 8 and 4 bytes of f32; windows that lie within the image; a depth that no tile divides.
  for (const Case& c : {Case{8, 3, 1, 1, 1}, {6, 3, 2, 1, 1}, {3, 5, 2, 1, 2}, {5, 2, 1, 3, 0}, {32, 1, 2, 1, 0}}) {
    GraphBuilder b(internal::Join("gather ", c.channels, " taps ", c.taps, " stride ", c.stride));
    const WindowParams window = {.strides = {c.stride, c.stride},
                                 .dilations = {c.dilation, 1},
                                 .pads = {c.pad, c.pad, c.pad, c.pad},
                                 .layout = "nhwc"};
    const ValueId x = b.Input("x", DType::kF32, Image("nhwc", 2, c.channels, 13, 15));
    b.Output(b.Relu(b.Conv(x, b.Constant("w", Filter(DType::kF32, {34, c.channels, c.taps, c.taps})), window)));
    const Graph graph = Built(std::move(b));
    EXPECT_GT(CheckGathering(graph, 1e-5, "simt:nvptx:sm_80", 3), 3) << graph.name;
    CheckGathering(graph, 2e-3, "simt:nvptx:sm_80+tf32", 5);
    CheckGathering(graph, 1e-5, "simt:nvptx:sm_75", 5);
  }
}

TEST(GpuConvTest, GatheredHalvesAndBytes) {
  for (DType type : {DType::kF16, DType::kBF16, DType::kU8}) {
    for (int64_t channels : {16, 6, 3}) {
      const WindowParams window = {.strides = {2, 1}, .dilations = {1, 2}, .pads = {1, 2, 1, 2}, .layout = "nhwc"};
      GraphBuilder b(internal::Join("gather ", Name(type), " ", channels));
      const DType weights = type == DType::kU8 ? DType::kI8 : type;
      b.Output(b.Conv(b.Input("x", type, Image("nhwc", 3, channels, 9, 11)),
                      b.Constant("w", Filter(weights, {40, channels, 3, 3})), window));
      EXPECT_GT(CheckGathering(Built(std::move(b)), ProductBound(type), "simt:nvptx:sm_80", 3), 3);
    }
  }
}

TEST(GpuConvTest, GroupsOfChannels) {
  for (DType type : {DType::kF32, DType::kF16}) {
    for (int64_t groups : {2, 5}) {
      for (int64_t taps : {1, 3}) {
        const WindowParams window = {
            .strides = {taps, 1}, .dilations = {}, .pads = {taps / 2, taps / 2, taps / 2, taps / 2}, .layout = "nhwc"};
        GraphBuilder b(internal::Join("groups ", Name(type), " ", groups, " taps ", taps));
        const ValueId x = b.Input("x", type, Image("nhwc", 2, 8 * groups, 9, 7));
        const ValueId conv = b.Conv(x, b.Constant("w", Filter(type, {6 * groups, 8, taps, taps})), window, groups);
        BodyBuilder body;
        const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32);
        b.Output(b.WithEpilogue(conv, body.Finish(Max(sum + bias, 0.0)), {b.Input("bias", DType::kF32, {6 * groups})},
                                type));
        const Graph graph = Built(std::move(b));
        Check(graph, type == DType::kF32 ? 1e-5 : 2e-3);
        EXPECT_GT(CheckGathering(graph, type == DType::kF32 ? 1e-5 : 2e-3, "simt:nvptx:sm_80", 2), 1) << graph.name;
      }
    }
  }
}

TEST(GpuConvTest, WhatIsNotGathered) {
  const auto ways = [](const WindowParams& window, int64_t taps, int64_t pad_value) {
    GraphBuilder b("none");
    b.Output(b.Conv(b.Input("x", DType::kU8, Image("nhwc", 1, 16, 40, 40)),
                    b.Constant("w", Filter(DType::kI8, {24, 16, taps, taps})), window));
    Graph graph = Built(std::move(b));
    graph.nodes[0].attrs.Set("pad_value", pad_value);
    std::string why;
    int gathering = 0;
    for (const Way& way : GpuConvWays(graph, "cuda:sm_80", &why)) gathering += way.name.rfind("gather ", 0) == 0;
    return gathering;
  };
  const WindowParams padded = {.strides = {1, 1}, .dilations = {}, .pads = {1, 1, 1, 1}, .layout = "nhwc"};
  const WindowParams within = {.strides = {1, 1}, .dilations = {}, .pads = {0, 0, 0, 0}, .layout = "nhwc"};
  EXPECT_GT(ways(padded, 3, 0), 0);
  EXPECT_EQ(ways(padded, 3, 7), 0) << "what lies outside is not zero";
  EXPECT_GT(ways(within, 3, 7), 0) << "nothing lies outside";
  EXPECT_EQ(ways(padded, 16, 0), 0) << "more taps than the mask has bits";
  EXPECT_EQ(ways(within, 1, 0), 0) << "the image itself is an operand";
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
