// Convolutions of images with channels first, vectors over pixels, against the interpreter: every kind of side,
// strides, dilations, epilogues with operands of several shapes; and networks of them, whose planes have gaps.
#include "codegen/emit/host/planes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <random>

#include "codegen/compile.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "tesa/attribute.h"

namespace tessera {
namespace {

struct Window {
  std::vector<int64_t> strides = {1, 1}, pads = {1, 1, 1, 1}, dilations = {1, 1};
};

class PlanesTest : public testing::TestWithParam<std::string> {
 protected:
  Tensor Make(const Shape& shape) {
    Tensor tensor(DType::kF32, shape);
    std::uniform_real_distribution<double> value(-1, 1);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, value(rng_));
    return tensor;
  }
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }

  ValueId Depthwise(GraphBuilder& b, ValueId x, int64_t ky, int64_t kx, const Window& w) {
    const int64_t channels = b.ShapeOf(x)[1];
    return b.Conv(x, b.Constant("w", Make({channels, 1, ky, kx})),
                  {.strides = w.strides, .dilations = w.dilations, .pads = w.pads}, channels);
  }
  // min(max(y + bias, 0), 6) + residual
  ValueId Finish(GraphBuilder& b, ValueId y, ValueId residual) {
    const Shape out = b.ShapeOf(y);
    const ValueId bias = b.Constant("bias", Make({1, out[1], 1, 1}));
    BodyBuilder body;
    const Scalar value = body.Input(DType::kF32) + body.Input(DType::kF32);
    const Scalar sum = Min(Max(value, 0.0), 6.0) + body.Input(DType::kF32);
    return b.WithEpilogue(y, body.Finish(sum), {bias, residual}, DType::kF32);
  }

  void ExpectDepthwise(const Shape& x, int64_t ky, int64_t kx, const Window& window, bool epilogue = false) {
    GraphBuilder b("depthwise");
    std::vector<Tensor> inputs = {Make(x)};
    ValueId y = Depthwise(b, b.Input("x", DType::kF32, x), ky, kx, window);
    if (epilogue) {
      inputs.push_back(Make(b.ShapeOf(y)));
      y = Finish(b, y, b.Input("residual", DType::kF32, b.ShapeOf(y)));
    }
    b.Output(y);
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    EXPECT_TRUE(EveryNodeTakes(*graph, GetParam(), "planes_depthwise"));
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "planes_depthwise"}, 1e-5))
        << x << " taps " << ky << "x" << kx;
  }

  // A convolution whose weights keep each element with probability `kept` and declare it; all without declaring it
  // at 1.
  ValueId Scattered(GraphBuilder& b, ValueId x, int64_t rows, int64_t ky, int64_t kx, const Window& w, double kept,
                    int64_t groups = 1) {
    Tensor weights = Make({rows, b.ShapeOf(x)[1] / groups, ky, kx});
    std::optional<Attribute> tesa;
    if (kept < 1) {
      std::vector<uint8_t> bits(weights.num_elements());
      for (uint8_t& bit : bits) bit = std::bernoulli_distribution(kept)(rng_) ? 1 : 0;
      tesa = Attribute::FromKept(weights.shape(), bits, 32);
      weights = tesa->ApplyTo(weights);
    }
    const ValueId id = b.Constant("w", weights);
    if (tesa) b.SetTesa(id, *tesa);
    return b.Conv(x, id, {.strides = w.strides, .dilations = w.dilations, .pads = w.pads}, groups);
  }

  void ExpectConv(const Shape& x, int64_t rows, int64_t ky, int64_t kx, const Window& window, double kept,
                  bool epilogue = false, int64_t groups = 1) {
    GraphBuilder b("conv");
    std::vector<Tensor> inputs = {Make(x)};
    ValueId y = Scattered(b, b.Input("x", DType::kF32, x), rows, ky, kx, window, kept, groups);
    if (epilogue) {
      inputs.push_back(Make(b.ShapeOf(y)));
      y = Finish(b, y, b.Input("residual", DType::kF32, b.ShapeOf(y)));
    }
    b.Output(y);
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    ExpectAgrees(*graph, inputs, "planes_conv", internal::Join(x, " rows ", rows, " taps ", ky, "x", kx));
  }

  void ExpectAgrees(const Graph& graph, const std::vector<Tensor>& inputs, const std::string& emitter,
                    const std::string& what) {
    if (GetParam() == "host:x86-64") GTEST_SKIP() << "streams need AVX2";
    EXPECT_TRUE(EveryNodeTakes(graph, GetParam(), emitter)) << what;
    EXPECT_TRUE(CompiledAgrees(graph, inputs, GetParam(), {.threads = 1, .only_emitter = emitter}, 1e-5)) << what;
  }

  // `columns` pixels in one row pass two products and what `finish` makes of the second, whose operands are a number
  // for each channel and the first product. All of it with gaps between planes.
  template <typename Body>
  void ExpectFinish(const Body& finish) {
    GraphBuilder b("finish");
    const ValueId x = b.Input("x", DType::kF32, {2, 9, 3, 7});
    const Window plain = {.pads = {0, 0, 0, 0}};
    const ValueId first = Scattered(b, x, 40, 1, 1, plain, 0.4);
    const ValueId second = Scattered(b, first, 40, 1, 1, plain, 0.4);
    BodyBuilder body;
    const Scalar sum = body.Input(DType::kF32), row = body.Input(DType::kF32), residual = body.Input(DType::kF32);
    const ValueId bias = b.Constant("bias", Make({40, 1, 1}));
    const ValueId third = b.WithEpilogue(second, body.Finish(finish(sum, row, residual)), {bias, first}, DType::kF32);
    b.Output(Scattered(b, third, 5, 1, 1, plain, 0.4));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const std::vector<Tensor> inputs = {Make({2, 9, 3, 7})};
    ExpectAgrees(*graph, inputs, "planes_conv", "finish");
  }

  std::mt19937_64 rng_{11};
};

TEST(PitchTest, AnOddNumberOfLines) {
  EXPECT_EQ(PaddedPitch(196), 208);
  EXPECT_EQ(PaddedPitch(49), 80);
  EXPECT_EQ(PaddedPitch(16), 16);
  EXPECT_EQ(PaddedPitch(17), 48);
  EXPECT_EQ(PaddedPitch(12544), 12560);
}

TEST_P(PlanesTest, EveryWidth) {
  for (int64_t width = 1; width <= 50; width += width < 20 ? 1 : 3) {
    SCOPED_TRACE(width);
    ExpectDepthwise({1, 3, 5, width}, 3, 3, {}, width % 2 == 0);
    ExpectDepthwise({1, 3, 5, width}, 3, 3, {.strides = {2, 2}}, width % 2 == 0);
  }
}

TEST_P(PlanesTest, EveryHeight) {
  for (int64_t height = 1; height <= 30; ++height) {
    SCOPED_TRACE(height);
    ExpectDepthwise({1, 2, height, 18}, 3, 3, {.strides = {1 + height % 2, 1}});
  }
}

TEST_P(PlanesTest, Filters) {
  ExpectDepthwise({2, 5, 9, 30}, 5, 5, {.pads = {2, 2, 2, 2}}, true);
  ExpectDepthwise({1, 5, 31, 33}, 5, 5, {.strides = {2, 2}, .pads = {1, 1, 2, 2}});
  ExpectDepthwise({1, 4, 20, 40}, 3, 3, {.pads = {2, 2, 2, 2}, .dilations = {2, 2}}, true);
  ExpectDepthwise({1, 4, 20, 40}, 3, 3, {.strides = {1, 2}, .pads = {7, 1, 0, 4}, .dilations = {4, 3}}, true);
  ExpectDepthwise({1, 4, 14, 16}, 1, 4, {.pads = {0, 0, 0, 0}});
  ExpectDepthwise({1, 3, 56, 56}, 3, 3, {.strides = {2, 2}, .pads = {0, 0, 1, 1}}, true);
  ExpectDepthwise({1, 3, 112, 112}, 3, 3, {}, true);
  ExpectDepthwise({1, 3, 6, 6}, 7, 7, {.pads = {3, 3, 3, 3}});
  ExpectDepthwise({1, 3, 9, 8}, 1, 1, {.strides = {3, 2}, .pads = {0, 0, 0, 0}}, true);
}

TEST_P(PlanesTest, RandomWindows) {
  for (int k = 0; k < 30; ++k) {
    SCOPED_TRACE(k);
    Window w;
    std::vector<int64_t> taps, extents, begins, ends;
    for (int axis = 0; axis < 2; ++axis) {
      taps.push_back(Int(1, 5));
      w.strides[axis] = Int(1, 2);
      w.dilations[axis] = Int(0, 2) == 0 ? 2 : 1;
      const int64_t span = (taps[axis] - 1) * w.dilations[axis] + 1;
      begins.push_back(Int(0, span));
      ends.push_back(Int(0, span));
      extents.push_back(span + Int(0, 40));
    }
    begins.insert(begins.end(), ends.begin(), ends.end());
    w.pads = begins;
    ExpectDepthwise({Int(1, 2), Int(1, 4), extents[0], extents[1]}, taps[0], taps[1], w, k % 2 == 0);
  }
}

TEST_P(PlanesTest, PlanesWithGapsBetweenThem) {
  GraphBuilder b("chain");
  const ValueId x = b.Input("x", DType::kF32, {2, 3, 14, 14});
  const ValueId first = Depthwise(b, x, 3, 3, {});
  const ValueId second = Finish(b, Depthwise(b, first, 3, 3, {}), first);
  const ValueId third = Finish(b, Depthwise(b, second, 5, 3, {.pads = {2, 1, 2, 1}}), second);
  b.Output(Depthwise(b, third, 3, 3, {.strides = {2, 2}}));
  const StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok());
  const StatusOr<Plan> plan = MakePlan(*graph, *target, {.only_emitter = "planes_depthwise"});
  ASSERT_TRUE(plan.ok()) << plan.status();
  int with_gaps = 0;
  for (const PlanBuffer& buffer : plan->buffers) with_gaps += buffer.bytes == 2 * 3 * 208 * 4 ? 1 : 0;
  EXPECT_EQ(with_gaps, 3);
  const std::vector<Tensor> inputs = {Make({2, 3, 14, 14})};
  EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 2, .only_emitter = "planes_depthwise"}, 1e-5));
}

TEST_P(PlanesTest, PointwiseOfEverySize) {
  for (int64_t pixels = 8; pixels <= 40; ++pixels) {
    SCOPED_TRACE(pixels);
    ExpectConv({1, Int(1, 40), 1, pixels}, Int(1, 70), 1, 1, {.pads = {0, 0, 0, 0}}, 0.3, pixels % 2 == 0);
  }
  ExpectConv({2, 130, 6, 8}, 300, 1, 1, {.pads = {0, 0, 0, 0}}, 0.1, true);
  ExpectConv({1, 64, 7, 7}, 33, 1, 1, {.pads = {0, 0, 0, 0}}, 0);
}

TEST_P(PlanesTest, PointwiseByALoopOnEveryProcessor) {
  for (const int64_t width : {9, 16, 35}) {
    GraphBuilder b("loop");
    const ValueId x = b.Input("x", DType::kF32, {1, 12, 3, width});
    const ValueId y = Scattered(b, x, 21, 1, 1, {.pads = {0, 0, 0, 0}}, 0.3);
    const std::vector<Tensor> inputs = {Make({1, 12, 3, width}), Make(b.ShapeOf(y))};
    b.Output(Finish(b, y, b.Input("residual", DType::kF32, b.ShapeOf(y))));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    EXPECT_TRUE(EveryNodeTakes(*graph, GetParam(), "sparse_loop"));
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "sparse_loop"}, 1e-5));
  }
}

TEST_P(PlanesTest, PointwiseWithAllKept) {
  ExpectConv({1, 24, 9, 9}, 40, 1, 1, {.pads = {0, 0, 0, 0}}, 1, true);
  ExpectConv({1, 160, 4, 8}, 160, 1, 1, {.pads = {0, 0, 0, 0}}, 1);  // in loops
}

TEST_P(PlanesTest, WindowsOfEveryWidth) {
  for (int64_t width = 1; width <= 40; width += width < 20 ? 1 : 5) {
    SCOPED_TRACE(width);
    const int64_t stride = Int(1, 3);
    ExpectConv({1, 5, 11 * stride, width * stride}, 20, 3, 3, {.strides = {stride, stride}}, 0.2, width % 2 == 0);
  }
}

TEST_P(PlanesTest, Windows) {
  ExpectConv({2, 6, 14, 14}, 33, 3, 3, {}, 0.1, true);
  ExpectConv({1, 3, 40, 44}, 32, 3, 3, {.strides = {2, 2}, .pads = {0, 0, 1, 1}}, 1, true);
  ExpectConv({1, 12, 9, 10}, 12, 5, 3, {.pads = {4, 2, 4, 2}, .dilations = {2, 2}}, 0.3, true);
  ExpectConv({1, 16, 9, 10}, 20, 1, 1, {.strides = {2, 2}, .pads = {0, 0, 0, 0}}, 0.3);
  ExpectConv({1, 4, 6, 7}, 9, 2, 3, {.strides = {3, 3}, .pads = {4, 5, 3, 6}}, 0.5);
}

TEST_P(PlanesTest, Groups) {
  ExpectConv({1, 12, 9, 10}, 18, 3, 3, {}, 0.4, true, 3);
  ExpectConv({2, 8, 5, 5}, 40, 1, 1, {.pads = {0, 0, 0, 0}}, 0.4, false, 2);
}

TEST_P(PlanesTest, FinishesInRegistersOrThroughMemory) {
  ExpectFinish([](Scalar s, Scalar row, Scalar residual) { return Max(s + row, 0.0) + residual; });
  ExpectFinish([](Scalar s, Scalar row, Scalar residual) { return Min(Max((residual + s) * row, -0.5), 0.25); });
  ExpectFinish([](Scalar s, Scalar row, Scalar residual) { return (s - residual) * 3.0 + row; });
  ExpectFinish([](Scalar s, Scalar row, Scalar residual) { return row - s * residual; });
  ExpectFinish([](Scalar s, Scalar row, Scalar residual) { return (s + row) * Max(s + residual, 0.0); });
}

TEST_P(PlanesTest, ASumThatIsNotANumberStaysOne) {
  GraphBuilder b("nan");
  const ValueId x = b.Input("x", DType::kF32, {1, 2, 4, 4});
  Tensor weights(DType::kF32, {1, 2, 1, 1});
  weights.Set(0, 1);
  weights.Set(1, -1);
  BodyBuilder body;
  const ValueId y = b.Conv(x, b.Constant("w", weights), {});
  b.Output(b.WithEpilogue(y, body.Finish(Min(Max(body.Input(DType::kF32), 0.0), 6.0)), {}, DType::kF32));
  const StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  if (GetParam() == "host:x86-64") GTEST_SKIP() << "streams need AVX2";
  const std::vector<Tensor> inputs = {Tensor::Full(DType::kF32, {1, 2, 4, 4}, INFINITY)};
  const StatusOr<std::vector<Tensor>> outputs =
      RunCompiled(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "planes_conv"});
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  for (float value : (*outputs)[0].data<float>()) EXPECT_TRUE(std::isnan(value));
}

TEST_P(PlanesTest, ProductsAndFiltersInTurn) {
  GraphBuilder b("network");
  const Window plain = {.pads = {0, 0, 0, 0}};
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 30, 28});
  const ValueId stem = Scattered(b, x, 8, 3, 3, {.strides = {2, 2}}, 1);
  const ValueId wide = Scattered(b, Depthwise(b, stem, 3, 3, {}), 24, 1, 1, plain, 0.3);
  const ValueId narrow = Scattered(b, Depthwise(b, wide, 5, 5, {.pads = {2, 2, 2, 2}}), 8, 1, 1, plain, 0.3);
  const ValueId sum = Finish(b, narrow, stem);
  b.Output(Scattered(b, Depthwise(b, sum, 3, 3, {.strides = {2, 2}}), 16, 3, 3, {}, 0.3));
  const StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<Tensor> inputs = {Make({1, 3, 30, 28})};
  EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 2}, 1e-5));
}

// Filters and products in turn, of which those with a residual lie as it does. With 32 registers images of `height`
// rows lie in bands; `banded` says how many buffers do.
TEST_P(PlanesTest, BandsOfRows) {
  const Window plain = {.pads = {0, 0, 0, 0}}, wide = {.pads = {2, 2, 2, 2}},
               apart = {.pads = {2, 2, 2, 2}, .dilations = {2, 2}};
  for (const int threads : {2, 4}) {
    for (const Shape& image :
         {Shape({1, 3, 16, 16}), Shape({1, 3, 24, 24}), Shape({1, 3, 32, 20}), Shape({1, 2, 48, 48})}) {
      SCOPED_TRACE(internal::Join(threads, " threads, ", image));
      GraphBuilder b("bands");
      const ValueId x = b.Input("x", DType::kF32, image);
      const ValueId stem = Scattered(b, x, 9, 3, 3, {}, 0.5);  // windows in panels, the result in bands
      const ValueId first = Finish(b, Scattered(b, Depthwise(b, stem, 3, 3, {}), 9, 1, 1, plain, 0.4), stem);
      const ValueId second = Finish(b, Scattered(b, Depthwise(b, first, 5, 5, wide), 9, 1, 1, plain, 0.4), first);
      const ValueId third = Finish(b, Depthwise(b, second, 3, 3, apart), second);
      const ValueId half = Scattered(b, Depthwise(b, third, 3, 3, {.strides = {2, 2}}), 20, 1, 1, plain, 0.4);
      const ValueId out = Scattered(b, Depthwise(b, half, 3, 3, {}), 5, 1, 1, plain, 0.4);
      b.Output(out);
      const StatusOr<Graph> graph = std::move(b).Build();
      ASSERT_TRUE(graph.ok()) << graph.status();
      std::vector<Tensor> inputs = {Make(image)};
      const StatusOr<Target> target = MakeTarget(GetParam());
      ASSERT_TRUE(target.ok());
      const StatusOr<Plan> plan = MakePlan(*graph, *target, {.run_threads = threads});
      ASSERT_TRUE(plan.ok()) << plan.status();
      if (target->vector_registers >= 32) {
        const int64_t pixels = image[2] * image[3] / threads;
        int banded = 0;
        for (const PlanBuffer& buffer : plan->buffers)
          banded += buffer.bytes == 4 * threads * 9 * PaddedPitch(pixels) ? 1 : 0;
        EXPECT_EQ(banded, 6);
      }
      EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.run_threads = threads}, 1e-5));
    }
  }
}

TEST_P(PlanesTest, WhatAConvolutionReadsIsAddedToItsResult) {
  for (const std::string emitter : {"generic", "planes_conv", "sparse_loop"}) {
    if (emitter == "planes_conv" && GetParam() == "host:x86-64") continue;
    GraphBuilder b("own");
    const ValueId x = b.Input("x", DType::kF32, {1, 6, 5, 4});
    const ValueId d = Depthwise(b, x, 3, 3, {});
    b.Output(Depthwise(b, Finish(b, Scattered(b, d, 6, 1, 1, {.pads = {0, 0, 0, 0}}, 0.6), d), 3, 3, {}));
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const std::vector<Tensor> inputs = {Make({1, 6, 5, 4})};
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.only_emitter = emitter}, 1e-5)) << emitter;
  }
}

// Sizes of all kinds, most of which do not fall into bands, or only some of a network's.
TEST_P(PlanesTest, BandsWhereTheyFit) {
  for (int k = 0; k < 20; ++k) {
    const Shape image({1, Int(1, 5), 4 * Int(2, 14), 2 * Int(4, 20)});
    SCOPED_TRACE(image);
    GraphBuilder b("some");
    ValueId x = b.Input("x", DType::kF32, image);
    std::string layers;
    for (int layer = 0; layer < 4; ++layer) {
      Window w;
      const int64_t taps = 2 * Int(0, 2) + 1, stride = Int(1, 2);
      w.strides = {stride, stride};
      w.pads = {taps / 2, taps / 2, taps / 2 - (k % 3 == 0 && taps > 1 ? 1 : 0), taps / 2};
      x = Depthwise(b, x, taps, taps, w);
      const ValueId y =
          Scattered(b, x, layer % 2 == 0 ? b.ShapeOf(x)[1] : Int(1, 40), 1, 1, {.pads = {0, 0, 0, 0}}, 0.5);
      layers += internal::Join("; taps ", taps, " stride ", stride, " to ", b.ShapeOf(y));
      x = b.ShapeOf(y) == b.ShapeOf(x) ? Finish(b, y, x) : y;
    }
    b.Output(x);
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    const std::vector<Tensor> inputs = {Make(image)};
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.run_threads = static_cast<int>(Int(2, 4))}, 1e-5))
        << layers;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, PlanesTest, testing::ValuesIn(RunnableLevels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

}  // namespace
}  // namespace tessera
