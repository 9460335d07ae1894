// Products with few rows and weights of 4 bits on GPUs against the interpreter, on the host's stand-ins for cards and
// on the card if there is one: every way, every number of rows, blocks of several lengths with and without zero points,
// groups of the depth that lanes and slices do not divide, pruned elements, epilogues; what is left to others.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "tesa/attribute.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct Case {
  int64_t rows = 1, columns = 16, depth = 64, block = 32;
  bool zeros = false, transposed = true, epilogue = false;
  double pruned = 0;
};

// Of columns of the product.
Tensor MakeWeights(Random& random, const Case& c) {
  Tensor w(DType::kF32, c.transposed ? Shape{c.columns, c.depth} : Shape{c.depth, c.columns});
  for (int64_t column = 0; column < c.columns; ++column) {
    float scale = 1;
    int64_t zero = 8;
    for (int64_t k = 0; k < c.depth; ++k) {
      if (k % c.block == 0) {
        scale = static_cast<float>(random.Uniform(0.001, 0.02));
        if (c.zeros) zero = random.Int(0, 15);
      }
      const double value = static_cast<double>(random.Int(0, 15) - zero) * scale;
      w.Set(c.transposed ? column * c.depth + k : k * c.columns + column, static_cast<float>(value));
    }
  }
  return w;
}

Graph MakeGraph(const Case& c, Random& random) {
  GraphBuilder b("int4");
  const ValueId x = b.Input("x", DType::kF32, {c.rows, c.depth});
  Tensor values = MakeWeights(random, c);
  ValueId w;
  if (c.pruned > 0) {
    std::vector<uint8_t> kept;
    for (int64_t k = 0; k < values.num_elements(); ++k) kept.push_back(random.Chance(c.pruned) ? 0 : 1);
    const Attribute tesa = Attribute::FromKept(values.shape(), kept, 32);
    w = b.Constant("w", tesa.ApplyTo(values));
    b.SetTesa(w, tesa);
  } else {
    w = b.Constant("w", std::move(values));
  }
  ValueId y = b.Matmul(x, w, false, c.transposed);
  if (c.epilogue) {
    BodyBuilder body;
    const Scalar raw = body.Input(DType::kF32);
    const Scalar sum = raw + body.Input(DType::kF32);
    y = b.WithEpilogue(y, body.Finish(Max(sum, 0.0)),
                       {b.Constant("bias", RandomTensor(random, {DType::kF32, {c.columns}}))}, DType::kF32);
  }
  b.Output(y);
  return Built(std::move(b));
}

std::vector<Way> WaysFor(const Graph& graph, const std::string& target, std::string* why) {
  StatusOr<Target> made = MakeTarget(target);
  TES_CHECK(made.ok(), made.status());
  made->whole_space = true;
  return WaysOf(EmitterNamed("gpu_gemv_int4"), graph, graph.nodes[0], *made, why);
}

class GpuGemvInt4Test : public testing::TestWithParam<std::string> {
 protected:
  void Expect(const Case& c) {
    Random random(++seed_);
    SCOPED_TRACE(internal::Join(c.rows, "x", c.columns, "x", c.depth, " blocks of ", c.block));
    const Graph graph = MakeGraph(c, random);
    const std::vector<Tensor> inputs = RandomInputs(graph, seed_);
    std::string why;
    const std::vector<Way> ways = WaysFor(graph, GetParam(), &why);
    EXPECT_FALSE(ways.empty()) << why;
    for (const Way& way : ways) {
      EXPECT_TRUE(
          CompiledAgrees(graph, inputs, GetParam(), {.threads = 1, .only_emitter = "gpu_gemv_int4:" + way.name}, 1e-5))
          << way.name;
      if (HasFailure()) return;
    }
  }
  uint64_t seed_ = 1;
};

TEST_P(GpuGemvInt4Test, EveryNumberOfRows) {
  for (int64_t rows = 1; rows <= 16; ++rows) {
    Expect({.rows = rows, .columns = 9 + rows, .depth = 32 * (1 + rows % 3), .epilogue = rows % 2 == 0});
  }
}

TEST_P(GpuGemvInt4Test, DepthsAndBlocks) {
  for (const int64_t depth : {32, 1024, 1056, 2048, 3104, 5120}) {
    const int64_t block = int64_t{16} << depth / 32 % 5;
    Expect({.rows = 1 + depth % 3, .columns = 13, .depth = depth, .block = block, .zeros = depth % 1024 != 0});
  }
  Expect({.columns = 7, .depth = 2080, .block = 2080});
}

TEST_P(GpuGemvInt4Test, AsTheyLie) {
  Expect({.rows = 3, .columns = 33, .depth = 1152, .zeros = true, .transposed = false, .epilogue = true});
  Expect({.rows = 2, .columns = 1, .depth = 96, .transposed = false});
}

TEST_P(GpuGemvInt4Test, PrunedElementsAreZeros) {
  Expect({.rows = 3, .columns = 20, .depth = 1088, .pruned = 0.5});
  Expect({.rows = 1, .columns = 20, .depth = 256, .transposed = false, .pruned = 0.9});
}

INSTANTIATE_TEST_SUITE_P(Levels, GpuGemvInt4Test, testing::ValuesIn(GpuLevels()), GpuLevelName);

TEST(GpuGemvInt4ChoiceTest, OthersAreLeft) {
  Random random(3);
  std::string why;
  EXPECT_TRUE(WaysFor(MakeGraph({.rows = 17}, random), "cuda:sm_80", &why).empty());
  EXPECT_NE(std::string::npos, why.find("1 to 16 rows")) << why;
  EXPECT_TRUE(WaysFor(MakeGraph({.depth = 48, .block = 16}, random), "cuda:sm_80", &why).empty());
  EXPECT_NE(std::string::npos, why.find("no multiple of 32")) << why;
  GraphBuilder b("floats");
  b.Output(b.Matmul(b.Input("x", DType::kF32, {1, 64}), b.Constant("w", RandomTensor(random, {DType::kF32, {64, 8}}))));
  EXPECT_TRUE(WaysFor(Built(std::move(b)), "cuda:sm_80", &why).empty());
  EXPECT_NE(std::string::npos, why.find("4 bits")) << why;
}

// Decoding: an eighth of the bytes.
TEST(GpuGemvInt4ChoiceTest, ByExpectedTime) {
  Random random(4);
  const Graph graph = MakeGraph({.rows = 1, .columns = 2048, .depth = 2048, .block = 128}, random);
  const StatusOr<Target> target = MakeTarget("cuda:sm_90a");
  ASSERT_TRUE(target.ok());
  std::string report;
  EXPECT_EQ("gpu_gemv_int4", SelectEmitter(graph, graph.nodes[0], *target, "", &report).emitter->name) << report;
}

}  // namespace
}  // namespace tessera
