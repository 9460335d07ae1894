// The channels-last convolution emitters against the interpreter: strides, dilations, pads larger than a window needs,
// groups, one spatial axis, few and many channels, epilogues; and depthwise filters at every kind of border.
#include <gtest/gtest.h>

#include <random>

#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

struct ConvCase {
  Shape x;  // [batch, spatial.., channels]
  Shape w;  // [out, in / groups, taps..]
  WindowParams window = {};
  int64_t groups = 1;
  DType type = DType::kF32;
};

class ConvTest : public testing::TestWithParam<std::string> {
 protected:
  Tensor Make(const Shape& shape, DType type) {
    Tensor tensor(type, shape);
    std::uniform_real_distribution<double> value(-1, 1);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, value(rng_));
    return tensor;
  }
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }

  // With a bias, a residual and a clipping epilogue when `epilogue`.
  void Expect(ConvCase c, const std::string& emitter, bool epilogue = false) {
    c.window.layout = "nhwc";
    GraphBuilder b("conv");
    std::vector<Tensor> inputs = {Make(c.x, c.type)};
    ValueId y = b.Conv(b.Input("x", c.type, c.x), b.Constant("w", Make(c.w, c.type)), c.window, c.groups);
    if (epilogue) {
      const Shape out = b.ShapeOf(y);
      const ValueId bias = b.Constant("bias", Make({c.w[0]}, c.type));
      const ValueId residual = b.Input("residual", c.type, out);
      inputs.push_back(Make(out, c.type));
      BodyBuilder body;
      Scalar value = body.Input(c.type) + body.Input(c.type);
      value = Min(Max(value, 0.0), 6.0) + body.Input(c.type);
      y = b.WithEpilogue(y, body.Finish(value), {bias, residual}, c.type);
    }
    b.Output(y);
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    EXPECT_TRUE(EveryNodeTakes(*graph, GetParam(), emitter));
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = emitter},
                               c.type == DType::kF64 ? 1e-13 : 1e-5))
        << c.x << c.w << " groups " << c.groups;
  }

  std::mt19937_64 rng_{7};
};

TEST_P(ConvTest, PointwiseIsAProduct) {
  Expect({{1, 7, 7, 65}, {70, 65, 1, 1}}, "conv", true);
  Expect({{2, 5, 3, 16}, {32, 16, 1, 1}}, "conv");
}

TEST_P(ConvTest, PointwiseStridedOrPadded) {
  Expect({{2, 9, 7, 16}, {40, 16, 1, 1}, {.strides = {2, 2}}}, "conv");
  Expect({{1, 4, 5, 16}, {24, 16, 1, 1}, {.pads = {1, 1, 1, 1}}}, "conv", true);
}

TEST_P(ConvTest, ThreeByThree) {
  Expect({{1, 14, 14, 32}, {48, 32, 3, 3}, {.pads = {1, 1, 1, 1}}}, "conv", true);
  Expect({{2, 7, 5, 20}, {33, 20, 3, 3}, {.strides = {2, 1}, .pads = {0, 1, 1, 0}}}, "conv");
  Expect({{1, 12, 12, 17}, {64, 17, 3, 3}, {.dilations = {2, 3}, .pads = {2, 3, 2, 3}}}, "conv", true);
}

TEST_P(ConvTest, FirstLayerOfAnImageNetwork) {
  Expect({{1, 40, 44, 3}, {32, 3, 3, 3}, {.strides = {2, 2}, .pads = {0, 0, 1, 1}}}, "conv", true);
  Expect({{2, 28, 28, 1}, {16, 1, 3, 3}, {.pads = {1, 1, 1, 1}}}, "conv", true);
  Expect({{1, 33, 47, 3}, {64, 3, 7, 7}, {.strides = {2, 2}, .pads = {3, 3, 3, 3}}}, "conv", true);
  Expect({{1, 31, 29, 4}, {24, 4, 5, 5}}, "conv");
}

TEST_P(ConvTest, PadsThatLeaveWindowsEmpty) {
  Expect({{1, 3, 4, 8}, {16, 8, 2, 3}, {.pads = {4, 5, 3, 6}}}, "conv");
  Expect({{1, 3, 4, 3}, {16, 3, 2, 3}, {.strides = {3, 2}, .pads = {4, 5, 3, 6}}}, "conv", true);
}

TEST_P(ConvTest, Groups) {
  Expect({{1, 6, 6, 48}, {60, 16, 3, 3}, {.pads = {1, 1, 1, 1}}, 3}, "conv", true);
  Expect({{2, 5, 5, 8}, {12, 4, 3, 3}, {}, 2}, "conv", true);
  Expect({{1, 5, 5, 32}, {64, 16, 1, 1}, {}, 2}, "conv");
}

TEST_P(ConvTest, OneSpatialAxis) {
  Expect({{2, 50, 12}, {18, 12, 5}, {.strides = {2}, .pads = {2, 2}}}, "conv", true);
  Expect({{1, 64, 24}, {24, 1, 5}, {.pads = {2, 2}}, 24}, "depthwise", true);
}

TEST_P(ConvTest, DoublePrecision) {
  Expect({{1, 6, 6, 5}, {9, 5, 3, 3}, {.pads = {1, 1, 1, 1}}, 1, DType::kF64}, "conv", true);
  Expect({{1, 6, 6, 11}, {11, 1, 3, 3}, {.pads = {1, 1, 1, 1}}, 11, DType::kF64}, "depthwise", true);
}

TEST_P(ConvTest, RandomWindows) {
  for (int k = 0; k < 40; ++k) {
    SCOPED_TRACE(k);
    ConvCase c;
    const int64_t in = Int(1, 20), out = Int(1, 40), groups = Int(0, 3) == 0 ? Int(2, 3) : 1;
    c.groups = groups;
    std::vector<int64_t> x = {Int(1, 2)}, w = {out * groups, in}, begins, ends;
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t taps = Int(1, 4), dilation = Int(0, 2) == 0 ? Int(1, 3) : 1, span = (taps - 1) * dilation + 1;
      c.window.strides.push_back(Int(1, 3));
      c.window.dilations.push_back(dilation);
      begins.push_back(Int(0, span));
      ends.push_back(Int(0, span));
      x.push_back(span + Int(0, 12));
      w.push_back(taps);
    }
    begins.insert(begins.end(), ends.begin(), ends.end());
    c.window.pads = begins;
    x.push_back(in * groups);
    c.x = Shape(x);
    c.w = Shape(w);
    Expect(c, "conv", k % 2 == 0);
  }
}

TEST_P(ConvTest, DepthwiseEveryWidth) {
  for (int64_t width = 1; width <= 23; ++width) {
    SCOPED_TRACE(width);
    const int64_t channels = Int(1, 70), stride = Int(1, 2);
    Expect(
        {{1, 5, width, channels}, {channels, 1, 3, 3}, {.strides = {stride, stride}, .pads = {1, 1, 1, 1}}, channels},
        "depthwise", width % 2 == 0);
  }
}

TEST_P(ConvTest, DepthwiseFilters) {
  const int64_t c = 37;
  Expect({{2, 9, 30, c}, {c, 1, 5, 5}, {.pads = {2, 2, 2, 2}}, c}, "depthwise", true);
  Expect({{1, 9, 31, c}, {c, 1, 5, 5}, {.strides = {2, 2}, .pads = {1, 1, 2, 2}}, c}, "depthwise");
  Expect({{1, 20, 40, c}, {c, 1, 3, 3}, {.dilations = {2, 2}, .pads = {2, 2, 2, 2}}, c}, "depthwise", true);
  Expect({{1, 20, 40, c}, {c, 1, 3, 3}, {.dilations = {4, 3}, .pads = {7, 1, 0, 4}}, c}, "depthwise", true);
  Expect({{1, 14, 16, c}, {c, 1, 1, 4}, {}, c}, "depthwise");
  Expect({{1, 8, 56, c}, {c, 1, 3, 3}, {.strides = {2, 2}, .pads = {0, 0, 1, 1}}, c}, "depthwise", true);
  Expect({{1, 14, 14, 512}, {512, 1, 3, 3}, {.pads = {1, 1, 1, 1}}, 512}, "depthwise", true);
}

INSTANTIATE_TEST_SUITE_P(Levels, ConvTest, testing::ValuesIn(RunnableLevels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

}  // namespace
}  // namespace tessera
