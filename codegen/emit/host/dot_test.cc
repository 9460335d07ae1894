// Products of bytes against the interpreter, equal to the last bit: every pair of types, both places of B, every kind
// of remainder of depth, rows and columns, batches, requantising epilogues, convolutions with a pad value; on every
// level, AVX-512 without VNNI among them. And that nothing beyond a row's end is read.
#include "codegen/emit/dot.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>

#include "codegen/emit/host/matmul.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

// (sum + shift) * scale, as a byte around a zero point: what follows a product of quantised numbers. Rounded first, or
// clamped first.
Body Requantise(DType to, bool along_columns, bool clamped_first) {
  BodyBuilder b;
  Scalar sum = b.Input(DType::kI32);
  if (along_columns) sum = sum + b.Input(DType::kI32);
  Scalar value = b.Narrow(
      b.Cast(sum, DType::kF32) * (along_columns ? b.Input(DType::kF32) : b.Const(DType::kF32, 0.003)), DType::kF32);
  const auto low = static_cast<double>(MinInt(to)), high = static_cast<double>(MaxInt(to));
  if (clamped_first) {
    value = RoundEven(Min(Max(b.Narrow(value + 7.0, DType::kF32), low), high));
  } else {
    value = Min(Max(b.Narrow(RoundEven(value) + 7.0, DType::kF32), low), high);
  }
  return b.Finish(b.Cast(value, to));
}

class DotTest : public testing::TestWithParam<std::string> {
 protected:
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(rng_) < p; }

  // Extremes are common: sums that would saturate 16 bits occur.
  Tensor Make(const Shape& shape, DType type) {
    Tensor tensor(type, shape);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) {
      if (IsFloat(type)) {
        tensor.Set(k, std::uniform_real_distribution<double>(0.001, 0.01)(rng_));
      } else if (type == DType::kI32) {
        tensor.SetInt(k, Int(-5000, 5000));
      } else {
        tensor.SetInt(k, Chance(0.3) ? (Chance(0.5) ? MinInt(type) : MaxInt(type)) : Int(MinInt(type), MaxInt(type)));
      }
    }
    return tensor;
  }

  struct Product {
    Shape a, b;
    DType a_type = DType::kU8, b_type = DType::kI8;
    bool transpose_b = false, constant_b = true;
    DType to = DType::kI32;  // or a byte type, through an epilogue
  };

  void Expect(const Product& p) {
    GraphBuilder builder("product");
    std::vector<Tensor> inputs = {Make(p.a, p.a_type)};
    const ValueId a = builder.Input("a", p.a_type, p.a);
    ValueId b;
    if (p.constant_b) {
      b = builder.Constant("b", Make(p.b, p.b_type));
    } else {
      inputs.push_back(Make(p.b, p.b_type));
      b = builder.Input("b", p.b_type, p.b);
    }
    ValueId y = builder.Matmul(a, b, false, p.transpose_b);
    Finish(builder, y, p.to, inputs, "matmul");
  }

  void ExpectConv(const Shape& x, const Shape& w, WindowParams window, int64_t groups, int64_t pad_value, DType x_type,
                  DType to, const std::string& emitter = "conv") {
    window.layout = "nhwc";
    GraphBuilder builder("conv");
    std::vector<Tensor> inputs = {Make(x, x_type)};
    ValueId y = builder.Conv(builder.Input("x", x_type, x), builder.Constant("w", Make(w, DType::kI8)), window, groups);
    SCOPED_TRACE(internal::Join(x.ToString(), w.ToString(), " groups ", groups));
    Finish(builder, y, to, inputs, emitter, pad_value);
  }

  void Finish(GraphBuilder& builder, ValueId y, DType to, std::vector<Tensor>& inputs, const std::string& emitter,
              int64_t pad_value = 0) {
    if (to != DType::kI32) {
      const Shape out = builder.ShapeOf(y);
      const int64_t columns = out[out.rank() - 1];
      std::vector<ValueId> operands;
      const bool along = Chance(0.7);
      if (along) {
        operands = {builder.Constant("shift", Make({columns}, DType::kI32)),
                    builder.Constant("scale", Make({columns}, DType::kF32))};
      }
      y = builder.WithEpilogue(y, Requantise(to, along, Chance(0.5)), operands, to);
    }
    builder.Output(y);
    StatusOr<Graph> graph = std::move(builder).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    if (pad_value != 0) graph->nodes[0].attrs.Set("pad_value", pad_value);
    EXPECT_TRUE(EveryNodeTakes(*graph, GetParam(), emitter));
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = emitter}, 0));
  }

  std::mt19937_64 rng_{11};
};

TEST_P(DotTest, EveryRemainderOfDepth) {
  for (int64_t depth = 1; depth <= 19; ++depth) {
    SCOPED_TRACE(depth);
    const int64_t rows = Int(1, 30), columns = Int(1, 90);
    Expect({{rows, depth},
            {depth, columns},
            DType::kU8,
            DType::kI8,
            false,
            true,
            depth % 2 == 0 ? DType::kU8 : DType::kI32});
  }
}

TEST_P(DotTest, EveryPairOfTypesConstantOrNot) {
  for (const DType a : {DType::kU8, DType::kI8}) {
    for (const DType b : {DType::kU8, DType::kI8}) {
      for (int kind = 0; kind < 4; ++kind) {
        for (int repeat = 0; repeat < 2; ++repeat) {
          const bool transpose = kind & 1, constant = kind & 2;
          const int64_t m = Int(1, 40), n = Int(1, 140), k = Int(1, 150);
          SCOPED_TRACE(internal::Join(Name(a), Name(b), " transposed ", transpose, " constant ", constant, " ", m, "x",
                                      n, "x", k));
          Expect({{m, k},
                  transpose ? Shape{n, k} : Shape{k, n},
                  a,
                  b,
                  transpose,
                  constant,
                  repeat == 0   ? DType::kI32
                  : repeat == 1 ? DType::kU8
                                : DType::kI8});
        }
      }
    }
  }
}

TEST_P(DotTest, SizesAtLength) {
  Expect({{129, 777}, {777, 333}, DType::kU8, DType::kI8, false, true, DType::kU8});
  Expect({{1, 4099}, {4099, 100}});
  Expect({{49, 1024}, {1024, 1024}, DType::kU8, DType::kI8, false, true, DType::kF32});
}

TEST_P(DotTest, Batches) {
  Expect({{3, 5, 18}, {3, 18, 33}});
  Expect({{2, 3, 7, 21}, {3, 40, 21}, DType::kU8, DType::kI8, true, false});
  Expect({{2, 1, 9, 13}, {1, 4, 13, 19}, DType::kI8, DType::kU8, false, false, DType::kI8});
  Expect({{4, 6, 12}, {12, 20}, DType::kU8, DType::kI8, false, true, DType::kU8});
}

TEST_P(DotTest, Convolutions) {
  const DType u8 = DType::kU8, i8 = DType::kI8;
  ExpectConv({1, 7, 7, 65}, {70, 65, 1, 1}, {}, 1, 0, u8, u8);
  ExpectConv({2, 9, 7, 16}, {40, 16, 1, 1}, {.strides = {2, 2}}, 1, 3, u8, i8);
  ExpectConv({1, 14, 14, 32}, {48, 32, 3, 3}, {.pads = {1, 1, 1, 1}}, 1, 117, u8, u8);
  ExpectConv({1, 9, 9, 72}, {33, 72, 3, 3}, {.pads = {1, 1, 1, 1}}, 1, 9, u8, u8);
  ExpectConv({2, 7, 5, 21}, {33, 21, 3, 3}, {.strides = {2, 1}, .pads = {0, 1, 1, 0}}, 1, 255, u8, DType::kI32);
  ExpectConv({1, 12, 12, 66}, {20, 66, 3, 3}, {.dilations = {2, 3}, .pads = {2, 3, 2, 3}}, 1, 1, u8, u8);
  ExpectConv({1, 8, 8, 12}, {20, 12, 3, 3}, {.pads = {1, 1, 1, 1}}, 1, -5, i8, u8);
}

TEST_P(DotTest, FirstLayerOfAnImageNetwork) {
  ExpectConv({1, 40, 44, 3}, {32, 3, 3, 3}, {.strides = {2, 2}, .pads = {0, 0, 1, 1}}, 1, 114, DType::kU8, DType::kU8);
  ExpectConv({2, 28, 28, 1}, {16, 1, 3, 3}, {.pads = {1, 1, 1, 1}}, 1, 3, DType::kU8, DType::kU8);
  ExpectConv({1, 33, 47, 3}, {64, 3, 7, 7}, {.strides = {2, 2}, .pads = {3, 3, 3, 3}}, 1, 128, DType::kU8, DType::kU8);
  ExpectConv({1, 31, 29, 4}, {24, 4, 5, 5}, {.pads = {2, 2, 2, 2}}, 1, 77, DType::kU8, DType::kI8);
  ExpectConv({1, 31, 29, 2}, {24, 2, 5, 5}, {.pads = {4, 3, 2, 1}}, 1, -77, DType::kI8, DType::kI8);
}

TEST_P(DotTest, Groups) {
  ExpectConv({1, 6, 6, 48}, {60, 16, 3, 3}, {.pads = {1, 1, 1, 1}}, 3, 200, DType::kU8, DType::kU8);
  ExpectConv({2, 5, 5, 10}, {14, 5, 3, 3}, {.pads = {1, 1, 1, 1}}, 2, 4, DType::kU8, DType::kU8);
  ExpectConv({1, 5, 5, 6}, {64, 3, 2, 2}, {}, 2, 0, DType::kU8, DType::kI32);
  ExpectConv({1, 5, 5, 64}, {64, 8, 3, 3}, {.pads = {1, 1, 1, 1}}, 8, 100, DType::kU8, DType::kU8);
}

TEST_P(DotTest, RandomWindows) {
  for (int k = 0; k < 16; ++k) {
    SCOPED_TRACE(k);
    const int64_t in = Int(1, 20), out = Int(1, 40), groups = Int(0, 3) == 0 ? Int(2, 3) : 1;
    std::vector<int64_t> x = {Int(1, 2)}, w = {out * groups, in}, begins, ends;
    WindowParams window;
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t taps = Int(1, 4), dilation = Int(0, 2) == 0 ? Int(1, 3) : 1, span = (taps - 1) * dilation + 1;
      window.strides.push_back(Int(1, 3));
      window.dilations.push_back(dilation);
      begins.push_back(Int(0, span));
      ends.push_back(Int(0, span));
      x.push_back(span + Int(0, 12));
      w.push_back(taps);
    }
    begins.insert(begins.end(), ends.begin(), ends.end());
    window.pads = begins;
    x.push_back(in * groups);
    ExpectConv(Shape(x), Shape(w), window, groups, Int(0, 255), DType::kU8, k % 2 == 0 ? DType::kU8 : DType::kI32);
  }
}

TEST_P(DotTest, DepthwiseEveryWidth) {
  for (int64_t width = 1; width <= 23; width += Int(1, 3)) {
    SCOPED_TRACE(width);
    const int64_t channels = 16 * Int(1, 4) + (width % 3 == 0 ? Int(1, 15) : 0), stride = Int(1, 2), height = Int(1, 6);
    ExpectConv({1, height, width, channels}, {channels, 1, 3, 3}, {.strides = {stride, stride}, .pads = {1, 1, 1, 1}},
               channels, Int(0, 255), DType::kU8, width % 2 == 0 ? DType::kU8 : DType::kI32, "depthwise");
  }
}

TEST_P(DotTest, DepthwiseFilters) {
  const int64_t c = 37;
  const auto expect = [&](const Shape& x, const Shape& w, const WindowParams& window, int64_t pad, DType type) {
    ExpectConv(x, w, window, x[3], pad, type, Chance(0.5) ? DType::kU8 : DType::kI32, "depthwise");
  };
  expect({2, 9, 30, c}, {c, 1, 5, 5}, {.pads = {2, 2, 2, 2}}, 100, DType::kU8);
  expect({1, 9, 31, c}, {c, 1, 5, 5}, {.strides = {2, 2}, .pads = {1, 1, 2, 2}}, -1, DType::kI8);
  expect({1, 20, 40, c}, {c, 1, 3, 3}, {.dilations = {2, 2}, .pads = {2, 2, 2, 2}}, 0, DType::kU8);
  expect({1, 20, 40, c}, {c, 1, 3, 3}, {.dilations = {4, 3}, .pads = {7, 1, 0, 4}}, 17, DType::kU8);
  expect({1, 14, 16, c}, {c, 1, 1, 4}, {}, 0, DType::kU8);
  expect({3, 7, 16, 48}, {48, 1, 2, 2}, {}, 0, DType::kU8);
  expect({1, 8, 56, c}, {c, 1, 3, 3}, {.strides = {2, 2}, .pads = {0, 0, 1, 1}}, 255, DType::kU8);
  expect({1, 14, 14, 512}, {512, 1, 3, 3}, {.pads = {1, 1, 1, 1}}, 3, DType::kU8);
  expect({1, 9, 12, 32}, {32, 1, 7, 3}, {.pads = {3, 1, 3, 1}}, 3, DType::kI8);
}

// Results that are u8 by a scale for each channel, of blocks of 64 channels and of what is left; by scales of 1 and
// more, where products may leave i32, in the other way.
TEST_P(DotTest, DepthwiseOfManyChannels) {
  const auto expect = [&](const Shape& x, const Shape& w, WindowParams window, int64_t pad_value, bool start,
                          double most) {
    window.layout = "nhwc";
    const int64_t channels = x[x.rank() - 1];
    SCOPED_TRACE(internal::Join(x.ToString(), w.ToString(), " padding ", pad_value, " start ", start, " scale ", most));
    GraphBuilder builder("wide");
    std::vector<Tensor> inputs = {Make(x, DType::kU8)};
    ValueId y =
        builder.Conv(builder.Input("x", DType::kU8, x), builder.Constant("w", Make(w, DType::kI8)), window, channels);
    Tensor scale(DType::kF32, Shape({channels}));
    for (int64_t k = 0; k < channels; ++k) scale.Set(k, std::uniform_real_distribution<double>(-0.0005, most)(rng_));
    std::vector<ValueId> operands;
    BodyBuilder body;
    Scalar sum = body.Input(DType::kI32);
    if (start) {
      operands.push_back(builder.Constant("start", Make({channels}, DType::kI32)));
      sum = sum + body.Input(DType::kI32);
    }
    operands.push_back(builder.Constant("scale", scale));
    const Scalar value = body.Narrow(body.Cast(sum, DType::kF32) * body.Input(DType::kF32), DType::kF32);
    const Body requantize = body.Finish(body.Cast(RoundEven(Min(Max(value, 0.0), 255.0)), DType::kU8));
    builder.Output(builder.WithEpilogue(y, requantize, operands, DType::kU8));
    StatusOr<Graph> graph = std::move(builder).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    if (pad_value != 0) graph->nodes[0].attrs.Set("pad_value", pad_value);
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 2, .only_emitter = "depthwise"}, 0));
    const StatusOr<Target> target = MakeTarget(GetParam());
    ASSERT_TRUE(target.ok());
    const StatusOr<Plan> plan = MakePlan(*graph, *target, {.only_emitter = "depthwise"});
    ASSERT_TRUE(plan.ok());
    const bool wide = target->has_avx512 && target->has_vnni && w[2] <= 4 && most < 1;
    const std::string expected = internal::Join(" 64 at once to ", wide ? channels / 64 * 64 : 0);
    EXPECT_NE(plan->steps[0].kernel.key.find(expected), std::string::npos) << plan->steps[0].kernel.key;
  };
  const WindowParams same = {.pads = {1, 1, 1, 1}}, half = {.strides = {2, 2}, .pads = {0, 0, 1, 1}};
  for (const int64_t channels : {64, 128, 80, 200, 63}) {
    const int64_t width = Int(1, 20), height = Int(1, 9);
    expect({1, height, width, channels}, {channels, 1, 3, 3}, same, 0, true, 0.01);
    expect({2, height, width, channels}, {channels, 1, 3, 3}, same, Int(1, 255), Chance(0.5), 0.01);
    expect({1, 8, 2 * Int(1, 10), channels}, {channels, 1, 3, 3}, half, 0, Chance(0.5), 0.01);
  }
  expect({1, 14, 14, 512}, {512, 1, 3, 3}, same, 0, true, 0.0003);
  expect({1, 7, 7, 1024}, {1024, 1, 3, 3}, same, 0, true, 0.0003);
  expect({1, 6, 9, 130}, {130, 1, 2, 4}, {}, 0, false, 0.9);
  expect({1, 9, 8, 64}, {64, 1, 4, 1}, {.pads = {1, 0, 2, 0}}, 7, true, 0.01);
  expect({1, 12, 20, 72}, {72, 1, 3, 3}, {.dilations = {2, 2}, .pads = {2, 2, 2, 2}}, 9, true, 0.01);
  expect({1, 9, 10, 64}, {64, 1, 5, 5}, {.pads = {2, 2, 2, 2}}, 3, true, 0.01);
  expect({1, 7, 7, 64}, {64, 1, 3, 3}, same, 0, true, 1e9);
}

// An elementwise operand, whose memory the result may take.
TEST_P(DotTest, DepthwiseWithResidual) {
  for (const int64_t channels : {32, 40}) {
    GraphBuilder builder("residual");
    const Shape x = {1, 7, 9, channels};
    std::vector<Tensor> inputs = {Make(x, DType::kU8)};
    const ValueId image = builder.Input("x", DType::kU8, x);
    const WindowParams window = {.pads = {1, 1, 1, 1}, .layout = "nhwc"};
    BodyBuilder first;
    const ValueId residual =
        builder.WithEpilogue(builder.Relu(image), first.Finish(first.Input(DType::kU8)), {}, DType::kU8);
    ValueId y = builder.Conv(image, builder.Constant("w", Make({channels, 1, 3, 3}, DType::kI8)), window, channels);
    BodyBuilder body;
    const Scalar sum = body.Input(DType::kI32);
    y = builder.WithEpilogue(y, body.Finish(body.Cast(sum + body.Input(DType::kU8), DType::kU8)), {residual},
                             DType::kU8);
    builder.Output(builder.Relu(y));
    const StatusOr<Graph> graph = std::move(builder).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "depthwise"}, 0));
  }
}

std::vector<std::string> Levels() {
  std::vector<std::string> levels = RunnableLevels();
  const StatusOr<Target> host = MakeTarget("host");
  if (host.ok() && host->has_avx512) levels.insert(levels.begin() + 1, "host:x86-64-v4");
  return levels;
}

INSTANTIATE_TEST_SUITE_P(Levels, DotTest, testing::ValuesIn(Levels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

// `bytes` bytes at the very end of a page behind which nothing may be touched.
class GuardedBytes {
 public:
  explicit GuardedBytes(int64_t bytes) : size_((bytes + 4095) / 4096 * 4096 + 4096) {
    void* pages = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TES_CHECK(pages != MAP_FAILED, bytes);
    pages_ = static_cast<char*>(pages);
    TES_CHECK(mprotect(pages_ + size_ - 4096, 4096, PROT_NONE) == 0, bytes);
    data_ = pages_ + size_ - 4096 - bytes;
  }
  ~GuardedBytes() { munmap(pages_, size_); }
  GuardedBytes(const GuardedBytes&) = delete;
  void* data() const { return data_; }

 private:
  const int64_t size_;
  char *pages_ = nullptr, *data_ = nullptr;
};

TEST(DotReadsTest, NothingBeyondTheOperands) {
  for (const std::string& level : Levels()) {
    const StatusOr<Target> target = MakeTarget(level);
    ASSERT_TRUE(target.ok());
    for (const int64_t depth : {1, 2, 3, 4, 5, 6, 7, 31, 34}) {
      for (const bool transposed : {false, true}) {
        std::string why;
        const int64_t rows = 5, columns = 21;
        MatmulProblem problem = {.dot = *Dot::Choose(*target, DType::kU8, DType::kI8, &why),
                                 .rows = rows,
                                 .columns = columns,
                                 .depth = depth,
                                 .b_transposed = transposed};
        const ContractionSchedule schedule = ScheduleContraction(*target, problem.shape(), 1);
        const PanelSource source = problem.b_source();
        GuardedBytes a(rows * depth), b(depth * columns), panels(PackedBytes(source, schedule.width())),
            c(4 * rows * columns);
        std::memset(a.data(), 200, rows * depth);
        std::memset(b.data(), 1, depth * columns);
        const PlanStep pack = PlanPackPanels(source, schedule.width(), {}, {}, *target);
        const StatusOr<KernelRunner> run_pack = KernelRunner::Make(pack.kernel, *target);
        ASSERT_TRUE(run_pack.ok()) << run_pack.status();
        (*run_pack)({b.data(), panels.data()}, 0, pack.tasks);
        const TileEpilogue epilogue(DType::kI32, {rows, columns}, nullptr, {});
        const StatusOr<KernelRunner> run = KernelRunner::Make(MatmulKernel(problem, schedule, epilogue), *target);
        ASSERT_TRUE(run.ok()) << run.status();
        (*run)({a.data(), panels.data(), c.data()}, 0, schedule.tasks());
        for (int64_t k = 0; k < rows * columns; ++k) {
          int32_t found;
          std::memcpy(&found, static_cast<char*>(c.data()) + 4 * k, 4);
          ASSERT_EQ(found, 200 * depth) << level << " depth " << depth << " element " << k;
        }
      }
    }
  }
}

// Nor of words, into which a step has widened bytes.
TEST(DotReadsTest, NothingBeyondWords) {
  for (const std::string& level : Levels()) {
    const StatusOr<Target> target = MakeTarget(level);
    ASSERT_TRUE(target.ok());
    for (const int64_t depth : {1, 2, 3, 4, 5, 31, 34}) {
      std::string why;
      const std::optional<Dot> dot = Dot::Choose(*target, DType::kI8, DType::kI8, &why)->OfWords();
      ASSERT_TRUE(dot.has_value()) << level;
      const int64_t rows = 13, columns = 21;
      const MatmulProblem problem = {
          .dot = *dot, .rows = rows, .columns = columns, .depth = depth, .b_transposed = true, .b_constant = true};
      const ContractionSchedule schedule = ScheduleContraction(*target, problem.shape(), 1);
      const Tensor weights = Tensor::Full(DType::kI8, Shape({columns, depth}), -128);
      const Tensor panels = PackPanels(weights, problem.b_source(), schedule.width());
      GuardedBytes a(2 * rows * depth), b(panels.byte_size()), c(4 * rows * columns);
      const auto x = std::span(static_cast<int16_t*>(a.data()), rows * depth);
      std::fill(x.begin(), x.end(), int16_t{255});
      std::memcpy(b.data(), panels.bytes().data(), panels.byte_size());
      const TileEpilogue epilogue(DType::kI32, {rows, columns}, nullptr, {});
      const StatusOr<KernelRunner> run = KernelRunner::Make(MatmulKernel(problem, schedule, epilogue), *target);
      ASSERT_TRUE(run.ok()) << run.status();
      (*run)({a.data(), b.data(), c.data()}, 0, schedule.tasks());
      for (const int32_t found : std::span(static_cast<int32_t*>(c.data()), rows * columns)) {
        ASSERT_EQ(found, -128 * 255 * depth) << level << " depth " << depth;
      }
    }
  }
}

// The step that widens, and that several products of one value share it.
TEST(WordsTest, AreMadeOnce) {
  GraphBuilder b("two");
  const Shape shape = {37, 131};
  const ValueId x = b.Input("x", DType::kI8, shape);
  std::vector<Tensor> inputs = {Tensor(DType::kI8, shape)};
  for (int64_t k = 0; k < inputs[0].num_elements(); ++k) inputs[0].SetInt(k, k % 256 - 128);
  for (int k = 0; k < 2; ++k) {
    Tensor w(DType::kI8, Shape({131, 90}));
    for (int64_t e = 0; e < w.num_elements(); ++e) w.SetInt(e, (e * 7 + k) % 256 - 128);
    b.Output(b.Matmul(x, b.Constant(internal::Join("w", k), w)));
  }
  const Graph graph = Built(std::move(b));
  for (const std::string& level : Levels()) {
    EXPECT_TRUE(CompiledAgrees(graph, inputs, level, {.threads = 2, .only_emitter = "matmul"}, 0)) << level;
    const Target target = *MakeTarget(level);
    if (target.has_vnni || target.vector_bits < 256) continue;
    const StatusOr<Plan> plan = MakePlan(graph, target, {.only_emitter = "matmul"});
    ASSERT_TRUE(plan.ok());
    ASSERT_EQ(plan->steps.size(), 3u) << level;
    EXPECT_EQ(plan->steps[0].kernel.family, "widen") << level;
  }
}

// Two bf16 a unit, where the processor has the instruction; whole and odd depths, constant or not.
TEST(DotBfloatTest, AgreesWithTheReference) {
  const StatusOr<Target> host = MakeTarget("host");
  ASSERT_TRUE(host.ok());
  if (!host->has_bf16) GTEST_SKIP() << "this processor has no vdpbf16ps";
  std::mt19937_64 rng(5);
  const auto make = [&](const Shape& shape) {
    Tensor tensor(DType::kBF16, shape);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) {
      tensor.Set(k, std::uniform_real_distribution<double>(-1, 1)(rng));
    }
    return tensor;
  };
  for (const int64_t depth : {1, 2, 3, 64, 77}) {
    for (int kind = 0; kind < 4; ++kind) {
      const bool transposed = kind & 1, constant = kind & 2;
      GraphBuilder b("product");
      std::vector<Tensor> inputs;
      inputs.push_back(make({19, depth}));
      const Shape shape = transposed ? Shape{37, depth} : Shape{depth, 37};
      const ValueId x = b.Input("x", DType::kBF16, {19, depth});
      ValueId w;
      if (constant) {
        w = b.Constant("w", make(shape));
      } else {
        w = b.Input("w", DType::kBF16, shape);
        inputs.push_back(make(shape));
      }
      b.Output(b.Matmul(x, w, false, transposed));
      const StatusOr<Graph> graph = std::move(b).Build();
      ASSERT_TRUE(graph.ok()) << graph.status();
      EXPECT_TRUE(EveryNodeTakes(*graph, "host", "matmul"));
      EXPECT_TRUE(CompiledAgrees(*graph, inputs, "host", {.threads = 1, .only_emitter = "matmul"}, 2e-2)) << depth;
    }
  }
  GraphBuilder b("conv");
  const std::vector<Tensor> inputs = {make({1, 9, 8, 5})};
  const ValueId x = b.Input("x", DType::kBF16, {1, 9, 8, 5});
  b.Output(b.Conv(x, b.Constant("w", make({20, 5, 3, 3})), {.pads = {1, 1, 1, 1}, .layout = "nhwc"}));
  const StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_TRUE(EveryNodeTakes(*graph, "host", "conv"));
  EXPECT_TRUE(CompiledAgrees(*graph, inputs, "host", {.threads = 1, .only_emitter = "conv"}, 2e-2));
}

// A processor with VNNI but not AVX-512 takes the 256-bit instruction.
TEST(DotChoiceTest, TheInstructionThatTheTargetHas) {
  std::string why;
  const auto kind = [&](const char* name, DType a, DType b) {
    return Dot::Choose(*MakeTarget(name), a, b, &why)->kind;
  };
  EXPECT_EQ(kind("host:alderlake", DType::kU8, DType::kI8), Dot::Kind::kFourBytes);
  EXPECT_EQ(kind("host:icelake-server", DType::kU8, DType::kI8), Dot::Kind::kFourBytes);
  EXPECT_EQ(kind("host:icelake-server", DType::kI8, DType::kI8), Dot::Kind::kWordPairs);
  EXPECT_EQ(kind("host:skylake-avx512", DType::kU8, DType::kI8), Dot::Kind::kWordPairs);
  EXPECT_EQ(kind("host:znver4", DType::kBF16, DType::kBF16), Dot::Kind::kTwoBfloats);
  EXPECT_EQ(Dot::Choose(*MakeTarget("host:x86-64-v3"), DType::kU8, DType::kI8, &why)->OfWords()->kind,
            Dot::Kind::kWords);
  EXPECT_FALSE(Dot::Choose(*MakeTarget("host:znver4"), DType::kU8, DType::kI8, &why)->OfWords().has_value());
  EXPECT_FALSE(Dot::Choose(*MakeTarget("host:x86-64-v4"), DType::kBF16, DType::kBF16, &why).has_value());
  EXPECT_FALSE(Dot::Choose(*MakeTarget("host:znver4"), DType::kI16, DType::kI8, &why).has_value());
  EXPECT_FALSE(Dot::Choose(*MakeTarget("host:znver4"), DType::kF32, DType::kI8, &why).has_value());

  const Target alderlake = *MakeTarget("host:alderlake");
  MatmulProblem problem = {.dot = *Dot::Choose(alderlake, DType::kU8, DType::kI8, &why), .rows = 9, .columns = 32};
  problem.depth = 64;
  problem.b_constant = true;
  const ContractionSchedule schedule = ScheduleContraction(alderlake, problem.shape(), 1);
  const StatusOr<std::string> code =
      KernelAssembly(MatmulKernel(problem, schedule, TileEpilogue(DType::kI32, {9, 32}, nullptr, {})), alderlake);
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_NE(code->find("vpdpbusd"), std::string::npos);
  EXPECT_EQ(code->find("zmm"), std::string::npos);
}

}  // namespace
}  // namespace tessera
