// Products with few rows on GPUs against the interpreter, on the host's stand-in for a card and on the card if there is
// one: every way, every type, numbers of rows and columns with every remainder, depths that lanes do not divide.
#include "codegen/emit/gpu/gpu_gemv.h"

#include <gtest/gtest.h>

#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/gpu/testing/gpu_products.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "graph/passes/pipeline.h"
#include "tesa/random.h"

namespace tessera {
namespace {

class GpuGemvTest : public testing::TestWithParam<std::string> {
 protected:
  void Expect(int64_t rows, int64_t columns, int64_t depth, DType x_type, DType w_type, bool transposed,
              bool constant = true, bool epilogue = false) {
    Random random(static_cast<uint64_t>(rows * 1000 + columns));
    GraphBuilder builder("gemv");
    const Shape shape = transposed ? Shape{columns, depth} : Shape{depth, columns};
    std::vector<Tensor> inputs = {RandomOperand(random, x_type, {rows, depth})};
    const ValueId x = builder.Input("x", x_type, {rows, depth});
    Tensor data = RandomOperand(random, w_type, shape);
    ValueId w;
    if (constant) {
      w = builder.Constant("w", std::move(data));
    } else {
      inputs.push_back(std::move(data));
      w = builder.Input("w", w_type, shape);
    }
    ValueId y = builder.Matmul(x, w, false, transposed);
    if (epilogue) {
      inputs.push_back(RandomOperand(random, x_type, {columns}));
      y = builder.Relu(builder.Add(y, builder.Input("bias", x_type, {columns})));
    }
    builder.Output(y);
    StatusOr<Graph> graph = std::move(builder).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    if (epilogue) {
      ASSERT_TRUE(OptimizeForHost(*graph).ok());
    }
    const StatusOr<Target> target = MakeTarget(GetParam());
    ASSERT_TRUE(target.ok()) << target.status();
    std::string why;
    const std::vector<Way> ways = WaysOf(EmitterNamed("gpu_gemv"), *graph, graph->nodes[0], *target, &why);
    EXPECT_FALSE(ways.empty()) << why;
    const double bound = x_type == DType::kF32    ? 1e-5
                         : x_type == DType::kF16  ? 2e-3
                         : x_type == DType::kBF16 ? 2e-2
                                                  : 0;
    for (const Way& way : ways) {
      EXPECT_TRUE(
          CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "gpu_gemv:" + way.name}, bound))
          << way.name << " " << Name(x_type) << " " << rows << "x" << columns << "x" << depth;
      if (HasFailure()) return;
    }
  }
};

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kI8 = DType::kI8, kU8 = DType::kU8;

TEST_P(GpuGemvTest, EveryFewRows) {
  for (int64_t rows = 1; rows <= GpuGemv::kMostRows; rows += rows < 4 ? 1 : 3) {
    Expect(rows, 19 + rows, 4 * (50 + 7 * rows), kF32, kF32, rows % 2 == 0);
  }
}

TEST_P(GpuGemvTest, Types) {
  Expect(3, 21, 520, kF16, kF16, false);
  Expect(2, 21, 264, kBF16, kBF16, true);
  for (const auto& [x, w] : {std::pair{kI8, kI8}, {kU8, kI8}, {kI8, kU8}, {kU8, kU8}}) {
    Expect(2, 13, 1040, x, w, false);
  }
}

TEST_P(GpuGemvTest, DepthsShortAndLong) {
  Expect(1, 10, 4, kF32, kF32, false);
  Expect(1, 10, 512, kF32, kF32, false, true, true);
  Expect(1, 9, 4096, kF32, kF32, true, false);
  Expect(5, 1, 1028, kF32, kF32, true, false);
}

INSTANTIATE_TEST_SUITE_P(Levels, GpuGemvTest, testing::ValuesIn(GpuLevels()), GpuLevelName);

}  // namespace
}  // namespace tessera
