// Products of bytes with small integers that have a scale for each block of the depth, against the interpreter: every
// way, every kind of remainder of rows and columns, blocks of several lengths, weights at their extremes, epilogues; on
// every level, AVX-512 without VNNI among them.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "codegen/emit/dot.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct Case {
  Shape x = {5, 64};
  int64_t columns = 20, block = 32;
  int64_t low = -8, high = 7;  // of the weights
  bool extremes = false;       // nothing between them, and x all 255
  bool epilogue = false;
};

struct Product {
  Graph graph;
  std::vector<Tensor> inputs;
};

Product Make(const Case& c, uint64_t seed) {
  Random random(seed);
  const int64_t depth = c.x[c.x.rank() - 1];
  Tensor x(DType::kU8, c.x), w(DType::kI8, {depth, c.columns}), scales(DType::kF32, {depth / c.block, c.columns});
  for (int64_t k = 0; k < x.num_elements(); ++k) x.SetInt(k, c.extremes ? 255 : random.Int(0, 255));
  for (int64_t k = 0; k < w.num_elements(); ++k) {
    // Columns of one sign, where sums are largest.
    w.SetInt(k, !c.extremes ? random.Int(c.low, c.high) : k % c.columns % 2 == 0 ? c.low : c.high);
  }
  for (int64_t k = 0; k < scales.num_elements(); ++k) scales.Set(k, random.Uniform(0.001, 0.01));
  GraphBuilder b("product");
  ValueId y = b.Apply(Op::kScaledMatmul, {b.Input("x", DType::kU8, c.x), b.Constant("w", std::move(w)),
                                          b.Constant("s", std::move(scales))});
  if (c.epilogue) {
    BodyBuilder body;
    const Scalar value = Max(body.Input(DType::kF32) + body.Input(DType::kF32), 0.0);
    Tensor bias(DType::kF32, {c.columns});
    for (int64_t k = 0; k < c.columns; ++k) bias.Set(k, random.Uniform(-1, 1));
    y = b.WithEpilogue(y, body.Finish(value), {b.Constant("bias", std::move(bias))}, DType::kF32);
  }
  b.Output(y);
  return {Built(std::move(b)), {std::move(x)}};
}

std::vector<std::string> Levels() {
  std::vector<std::string> levels = RunnableLevels();
  const StatusOr<Target> host = MakeTarget("host");
  if (host.ok() && host->has_avx512) levels.insert(levels.begin() + 1, "host:x86-64-v4");
  return levels;
}

class ScaledMatmulTest : public testing::TestWithParam<std::string> {
 protected:
  void Expect(const Case& c, const std::string& way) {
    const Product product = Make(c, ++seed_);
    const std::string emitter = "scaled_matmul:" + way;
    SCOPED_TRACE(internal::Join(emitter, " ", c.x.ToString(), " to ", c.columns, " blocks of ", c.block));
    EXPECT_TRUE(EveryNodeTakes(product.graph, GetParam(), emitter));
    EXPECT_TRUE(
        CompiledAgrees(product.graph, product.inputs, GetParam(), {.threads = 2, .only_emitter = emitter}, 1e-5));
  }

  uint64_t seed_ = 1;
};

TEST_P(ScaledMatmulTest, EveryFewRowsAndBlocks) {
  Random random(2);
  for (int64_t rows = 1; rows <= 14; ++rows) {
    const int64_t block = int64_t{4} << random.Int(0, 6);
    for (const char* way : {"integers", "f32"}) {
      Expect({.x = {rows, block * random.Int(1, 5)},
              .columns = random.Int(1, 100),
              .block = block,
              .epilogue = rows % 2 == 0},
             way);
    }
    if (rows <= 7) Expect({.x = {rows, 96}, .columns = random.Int(1, 50), .epilogue = rows % 2 == 0}, "int4");
  }
}

TEST_P(ScaledMatmulTest, LongSums) {
  for (const int64_t block : {12, 36, 68, 128, 1020}) {
    Expect({.x = {2, 3, 1020 / block * block}, .columns = 33, .block = block}, "integers");
  }
  Expect({.x = {37, 1024}, .columns = 130, .block = 32, .epilogue = true}, "integers");
}

// Where 16 bits are all but full, and weights of which 16 bits hold fewer, or only two.
TEST_P(ScaledMatmulTest, Extremes) {
  for (const auto& [low, high] : {std::pair{-8, 7}, {-7, 8}, {-15, 15}, {0, 15}, {-64, 64}, {-128, 127}}) {
    Expect({.x = {9, 256}, .block = 128, .low = low, .high = high, .extremes = true}, "integers");
  }
  Expect({.x = {3, 256}, .block = 128, .low = 0, .high = 15, .extremes = true}, "int4");
}

INSTANTIATE_TEST_SUITE_P(Levels, ScaledMatmulTest, testing::ValuesIn(Levels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

// What is not bytes by constants is left to the generic emitter.
TEST(ScaledMatmulChoiceTest, OthersAreLeft) {
  GraphBuilder b("others");
  const ValueId x = b.Input("x", DType::kI8, {4, 8}), w = b.Constant("w", Tensor(DType::kI8, {8, 3}));
  b.Output(b.Apply(Op::kScaledMatmul, {x, w, b.Input("s", DType::kF32, {2, 3})}));
  const Graph graph = Built(std::move(b));
  EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 3), "host", {.threads = 1}, 1e-5));
  EXPECT_TRUE(EveryNodeTakes(graph, "host", "generic"));
}

// Sums of 16 bits are for processors that have nothing better, and only as long as they hold.
TEST(ShortSumsTest, WhereTheyHelp) {
  const auto units = [](const char* target, int largest) {
    const std::optional<Dot> dot = Dot::OfShortSums(*MakeTarget(target), largest);
    return dot ? dot->short_units : 0;
  };
  EXPECT_EQ(units("host:x86-64-v3", 8), 8);
  EXPECT_EQ(units("host:x86-64-v3", 15), 4);
  EXPECT_EQ(units("host:x86-64-v3", 64), 1);
  EXPECT_EQ(units("host:x86-64-v3", 65), 0);
  EXPECT_EQ(units("host:skylake-avx512", 8), 8);
  EXPECT_EQ(units("host:znver4", 8), 0);
  EXPECT_EQ(units("host:x86-64", 8), 0);
}

}  // namespace
}  // namespace tessera
