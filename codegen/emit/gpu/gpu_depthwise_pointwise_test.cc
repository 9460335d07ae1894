// A depthwise and a 1x1 convolution as one step: strides, padding, dilation, odd sizes, every type, every tile, against
// the interpreter in double; and pairs that are left apart.
#include <algorithm>
#include <functional>

#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "gtest/gtest.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct Pair {
  DType type = DType::kF32;
  int64_t batch = 2, y = 11, x = 9, channels = 32, outputs = 24, taps = 3, stride = 1, dilation = 1, pad = 1;
};

// relu(depthwise + bias), 1x1, relu(… + bias); of bytes the middle is scaled back to bytes.
Graph MakeGraph(const Pair& p, bool second_reader = false) {
  Random random(4);
  GraphBuilder b(
      internal::Join(Name(p.type), " ", p.channels, " -> ", p.outputs, " of ", p.taps, "x", p.taps, " / ", p.stride));
  const bool bytes = !IsFloat(p.type);
  const auto constant = [&](const std::string& name, DType type, const Shape& shape) {
    return b.Constant(name, RandomTensorIn(random, {type, shape}, bytes ? -20 : -0.5, bytes ? 20 : 0.5));
  };
  const ValueId image = b.Input("x", p.type, {p.batch, p.y, p.x, p.channels});
  const WindowParams window = {.strides = {p.stride, p.stride},
                               .dilations = {p.dilation, p.dilation},
                               .pads = {p.pad, p.pad, p.pad, p.pad},
                               .layout = "nhwc"};
  const DType sum = bytes ? DType::kI32 : DType::kF32, weights = bytes ? DType::kI8 : p.type;
  const auto finish = [&](ValueId conv, const std::string& name, int64_t channels, DType type) {
    BodyBuilder body;
    const Scalar x = body.Input(sum), bias = body.Input(sum);
    const Scalar clipped = bytes && type == p.type ? Max(Min((x + bias) / 16.0, 100.0), 0.0) : Max(x + bias, 0.0);
    return b.WithEpilogue(conv, body.Finish(clipped), {constant(name, sum, {channels})}, type);
  };
  const ValueId middle =
      finish(b.Conv(image, constant("filter", weights, {p.channels, 1, p.taps, p.taps}), window, p.channels), "bias0",
             p.channels, p.type);
  const WindowParams one = {.strides = {1, 1}, .dilations = {}, .pads = {0, 0, 0, 0}, .layout = "nhwc"};
  b.Output(finish(b.Conv(middle, constant("w", weights, {p.outputs, p.channels, 1, 1}), one), "bias1", p.outputs,
                  bytes ? DType::kI32 : p.type));
  if (second_reader) b.Output(b.Relu(middle));
  return Built(std::move(b));
}

// Ways of the pair's first node.
std::vector<std::string> WaysOfPair(const Graph& graph, const std::string& level) {
  std::vector<std::string> names;
  for (const Choice& choice : RankWays(graph, graph.nodes[0], *MakeTarget(level), {}, nullptr)) {
    if (choice.emitter->name == "gpu_depthwise_pointwise") names.push_back(choice.ToString());
  }
  return names;
}

void Check(const Pair& p, const std::string& level = "simt:nvptx:sm_90", size_t most = 1) {
  const Graph graph = MakeGraph(p);
  std::vector<std::string> ways = WaysOfPair(graph, level);
  ASSERT_FALSE(ways.empty()) << graph.name;
  ways.resize(std::min(ways.size(), most));
  for (const std::string& way : ways) {
    const StatusOr<Plan> plan = MakePlan(graph, *MakeTarget(level), {.only_emitter = way});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->steps.size(), 1u) << graph.name;
    const double allowed = !IsFloat(p.type) ? 0 : p.type == DType::kF32 ? 1e-5 : p.type == DType::kF16 ? 3e-3 : 2e-2;
    EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), level, {.only_emitter = way}, allowed))
        << graph.name << ", " << way;
  }
}

TEST(GpuDepthwisePointwiseTest, WindowsOfAllKinds) {
  for (DType type : {DType::kF32, DType::kF16}) {
    for (int64_t stride : {1, 2}) {
      for (int64_t taps : {1, 3, 5}) Check({.type = type, .taps = taps, .stride = stride, .pad = taps / 2});
    }
    Check({.type = type, .y = 14, .x = 15, .channels = 40, .dilation = 2, .pad = 2});
    Check({.type = type, .channels = 136, .outputs = 70, .pad = 0});
  }
}

TEST(GpuDepthwisePointwiseTest, EveryTile) {
  Check({.type = DType::kF32, .batch = 3, .y = 13, .channels = 72, .outputs = 130}, "simt:nvptx:sm_90", 99);
  Check({.type = DType::kF16, .batch = 3, .y = 13, .channels = 72, .outputs = 130}, "simt:nvptx:sm_90:random", 99);
}

TEST(GpuDepthwisePointwiseTest, OtherTypesAndChips) {
  Check({.type = DType::kBF16, .channels = 64});
  Check({.type = DType::kF16, .channels = 64}, "simt:nvptx:sm_80");
  for (DType type : {DType::kI8, DType::kU8}) Check({.type = type, .channels = 48, .outputs = 33});
}

TEST(GpuDepthwisePointwiseTest, PairsThatStayApart) {
  const std::string level = "simt:nvptx:sm_90";
  EXPECT_TRUE(WaysOfPair(MakeGraph({}, /*second_reader=*/true), level).empty());
  EXPECT_TRUE(WaysOfPair(MakeGraph({.channels = 30}), level).empty());  // no multiple of 16 bytes
  Graph pruned = MakeGraph({});
  pruned[pruned.nodes[1].inputs[1]].tesa = Attribute{};
  EXPECT_TRUE(WaysOfPair(pruned, level).empty());
}

}  // namespace
}  // namespace tessera
