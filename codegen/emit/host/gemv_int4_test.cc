// Products with weights of 4 bits with scales, recognised in f32 constants, against the reference on every level of
// processors.
#include "codegen/emit/host/gemv_int4.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// f32(scale * (q - zero)) with a scale and a zero point for each block of a row.
Tensor MakeWeights(Random& random, int64_t rows, int64_t depth, int64_t block, bool zeros) {
  Tensor w(DType::kF32, Shape({rows, depth}));
  for (int64_t r = 0; r < rows; ++r) {
    float scale = 1;
    int64_t zero = 0;
    for (int64_t k = 0; k < depth; ++k) {
      if (k % block == 0) {
        scale = static_cast<float>(random.Uniform(0.001, 0.02));
        zero = zeros ? random.Int(0, 15) : 8;
      }
      w.Set(r * depth + k, static_cast<float>(static_cast<double>(random.Int(0, 15) - zero) * scale));
    }
  }
  return w;
}

std::optional<Int4Weights> Find(const Tensor& w) {
  return FindInt4({.tensor = w,
                   .rows = w.shape()[0],
                   .depth = w.shape()[1],
                   .row_step = w.shape()[1],
                   .depth_step = 1,
                   .kept = {}});
}

TEST(FindInt4Test, TheLongestBlocks) {
  Random random(2);
  for (const int64_t block : {16, 32, 64, 128, 256, 1000}) {
    const std::optional<Int4Weights> found = Find(MakeWeights(random, 20, 1000, block, false));
    ASSERT_TRUE(found.has_value()) << block;
    EXPECT_EQ(found->block, block);
    EXPECT_FALSE(found->offsets);
  }
  EXPECT_FALSE(Find(RandomTensor(random, {DType::kF32, {20, 1000}})));
}

class GemvInt4Test : public testing::TestWithParam<std::string> {};

TEST_P(GemvInt4Test, AgreesWithTheReference) {
  Random random(3);
  for (int trial = 0; trial < 12; ++trial) {
    const int64_t rows = random.Int(1, 70), depth = random.Int(1, 500), columns = trial % 2 == 0 ? 1 : random.Int(2, 7);
    const int64_t block = int64_t{16} << random.Int(0, 3);
    const bool zeros = trial % 3 == 0, epilogue = trial % 4 == 1;
    SCOPED_TRACE(internal::Join(rows, "x", depth, "x", columns, " blocks of ", block, zeros ? " zero points" : ""));
    GraphBuilder b("int4");
    const ValueId x = b.Input("x", DType::kF32, {columns, depth});
    const ValueId w = b.Constant("w", MakeWeights(random, rows, depth, block, zeros));
    ValueId y = b.Matmul(x, w, false, true);
    std::vector<Tensor> inputs = {RandomTensor(random, {DType::kF32, {columns, depth}})};
    if (epilogue) {
      BodyBuilder body;
      const Scalar raw = body.Input(DType::kF32);
      const Scalar sum = raw + body.Input(DType::kF32);
      y = b.WithEpilogue(y, body.Finish(Max(sum, 0.0)),
                         {b.Constant("bias", RandomTensor(random, {DType::kF32, {rows}}))}, DType::kF32);
    }
    b.Output(y);
    const StatusOr<Graph> graph = std::move(b).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    CompileResult result;
    EXPECT_TRUE(RunCompiled(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "gemv:int4"}, &result).ok());
    EXPECT_NE(result.decisions[0].find("': gemv:int4"), std::string::npos) << result.decisions[0];
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "gemv:int4"}, 1e-5));
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, GemvInt4Test, testing::ValuesIn(RunnableLevels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

}  // namespace
}  // namespace tessera
