// Products with weights of blocks on GPUs against the interpreter: every way on every type, sizes that tiles do not
// divide, columns of tiles that keep nothing, a rest beside the tiles, epilogues, 1x1 convolutions.
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

struct Options {
  DType x = DType::kF32, w = DType::kF32;
  int64_t block = 64;
  double beside = 0;  // of the elements outside blocks, kept
  bool transposed = false, epilogue = false;
};

class GpuBlocksTest : public testing::TestWithParam<std::string> {
 protected:
  // `rows` of W, the result's features.
  void Expect(int64_t rows, int64_t depth, int64_t columns, double density, const Options& o) {
    Random random(static_cast<uint64_t>(rows * 1000 + columns));
    GraphBuilder builder("blocks");
    std::vector<Tensor> inputs = {RandomOperand(random, o.x, {columns, depth})};
    const ValueId x = builder.Input("x", o.x, {columns, depth});
    const Shape shape = o.transposed ? Shape{rows, depth} : Shape{depth, rows};
    std::vector<uint8_t> blocks, kept;
    const int64_t across = (depth + o.block - 1) / o.block;
    for (int64_t b = 0; b < across * ((rows + o.block - 1) / o.block); ++b) {
      blocks.push_back(random.Uniform(0, 1) < density ? 1 : 0);
    }
    for (int64_t at = 0; at < rows * depth; ++at) {
      const int64_t row = o.transposed ? at / depth : at % rows, k = o.transposed ? at % depth : at / rows;
      const bool in_block = blocks[static_cast<size_t>(row / o.block * across + k / o.block)] != 0;
      kept.push_back(in_block || random.Uniform(0, 1) < o.beside ? 1 : 0);
    }
    const Attribute tesa = Attribute::FromKept(shape, kept, TypeInfo(o.w).bits);
    const ValueId w = builder.Constant("w", tesa.ApplyTo(RandomOperand(random, o.w, shape)));
    builder.SetTesa(w, tesa);
    ValueId y = builder.Matmul(x, w, false, o.transposed);
    if (o.epilogue) {
      inputs.push_back(RandomOperand(random, o.x, {rows}));
      y = builder.Relu(builder.Add(y, builder.Input("bias", o.x, {rows})));
    }
    builder.Output(y);
    StatusOr<Graph> graph = std::move(builder).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    if (o.epilogue) {
      ASSERT_TRUE(OptimizeForHost(*graph).ok());
    }
    const StatusOr<Target> target = MakeTarget(GetParam());
    ASSERT_TRUE(target.ok()) << target.status();
    std::string why;
    const std::vector<Way> ways = WaysOf(EmitterNamed("gpu_blocks"), *graph, graph->nodes[0], *target, &why);
    ASSERT_FALSE(ways.empty()) << why << " " << rows << "x" << depth << " " << Name(o.x);
    for (const Way& way : ways) {
      rests_ += way.name.find("scattered") != std::string::npos ? 1 : 0;
      EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam(), {.threads = 1, .only_emitter = "gpu_blocks:" + way.name},
                                 ProductBound(o.x)))
          << way.name << " " << Name(o.x) << " " << rows << "x" << depth << "x" << columns;
      if (HasFailure()) return;
    }
  }
  int rests_ = 0;  // ways with a scattered rest, so far
};

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kI8 = DType::kI8, kU8 = DType::kU8;

TEST_P(GpuBlocksTest, Types) {
  Expect(192, 256, 64, 0.3, {.x = kF16, .w = kF16});
  Expect(128, 192, 64, 0.3, {.x = kBF16, .w = kBF16, .transposed = true});
  Expect(128, 128, 64, 0.3, {.block = 32});
  Expect(128, 512, 64, 0.3, {.x = kU8, .w = kI8});
  Expect(128, 512, 64, 0.3, {.x = kI8, .w = kI8, .transposed = true});
}

TEST_P(GpuBlocksTest, OddSizes) {
  Expect(100, 333, 37, 0.3, {.block = 32, .epilogue = true});
  Expect(77, 203, 65, 0.3, {.x = kF16, .w = kF16, .epilogue = true});
  Expect(130, 129, 33, 0.2, {.x = kF16, .w = kF16, .block = 16, .transposed = true});
}

TEST_P(GpuBlocksTest, NothingKept) { Expect(128, 128, 64, 0, {.x = kF16, .w = kF16}); }

TEST_P(GpuBlocksTest, ARestBesideTheTiles) {
  Expect(256, 512, 64, 0.2, {.beside = 0.002, .epilogue = true});
  Expect(122, 510, 250, 0.2, {.x = kF16, .w = kF16, .beside = 0.002});
  Expect(128, 512, 256, 0.2, {.x = kU8, .w = kI8, .beside = 0.002});
  EXPECT_GT(rests_, 0);
}

// Small layers of 16x16 blocks in f32, as an H100 took them (docs/results/nvptx_never_slower.md): times that are
// expected to be shorter than they are make a layer slower than dense.
TEST(GpuBlocksEstimate, SmallBlocksCostTheirLists) {
  struct Measured {
    int64_t columns, depth, rows;
    double kept, us;
    const char* way = "blocks by fma 16x16 1x1x8 stages 3";
    double within = 0.12;
  };
  const char* kDoubles = "blocks by mma_f64 32x32 1x1x2 stages 4 twice";
  StatusOr<Target> target = MakeTarget("cuda:sm_90a");
  ASSERT_TRUE(target.ok()) << target.status();
  target->whole_space = true;  // others are expected to be quicker
  for (const Measured& m : {Measured{44, 1000, 370, 0.1, 5.42},
                            {14, 336, 3520, 0.3, 5.89},
                            {228, 232, 1044, 0.3, 9.83},
                            {129, 444, 543, 0.1, 8.15, kDoubles, 0.2}}) {
    Random random(1);
    const Shape shape = {m.rows, m.depth};
    const int64_t across = (m.depth + 15) / 16;
    std::vector<uint8_t> blocks, kept;
    for (int64_t b = 0; b < across * ((m.rows + 15) / 16); ++b) blocks.push_back(random.Chance(m.kept) ? 1 : 0);
    for (int64_t at = 0; at < shape.num_elements(); ++at) {
      kept.push_back(blocks[static_cast<size_t>(at / m.depth / 16 * across + at % m.depth / 16)]);
    }
    const Attribute tesa = Attribute::FromKept(shape, kept, 32);
    GraphBuilder builder("blocks");
    const ValueId x = builder.Input("x", kF32, {m.columns, m.depth});
    const ValueId w = builder.Constant("w", tesa.ApplyTo(RandomOperand(random, kF32, shape)));
    builder.SetTesa(w, tesa);
    builder.Output(builder.Matmul(x, w, false, true));
    const StatusOr<Graph> graph = std::move(builder).Build();
    ASSERT_TRUE(graph.ok()) << graph.status();
    std::string why;
    double expected = 0;
    for (const Way& way : WaysOf(EmitterNamed("gpu_blocks"), *graph, graph->nodes[0], *target, &why)) {
      if (way.name == m.way) expected = way.us;
    }
    EXPECT_NEAR(expected, m.us, m.within * m.us) << m.columns << "x" << m.depth << "x" << m.rows;
  }
}

// With warpgroups as well.
std::vector<std::string> Levels() {
  std::vector<std::string> levels = GpuLevels("gfx1100");
  levels.push_back("simt:nvptx:sm_90a");
  return levels;
}
INSTANTIATE_TEST_SUITE_P(Levels, GpuBlocksTest, testing::ValuesIn(Levels()), GpuLevelName);

}  // namespace
}  // namespace tessera
