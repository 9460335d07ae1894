// Products of warpgroups against the interpreter, on the host's stand-in for sm_90a, whose threads run in order and in
// random order, and on the card if it is one: every tiling and type on sizes that no tile divides, more tiles than
// blocks, batches, shares of the depth, epilogues; and what these kernels refuse.
#include "codegen/emit/gpu/wgmma_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/testing/gpu_products.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"

namespace tessera {
namespace {

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kI8 = DType::kI8, kU8 = DType::kU8;
using Core = MatmulTiling::Core;

std::vector<GpuMatmulWay> WgmmaWays(const Graph& graph, const Product& p, const std::string& spec, std::string* why) {
  std::vector<GpuMatmulWay> ways =
      GpuMatmulWays(MatmulProblemOf(graph, graph.nodes[0]), p.a_type, p.b_type, *MakeTarget(spec), why);
  std::erase_if(ways, [](const GpuMatmulWay& way) { return way.tiling.core != Core::kWgmma; });
  return ways;
}

class WgmmaKernelTest : public testing::TestWithParam<std::string> {
 protected:
  // In every `every`-th way; how many ran.
  int Expect(const Product& p, uint64_t seed, int every = 1, const std::string& suffix = "") {
    std::vector<Tensor> inputs;
    const Graph graph = ProductGraph(p, inputs, seed);
    TES_CHECK(graph.nodes.size() == 1 && graph.nodes[0].op == Op::kMatmul, "not one matmul");
    std::string why;
    const std::vector<GpuMatmulWay> ways = WgmmaWays(graph, p, GetParam() + suffix, &why);
    int ran = 0;
    for (size_t k = ways.empty() ? 0 : seed % std::min<size_t>(every, ways.size()); k < ways.size() && !HasFailure();
         k += every, ++ran) {
      const std::string way = ways[k].tiling.Name();
      const double bound = suffix.empty() ? ProductBound(p.a_type) : 4e-3;  // tf32: both operands cut to 10 bits
      EXPECT_TRUE(CompiledAgrees(graph, inputs, GetParam() + suffix,
                                 {.threads = 1, .only_emitter = "gpu_matmul:" + way}, bound))
          << way << " " << Name(p.a_type) << " " << p.a << " " << p.b << (p.constant_b ? " constant" : "");
    }
    EXPECT_GT(ran, 0) << why;
    return ran;
  }
};

TEST_P(WgmmaKernelTest, EveryTilingOfEveryType) {
  EXPECT_GE(Expect({.a = {150, 200}, .b = {200, 300}, .a_type = kF16, .b_type = kF16}, 1), 9);
  Expect({.a = {131, 72}, .b = {72, 267}, .a_type = kF16, .b_type = kF16}, 2, 2);
  Expect({.a = {140, 88}, .b = {88, 150}, .a_type = kBF16, .b_type = kBF16}, 3, 2);
  Expect({.a = {70, 208}, .b = {208, 270}, .a_type = kI8, .b_type = kI8}, 4, 2);
  Expect({.a = {70, 208}, .b = {208, 270}, .a_type = kU8, .b_type = kI8}, 5, 2);
  Expect({.a = {140, 76}, .b = {76, 260}, .a_type = kF32, .b_type = kF32}, 6, 2, "+tf32");
}

TEST_P(WgmmaKernelTest, BlocksWalkSeveralTilesAndStagesComeAroundBetweenThem) {
  // 16 x 10 tiles of 64x64, for 132 blocks; 3, 5 and 13 stages of depth.
  for (const int64_t depth : {40, 160, 320}) {
    const Product p = {.a = {1000, depth}, .b = {depth, 620}, .a_type = kF16, .b_type = kF16};
    std::vector<Tensor> inputs;
    const Graph graph = ProductGraph(p, inputs, 7);
    EXPECT_TRUE(CompiledAgrees(graph, inputs, GetParam(),
                               {.threads = 1, .only_emitter = "gpu_matmul:wgmma 64x64 stages 12"}, ProductBound(kF16)));
  }
}

TEST_P(WgmmaKernelTest, SecondOperandsThatAreNoConstant) {
  Expect({.a = {90, 72}, .b = {140, 72}, .transpose_b = true, .constant_b = false, .a_type = kF16, .b_type = kF16}, 8,
         3);
  Expect({.a = {90, 80}, .b = {140, 80}, .transpose_b = true, .constant_b = false, .a_type = kI8, .b_type = kI8}, 9, 3);
}

TEST_P(WgmmaKernelTest, BatchesBroadcast) {
  // Rows behind a matrix are the next one's.
  for (const bool constant : {false, true}) {
    Expect({.a = {3, 70, 40},
            .b = {3, 90, 40},
            .transpose_b = true,
            .constant_b = constant,
            .a_type = kF16,
            .b_type = kF16},
           10, 4);
    Expect({.a = {2, 1, 70, 40},
            .b = {1, 3, 90, 40},
            .transpose_b = true,
            .constant_b = constant,
            .a_type = kF16,
            .b_type = kF16},
           11, 4);
  }
}

TEST_P(WgmmaKernelTest, SharesOfTheDepth) {
  const Product p = {.a = {70, 1400}, .b = {1400, 68}, .a_type = kF16, .b_type = kF16, .epilogue = true};
  EXPECT_GT(Expect(p, 12, 3), 2);
}

TEST_P(WgmmaKernelTest, Epilogues) {
  Expect({.a = {150, 72}, .b = {72, 264}, .a_type = kF16, .b_type = kF16, .epilogue = true}, 13, 2);
  Expect({.a = {2, 75, 72}, .b = {72, 131}, .a_type = kF16, .b_type = kF16, .epilogue = true}, 14, 3);
  Expect({.a = {150, 72}, .b = {72, 196}, .epilogue = true}, 15, 3, "+tf32");
}

std::vector<std::string> Levels() {
  std::vector<std::string> levels = {"simt:nvptx:sm_90a", "simt:nvptx:sm_90a:random"};
  const StatusOr<Target> card = MakeTarget("cuda");
  if (card.ok() && card->capability == 90) levels.push_back("cuda:sm_90a");
  return levels;
}
INSTANTIATE_TEST_SUITE_P(Levels, WgmmaKernelTest, testing::ValuesIn(Levels()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

TEST(WgmmaWaysTest, WhatTensorMapsAndWarpgroupsDoNotTakeIsLeftToOthers) {
  const auto count = [](const Product& p, const std::string& spec) {
    std::vector<Tensor> inputs;
    std::string why;
    return WgmmaWays(ProductGraph(p, inputs, 1), p, spec, &why).size();
  };
  const Product halves = {.a = {128, 64}, .b = {64, 128}, .a_type = kF16, .b_type = kF16};
  EXPECT_GT(count(halves, "cuda:sm_90a"), 0u);
  EXPECT_EQ(0u, count(halves, "cuda:sm_90")) << "a chip without them";
  Product p = halves;
  p.transpose_a = true;
  p.a = {64, 128};
  EXPECT_EQ(0u, count(p, "cuda:sm_90a")) << "depth across lines";
  p = halves;
  p.a = {128, 77}, p.b = {77, 128};
  EXPECT_EQ(0u, count(p, "cuda:sm_90a")) << "lines of 154 bytes";
  p = halves;
  p.constant_b = false;
  EXPECT_EQ(0u, count(p, "cuda:sm_90a")) << "B as [depth, columns]";
  p = halves;
  p.a_type = p.b_type = kF32;
  EXPECT_EQ(0u, count(p, "cuda:sm_90a")) << "strict f32";
  EXPECT_GT(count(p, "cuda:sm_90a+tf32"), 0u);
  p.a_type = kI8, p.b_type = kU8;
  EXPECT_EQ(0u, count(p, "cuda:sm_90a")) << "bytes without a sign on the right";
}

// What was quickest on an H100 (docs/results/nvptx_matmul.md), or within a few percent of it.
TEST(WgmmaWaysTest, TilesAreThoseThatACardRunsQuickest) {
  std::string why;
  const auto best = [&](int64_t rows, int64_t columns, int64_t depth) {
    const MatmulProblem problem = {.rows = rows, .columns = columns, .depth = depth, .b_constant = true};
    return GpuMatmulWays(problem, kF16, kF16, *MakeTarget("cuda:sm_90a"), &why)[0].tiling;
  };
  EXPECT_EQ("wgmma 128x256 stages 4", best(4096, 4096, 4096).Name());
  EXPECT_EQ("wgmma 128x192 stages 5", best(4096, 768, 768).Name());
  EXPECT_EQ("wgmma 128x192 stages 5", best(4096, 768, 3072).Name());
  EXPECT_EQ("wgmma 64x128 stages 8", best(1024, 1024, 1024).Name());
  EXPECT_NE(Core::kWgmma, best(32, 1024, 1024).core) << "half of a warpgroup's rows";
}

}  // namespace
}  // namespace tessera
