// The matmul emitter against the interpreter: random shapes with every kind of remainder, both places of B, transposed
// operands, batches that broadcast, and epilogues over operands of every broadcastable shape, on three processor
// levels.
#include "codegen/emit/host/matmul.h"

#include <gtest/gtest.h>

#include <random>

#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : rng_(seed) {}
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(rng_) < p; }
  Tensor Make(const Shape& shape, DType type = DType::kF32) {
    Tensor tensor(type, shape);
    std::uniform_real_distribution<double> value(-1, 1);
    for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, value(rng_));
    return tensor;
  }

 private:
  std::mt19937_64 rng_;
};

struct MatmulCase {
  Shape a, b;
  bool transpose_a = false, transpose_b = false, constant_b = true;
  DType type = DType::kF32;
};

// A graph of one matmul, and the tensors to run it on.
struct OneMatmul {
  GraphBuilder builder{"matmul"};
  std::vector<Tensor> inputs;
  ValueId result;

  OneMatmul(const MatmulCase& c, Random& random) {
    inputs.push_back(random.Make(c.a, c.type));
    const ValueId a = builder.Input("a", c.type, c.a);
    Tensor b = random.Make(c.b, c.type);
    ValueId right;
    if (c.constant_b) {
      right = builder.Constant("b", std::move(b));
    } else {
      right = builder.Input("b", c.type, c.b);
      inputs.push_back(std::move(b));
    }
    result = builder.Matmul(a, right, c.transpose_a, c.transpose_b);
  }
  ValueId Operand(const Shape& shape, Random& random) {
    const std::string name = "operand" + std::to_string(inputs.size());
    inputs.push_back(random.Make(shape));
    return builder.Input(name, DType::kF32, shape);
  }
  Graph Build() {
    builder.Output(result);
    StatusOr<Graph> graph = std::move(builder).Build();
    TES_CHECK(graph.ok(), graph.status());
    return *std::move(graph);
  }
};

class MatmulTest : public testing::TestWithParam<std::string> {
 protected:
  void Expect(OneMatmul matmul, double bound = 1e-5) {
    const Graph graph = matmul.Build();
    EXPECT_TRUE(EveryNodeTakes(graph, GetParam(), "matmul"));
    EXPECT_TRUE(CompiledAgrees(graph, matmul.inputs, GetParam(), {.threads = 1, .only_emitter = "matmul"}, bound));
  }
};

TEST_P(MatmulTest, EveryFewRows) {
  Random random(1);
  for (int64_t rows = 1; rows <= 17; ++rows) {
    SCOPED_TRACE(rows);
    const int64_t depth = random.Int(1, 90), columns = random.Int(1, 150);
    Expect(OneMatmul({{rows, depth}, {depth, columns}}, random));
  }
}

TEST_P(MatmulTest, OddSizesAtLength) {
  Random random(2);
  Expect(OneMatmul({{1000, 777}, {777, 333}}, random));
  Expect(OneMatmul({{1, 4099}, {4099, 1000}}, random));
  Expect(OneMatmul({{49, 1024}, {1024, 1024}}, random));
}

TEST_P(MatmulTest, OperandsInAnyOrderConstantOrNot) {
  Random random(3);
  for (int kind = 0; kind < 8; ++kind) {
    for (int repeat = 0; repeat < 2; ++repeat) {
      const bool ta = kind & 1, tb = kind & 2, constant = kind & 4;
      SCOPED_TRACE(internal::Join("transposed ", ta, " ", tb, " constant ", constant));
      const int64_t m = random.Int(1, 70), n = random.Int(1, 140), k = random.Int(1, 100);
      Expect(OneMatmul({ta ? Shape{k, m} : Shape{m, k}, tb ? Shape{n, k} : Shape{k, n}, ta, tb, constant}, random));
    }
  }
}

TEST_P(MatmulTest, BatchesBroadcast) {
  Random random(4);
  const std::pair<Shape, Shape> batches[] = {
      {{3}, {3}},       {{5}, {}},        {{}, {4}},        {{2, 3}, {3}},
      {{2, 1}, {1, 3}}, {{2, 3}, {2, 1}}, {{1, 3}, {2, 3}}, {{2, 1, 3}, {1, 2, 1}},
      {{4, 2, 3}, {3}}, {{1}, {1}}};
  for (const auto& [a, b] : batches) {
    for (const bool transposed : {false, true}) {
      for (const bool constant : {false, true}) {
        SCOPED_TRACE(internal::Join(a.ToString(), b.ToString(), transposed, constant));
        const int64_t m = random.Int(1, 20), n = random.Int(1, 40), k = random.Int(1, 40);
        std::vector<int64_t> left = a.dims(), right = b.dims();
        left.insert(left.end(), {m, k});
        if (transposed) {
          right.insert(right.end(), {n, k});
        } else {
          right.insert(right.end(), {k, n});
        }
        Expect(OneMatmul({Shape(left), Shape(right), false, transposed, constant}, random));
      }
    }
  }
}

TEST_P(MatmulTest, DoublePrecision) {
  Random random(5);
  for (const bool transposed : {false, true}) {
    const Shape b = transposed ? Shape{45, 61} : Shape{61, 45};
    Expect(OneMatmul({{23, 61}, b, false, transposed, false, DType::kF64}, random), 1e-13);
    Expect(OneMatmul({{23, 61}, b, false, transposed, true, DType::kF64}, random), 1e-13);
  }
}

// Operands of every shape that broadcasts to [2, 5, 37], one at a time and together.
TEST_P(MatmulTest, EpilogueOperandsOfEveryShape) {
  Random random(6);
  const std::vector<Shape> shapes = {{},        {1},       {37},       {5, 1},     {5, 37},    {1, 37},
                                     {2, 1, 1}, {2, 5, 1}, {2, 1, 37}, {2, 5, 37}, {1, 5, 37}, {1, 1, 1}};
  const auto check = [&](const std::vector<Shape>& operands, DType stored) {
    OneMatmul matmul({{2, 5, 19}, {2, 19, 37}}, random);
    BodyBuilder body;
    Scalar value = body.Input(DType::kF32);
    std::vector<ValueId> ids;
    for (const Shape& shape : operands) {
      ids.push_back(matmul.Operand(shape, random));
      value = value + body.Input(DType::kF32);
    }
    matmul.result =
        matmul.builder.WithEpilogue(matmul.result, body.Finish(body.Cast(Max(value, -0.5), stored)), ids, stored);
    Expect(std::move(matmul), stored == DType::kF16 ? 2e-3 : 1e-5);
  };
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape.ToString());
    check({shape}, DType::kF32);
  }
  check(shapes, DType::kF32);
  check({{37}, {2, 5, 37}}, DType::kF16);
}

TEST_P(MatmulTest, LongEpiloguesAndShortOnes) {
  Random random(7);
  using Step = std::function<Scalar(Scalar)>;
  const std::pair<const char*, Step> bodies[] = {
      {"relu", [](Scalar x) { return Max(x, 0.0); }},
      {"relu6", [](Scalar x) { return Min(Max(x, 0.0), 6.0); }},
      {"gelu", [](Scalar x) { return x * 0.5 * (Erf(x * 0.7071067811865476) + 1.0); }},
      {"silu", [](Scalar x) { return x / (Exp(-x) + 1.0); }},
      {"tanh", [](Scalar x) { return Tanh(x); }},
  };
  for (const auto& [name, step] : bodies) {
    for (const int64_t columns : {32, 77, 10}) {
      SCOPED_TRACE(internal::Join(name, " ", columns));
      OneMatmul matmul({{13, 40}, {40, columns}}, random);
      const ValueId bias = matmul.Operand({columns}, random), residual = matmul.Operand({13, columns}, random);
      BodyBuilder body;
      Scalar value = body.Input(DType::kF32) + body.Input(DType::kF32);
      value = step(value) + body.Input(DType::kF32);
      matmul.result = matmul.builder.WithEpilogue(matmul.result, body.Finish(value), {bias, residual}, DType::kF32);
      Expect(std::move(matmul));
    }
  }
}

// x + f(x): the result takes the place of the residual in memory unless the product still reads it.
TEST_P(MatmulTest, ResidualsInPlace) {
  Random random(8);
  GraphBuilder b("residual");
  const ValueId x = b.Input("x", DType::kF32, {40, 48});
  ValueId value = b.Matmul(x, b.Constant("w0", random.Make({48, 48})));
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
  const Body add = body.Finish(sum);
  for (int layer = 1; layer < 4; ++layer) {
    const ValueId hidden = b.Matmul(value, b.Constant("w" + std::to_string(layer), random.Make({48, 48})));
    const ValueId out = b.Matmul(hidden, b.Constant("v" + std::to_string(layer), random.Make({48, 48})));
    value = b.WithEpilogue(out, add, {value}, DType::kF32);
    // And a product that adds its own operand.
    const ValueId self = b.Matmul(value, b.Constant("u" + std::to_string(layer), random.Make({48, 48})));
    value = b.WithEpilogue(self, add, {value}, DType::kF32);
  }
  b.Output(b.Named("y").Matmul(value, b.Constant("last", random.Make({48, 48}))));
  const StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<Tensor> inputs = {random.Make({40, 48})};
  EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "matmul"}, 1e-4));
}

INSTANTIATE_TEST_SUITE_P(Levels, MatmulTest, testing::ValuesIn(RunnableLevels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

TEST(SimplifyTest, BatchBecomesRowsWhereBIsShared) {
  MatmulProblem problem;
  problem.batch = {{.extent = 2, .a_step = 3, .b_step = 0}, {.extent = 3, .a_step = 1, .b_step = 0}};
  problem.rows = 5;
  problem.a_matrices = 6;
  const MatmulProblem simple = Simplify(problem);
  EXPECT_TRUE(simple.batch.empty());
  EXPECT_EQ(simple.rows, 30);
  EXPECT_EQ(simple.a_matrices, 1);
}

TEST(ScheduleTest, TilesCoverRowsOnceAndFitTheRegisters) {
  Random random(9);
  for (const char* name : {"host:x86-64-v4", "host:x86-64-v3", "host:x86-64"}) {
    const StatusOr<Target> target = MakeTarget(name);
    ASSERT_TRUE(target.ok());
    for (int k = 0; k < 200; ++k) {
      const ContractionShape shape = {
          .rows = random.Int(1, 300), .columns = random.Int(1, 300), .depth = random.Int(1, 2000)};
      const ContractionSchedule s = ScheduleContraction(*target, shape, 3);
      EXPECT_EQ(s.full_tiles * s.tile_rows + (s.tiles - s.full_tiles) * (s.tile_rows - 1), shape.rows) << s.Key();
      EXPECT_LT(s.tile_rows * s.vectors + s.vectors, target->vector_registers) << s.Key();
      EXPECT_GE(s.panels() * s.width(), shape.columns) << s.Key();
      EXPECT_LT((s.panels() - 1) * s.width(), shape.columns) << s.Key();
    }
  }
}

}  // namespace
}  // namespace tessera
