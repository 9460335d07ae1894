// Convolutions of few channels with the weights in the code: windows of all kinds, odd sizes, both layouts and the
// transposition between them, f32, f16 and bf16, epilogues, pruned weights, against the interpreter in double; and what
// is left to others.
#include <cmath>

#include "codegen/compile.h"
#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/testing/gpu_kernels.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "gtest/gtest.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr const char* kEmitter = "gpu_direct_conv";

struct Conv {
  DType type = DType::kF32;
  int64_t batch = 2, y = 13, x = 11, inputs = 3, outputs = 8, taps = 3, stride = 1, dilation = 1, pad = 1;
  std::string layout = "nhwc";
  bool transposed = false;  // the image comes with channels first, and the graph transposes it
  DType result = DType::kF32;
  bool bias = true;
};

Tensor Filter(DType type, Shape shape) {
  Random random(3);
  return RandomTensorIn(random, {type, std::move(shape)}, -0.5, 0.5);
}

// relu(conv + bias)
Graph MakeGraph(const Conv& c) {
  GraphBuilder b(internal::Join(c.layout, c.transposed ? " transposed " : " ", Name(c.type), " ", c.inputs, " -> ",
                                c.outputs, " of ", c.taps, "x", c.taps, " / ", c.stride, " ", c.y, "x", c.x));
  const bool first = c.layout == "nchw" || c.transposed;
  const Shape shape = first ? Shape({c.batch, c.inputs, c.y, c.x}) : Shape({c.batch, c.y, c.x, c.inputs});
  ValueId x = b.Input("x", c.type, shape);
  if (c.transposed) x = b.Transpose(x, {0, 2, 3, 1});
  const WindowParams window = {.strides = {c.stride, c.stride},
                               .dilations = {c.dilation, 1},
                               .pads = {c.pad, c.pad, c.pad, c.pad},
                               .layout = c.layout};
  const ValueId w = b.Constant("w", Filter(c.type, {c.outputs, c.inputs, c.taps, c.taps}));
  const ValueId conv = b.Conv(x, w, window);
  if (!c.bias) {
    b.Output(conv);
    return Built(std::move(b));
  }
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32);
  const Shape by_channel = c.layout == "nhwc" ? Shape({c.outputs}) : Shape({c.outputs, 1, 1});
  const ValueId constant = b.Constant("bias", Filter(DType::kF32, by_channel));
  b.Output(b.WithEpilogue(conv, body.Finish(Max(sum + bias, 0.0)), {constant}, c.result));
  return Built(std::move(b));
}

double Bound(const Conv& c) {
  if (c.type == DType::kBF16 || c.result == DType::kBF16) return 2e-2;
  return c.type == DType::kF16 || c.result == DType::kF16 ? 3e-3 : 1e-5;
}

void Check(const Conv& c) {
  const Graph graph = MakeGraph(c);
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), kEmitter, Bound(c)));
}

void CheckOn(const Conv& c, const std::string& level) {
  const Graph graph = MakeGraph(c);
  EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), level, {.only_emitter = kEmitter}, Bound(c)))
      << graph.name << ", " << level;
}

TEST(GpuDirectConvTest, WindowsOfAllKinds) {
  for (const std::string layout : {"nhwc", "nchw"}) {
    for (int64_t stride : {1, 2}) {
      for (int64_t taps : {1, 2, 3, 5}) {
        Check({.taps = taps, .stride = stride, .pad = taps / 2, .layout = layout});
      }
    }
    Check({.dilation = 2, .pad = 2, .layout = layout});
    Check({.taps = 4, .stride = 3, .pad = 0, .layout = layout});
    Check({.batch = 1, .y = 1, .x = 2, .layout = layout});
  }
}

// Pixels of all lengths in shared memory: single elements, vectors, lines that are set apart; tails of pieces.
TEST(GpuDirectConvTest, ChannelsOfAllNumbers) {
  for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{1, 1},
                                        {2, 3},
                                        {3, 32},
                                        {4, 12},
                                        {12, 21},
                                        {21, 14},
                                        {14, 48},
                                        {5, 2},
                                        {8, 64},
                                        {7, 33},
                                        {6, 16}}) {
    for (int64_t taps : {1, 3}) {
      if (taps * taps * inputs * outputs > 2304) continue;
      Check({.inputs = inputs, .outputs = outputs, .taps = taps, .pad = taps / 2});
    }
    Check({.batch = 1, .y = 16, .x = 16, .inputs = inputs, .outputs = outputs, .taps = 1, .pad = 0});
  }
}

TEST(GpuDirectConvTest, TranspositionsBeforeIt) {
  for (DType type : {DType::kF32, DType::kF16}) {
    for (int64_t stride : {1, 2}) {
      const Conv c = {.type = type, .outputs = 10, .stride = stride, .transposed = true, .result = type};
      Check(c);
      const Graph graph = MakeGraph(c);
      const StatusOr<Plan> plan = MakePlan(graph, *MakeTarget("cuda:sm_90"), {.only_emitter = kEmitter});
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->steps.size(), 1u) << graph.name;
    }
  }
}

TEST(GpuDirectConvTest, TypesAndResults) {
  for (DType type : {DType::kF16, DType::kBF16}) {
    for (int64_t outputs : {3, 8, 24, 32}) {
      Check({.type = type, .inputs = 4, .outputs = outputs, .result = type});
      Check({.type = type, .inputs = 4, .outputs = outputs, .layout = "nchw", .result = type});
    }
    Check({.type = type, .result = DType::kF32});
    Check({.type = type, .bias = false});
  }
  Check({.result = DType::kF16});
}

TEST(GpuDirectConvTest, OtherChipsAndOrders) {
  for (const char* level : {"simt:nvptx:sm_80:reverse", "simt:nvptx:sm_90a:random", "simt:amdgpu:gfx942",
                            "simt:amdgpu:gfx1100", "simt:nvptx:sm_75"}) {
    CheckOn({.outputs = 32, .stride = 2, .transposed = true}, level);
    CheckOn({.type = DType::kF16, .inputs = 12, .outputs = 21, .taps = 1, .pad = 0, .result = DType::kF16}, level);
  }
}

TEST(GpuDirectConvTest, PrunedWeightsHaveNoInstruction) {
  Graph graph = MakeGraph({.inputs = 8, .outputs = 16});
  Value& weights = graph[graph.nodes[0].inputs[1]];
  Tensor filter = weights.constant;
  for (int64_t k = 0; k < filter.num_elements(); ++k) {
    if (k % 3 != 0) filter.Set(k, 0);
  }
  weights.tesa = Attribute::FromZeros(filter);
  const int64_t kept = weights.tesa->num_kept();
  weights.constant = std::move(filter);
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), kEmitter, 1e-5));
  const StatusOr<std::string> text = PtxOf(graph, "cuda:sm_90", kEmitter);
  ASSERT_TRUE(text.ok()) << text.status();
  int64_t found = 0;
  for (const std::string product : {"fma.rn.f32", "mul.rn.f32", "mul.f32"}) {
    for (size_t at = text->find(product); at != std::string::npos; at = text->find(product, at + 1)) ++found;
  }
  EXPECT_EQ(found, kept);
}

std::string WhyNot(const Graph& graph, size_t node = 0) {
  std::string why;
  const std::vector<Way> ways =
      WaysOf(EmitterNamed(kEmitter), graph, graph.nodes[node], *MakeTarget("cuda:sm_90"), &why);
  return ways.empty() ? why : "";
}

TEST(GpuDirectConvTest, WhatIsLeftToOthers) {
  EXPECT_EQ(WhyNot(MakeGraph({.outputs = 32})), "");
  EXPECT_NE(WhyNot(MakeGraph({.outputs = 65})), "");
  EXPECT_NE(WhyNot(MakeGraph({.inputs = 32, .outputs = 32})), "") << "9216 products";
  GraphBuilder grouped("groups");
  const WindowParams window = {.strides = {1, 1}, .dilations = {}, .pads = {0, 0, 0, 0}, .layout = "nhwc"};
  grouped.Output(grouped.Conv(grouped.Input("x", DType::kF32, {1, 5, 5, 4}),
                              grouped.Constant("w", Filter(DType::kF32, {4, 2, 1, 1})), window, 2));
  EXPECT_NE(WhyNot(Built(std::move(grouped))), "");
  // A transposition that something else reads too.
  GraphBuilder two("two readers");
  const ValueId x = two.Transpose(two.Input("x", DType::kF32, {1, 3, 5, 5}), {0, 2, 3, 1});
  two.Output(two.Conv(x, two.Constant("w", Filter(DType::kF32, {4, 3, 1, 1})), window));
  two.Output(x);
  EXPECT_NE(WhyNot(Built(std::move(two))), "");
  // Of another kind.
  GraphBuilder other("another order");
  const ValueId y = other.Transpose(other.Input("x", DType::kF32, {1, 5, 3, 5}), {0, 1, 3, 2});
  other.Output(other.Conv(y, other.Constant("w", Filter(DType::kF32, {4, 3, 1, 1})), window));
  EXPECT_NE(WhyNot(Built(std::move(other))), "");
}

// MobileNet's first layer, which takes 217 us and its copy 24 as a product (docs/results/nvptx_sparse.md).
TEST(GpuDirectConvTest, IsTakenForImages) {
  for (DType type : {DType::kF32, DType::kF16}) {
    const Graph graph = MakeGraph({.type = type,
                                   .batch = 32,
                                   .y = 224,
                                   .x = 224,
                                   .outputs = 32,
                                   .stride = 2,
                                   .transposed = true,
                                   .result = type});
    const StatusOr<Plan> plan = MakePlan(graph, *MakeTarget("cuda:sm_90a"), {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->steps.size(), 1u) << graph.name;
  }
}

}  // namespace
}  // namespace tessera
