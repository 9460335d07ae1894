// Dense products on GPUs against the interpreter, on the host's stand-in for a card and on the card if there is one:
// every tiling on odd sizes, every type, transposed operands, constants or not, batches, shares of the depth,
// epilogues.
#include "codegen/emit/gpu/gpu_matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/gpu/testing/gpu_products.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "codegen/testing/run_compiled.h"

namespace tessera {
namespace {

class GpuMatmulTest : public testing::TestWithParam<std::string> {
 protected:
  // In the ways whose number is a multiple of `every`; how many ran.
  int Expect(const Product& p, uint64_t seed, int every = 1, const std::string& suffix = "", double tf32 = 2e-3) {
    std::vector<Tensor> inputs;
    const Graph graph = ProductGraph(p, inputs, seed);
    const StatusOr<Target> target = MakeTarget(GetParam() + suffix);
    TES_CHECK(target.ok(), target.status());
    TES_CHECK(graph.nodes.size() == 1 && graph.nodes[0].op == Op::kMatmul, "not one matmul");
    std::string why;
    const std::vector<GpuMatmulWay> ways =
        GpuMatmulWays(MatmulProblemOf(graph, graph.nodes[0]), p.a_type, p.b_type, *target, &why);
    int ran = 0;
    const size_t start = ways.empty() ? 0 : seed % std::min<size_t>(every, ways.size());
    for (size_t k = start; k < ways.size() && !HasFailure(); k += every, ++ran) {
      const std::string way = ways[k].tiling.Name();
      const double bound = suffix.empty() ? ProductBound(p.a_type) : tf32;
      EXPECT_TRUE(CompiledAgrees(graph, inputs, GetParam() + suffix,
                                 {.threads = 1, .only_emitter = "gpu_matmul:" + way}, bound))
          << way << " " << Name(p.a_type) << " " << p.a << p.transpose_a << " " << p.b << p.transpose_b
          << (p.constant_b ? " constant" : "");
    }
    EXPECT_GT(ran, 0) << why;
    return ran;
  }
};

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kI8 = DType::kI8, kU8 = DType::kU8;

TEST_P(GpuMatmulTest, EveryTilingOfEveryType) {
  // Sizes that no tile divides: elements of lines are a multiple of 16 bytes, of 4 bytes, of one element.
  Expect({.a = {140, 72}, .b = {72, 268}}, 1);
  Expect({.a = {131, 70}, .b = {70, 150}, .a_type = kF16, .b_type = kF16}, 2);
  Expect({.a = {67, 72}, .b = {72, 136}, .a_type = kF16, .b_type = kF16}, 3);
  Expect({.a = {70, 141}, .b = {141, 139}, .a_type = kI8, .b_type = kI8}, 4);
}

TEST_P(GpuMatmulTest, TypesAndPairsOfBytes) {
  Expect({.a = {37, 45}, .b = {45, 50}, .a_type = kBF16, .b_type = kBF16}, 5, 2);
  for (const auto& [a, b] : {std::pair{kU8, kI8}, {kI8, kU8}, {kU8, kU8}}) {
    Expect({.a = {33, 64}, .b = {64, 40}, .a_type = a, .b_type = b}, 6, 3);
  }
}

TEST_P(GpuMatmulTest, OperandsInAnyOrderConstantOrNot) {
  for (int kind = 0; kind < 8; ++kind) {
    const bool ta = kind & 1, tb = kind & 2, constant = kind & 4;
    const int64_t m = 45, n = 76, k = 53;
    const Shape a = ta ? Shape{k, m} : Shape{m, k}, b = tb ? Shape{n, k} : Shape{k, n};
    Expect({a, b, ta, tb, constant, kF32, kF32}, static_cast<uint64_t>(kind), 3);
    Expect({a, b, ta, tb, constant, kF16, kF16}, static_cast<uint64_t>(kind), 3);
    if (tb && !ta) Expect({a, b, ta, tb, constant, kI8, kI8}, static_cast<uint64_t>(kind), 3);
  }
}

TEST_P(GpuMatmulTest, BatchesBroadcast) {
  const std::pair<Shape, Shape> batches[] = {{{3}, {3}}, {{5}, {}}, {{}, {4}}, {{2, 3}, {3}}, {{2, 1}, {1, 3}}};
  for (const auto& [left, right] : batches) {
    for (const bool constant : {false, true}) {
      std::vector<int64_t> a = left.dims(), b = right.dims();
      a.insert(a.end(), {18, 20});
      b.insert(b.end(), {20, 37});
      Expect({.a = Shape(a), .b = Shape(b), .constant_b = constant}, 7, 4);
      Expect({.a = Shape(a), .b = Shape(b), .constant_b = constant, .a_type = kF16, .b_type = kF16}, 8, 4);
    }
  }
}

TEST_P(GpuMatmulTest, SharesOfTheDepth) {
  // Long depths: shares are tried in which the last block has less than the others.
  const int ran = Expect({.a = {20, 1100}, .b = {1100, 36}, .epilogue = true}, 9, 2);
  EXPECT_GE(ran, 3);
  Expect({.a = {20, 2100}, .b = {2100, 35}, .a_type = kF16, .b_type = kF16}, 10, 2);
}

TEST_P(GpuMatmulTest, Epilogues) {
  Expect({.a = {50, 40}, .b = {40, 64}, .epilogue = true}, 11, 2);
  Expect({.a = {2, 25, 40}, .b = {40, 61}, .epilogue = true}, 12, 2);
  Expect({.a = {50, 40}, .b = {40, 64}, .a_type = kF16, .b_type = kF16, .epilogue = true}, 13, 2);
}

TEST_P(GpuMatmulTest, EmptyDepthGivesZeros) { Expect({.a = {5, 0}, .b = {0, 7}}, 14, 3); }

TEST_P(GpuMatmulTest, Tf32WhereItIsAllowed) {
  Expect({.a = {70, 90}, .b = {90, 100}}, 15, 2, "+tf32");
  Expect({.a = {70, 90}, .b = {100, 90}, .transpose_b = true, .constant_b = false}, 16, 4, "+tf32");
}

TEST_P(GpuMatmulTest, Tf32OperandsAreRoundedAndNotCut) {
  // Where all are positive, what is cut off adds up: 3.5e-4 of the sums for each operand. Rounding errors cancel.
  for (const bool constant : {false, true}) {
    Expect({.a = {70, 200}, .b = {100, 200}, .transpose_b = true, .constant_b = constant, .least = 1}, 17, 5, "+tf32",
           1.2e-4);
  }
}

// What f32 sums lose: 2^26 + 1 - 2^26, products whose last bits cancel, subnormals; and what is no number stays none.
TEST_P(GpuMatmulTest, SumsOfDoublesLoseNothing) {
  const StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  std::vector<Tensor> inputs;
  Graph graph = ProductGraph({.a = {40, 16}, .b = {16, 40}, .constant_b = false}, inputs, 18);
  std::string why;
  const std::vector<GpuMatmulWay> ways =
      GpuMatmulWays(MatmulProblemOf(graph, graph.nodes[0]), kF32, kF32, *target, &why);
  auto a = inputs[0].mutable_data<float>(), b = inputs[1].mutable_data<float>();
  std::fill(a.begin(), a.end(), 0.0f);
  std::fill(b.begin(), b.end(), 1.0f);
  const float odd = 1 + 0x1p-23f;
  const float rows[][3] = {{0x1p26f, 1, -0x1p26f}, {odd, -1, 0x1p-30f}, {0x1p-140f, 0x1p-149f, 0}};
  for (size_t r = 0; r < 3; ++r) std::copy(rows[r], rows[r] + 3, a.begin() + static_cast<std::ptrdiff_t>(16 * (3 * r)));
  a[16 * 20 + 5] = std::numeric_limits<float>::infinity();
  a[16 * 21 + 6] = std::numeric_limits<float>::quiet_NaN();
  int ran = 0;
  for (const GpuMatmulWay& way : ways) {
    if (way.tiling.core != MatmulTiling::Core::kMmaF64 || way.tiling.splits > 1) continue;
    const StatusOr<std::vector<Tensor>> results =
        RunCompiled(graph, inputs, GetParam(), {.threads = 1, .only_emitter = "gpu_matmul:" + way.tiling.Name()});
    ASSERT_TRUE(results.ok()) << results.status();
    const auto y = (*results)[0].data<float>();
    const auto row = [&](int64_t r) { return y[static_cast<size_t>(r * 40 + 7)]; };
    EXPECT_EQ(1.0f, row(0)) << way.tiling.Name();
    EXPECT_EQ(0x1p-23f + 0x1p-30f, row(3)) << way.tiling.Name();
    EXPECT_EQ(0x1p-140f + 0x1p-149f, row(6)) << way.tiling.Name();
    EXPECT_TRUE(std::isinf(row(20)) && std::isnan(row(21))) << way.tiling.Name();
    ++ran;
  }
  EXPECT_EQ(GpuModel(*target).mma_f64_per_clock > 0, ran > 0);
}

TEST(RoundedToTf32Test, ToNearestAndHalvesAwayFromZero) {
  const auto rounded = [](uint32_t bits) {
    Tensor values(kF32, {1});
    values.mutable_data<float>()[0] = std::bit_cast<float>(bits);
    return std::bit_cast<uint32_t>(RoundedToTf32(std::move(values)).data<float>()[0]);
  };
  EXPECT_EQ(0x3f802000u, rounded(0x3f801000));
  EXPECT_EQ(0xbf802000u, rounded(0xbf801000));
  EXPECT_EQ(0x3f800000u, rounded(0x3f800fff));
  EXPECT_EQ(0x40000000u, rounded(0x3fffffff));
  EXPECT_EQ(0x7f800000u, rounded(0x7f800000)) << "infinity";
  EXPECT_EQ(0x7fc00001u, rounded(0x7fc00001)) << "no number";
  EXPECT_EQ(0x00002000u, rounded(0x00001000)) << "subnormal";
}

INSTANTIATE_TEST_SUITE_P(Levels, GpuMatmulTest, testing::ValuesIn(GpuLevels("")), GpuLevelName);

// Turing: no cp.async, products of half the depth (f16) or of half the rows too (bytes).
class OldGpuMatmulTest : public GpuMatmulTest {};
TEST_P(OldGpuMatmulTest, HalvesAndBytes) {
  Expect({.a = {131, 70}, .b = {70, 150}, .a_type = kF16, .b_type = kF16, .epilogue = true}, 18, 2);
  Expect({.a = {67, 72}, .b = {136, 72}, .transpose_b = true, .constant_b = false, .a_type = kF16, .b_type = kF16}, 19,
         3);
  Expect({.a = {72, 67}, .b = {72, 136}, .transpose_a = true, .constant_b = false, .a_type = kF16, .b_type = kF16}, 20,
         2);
  for (const auto& [a, b] : {std::pair{kI8, kI8}, {kU8, kI8}, {kI8, kU8}, {kU8, kU8}}) {
    Expect({.a = {70, 141}, .b = {141, 139}, .a_type = a, .b_type = b}, 21, 3);
  }
}
INSTANTIATE_TEST_SUITE_P(Turing, OldGpuMatmulTest, testing::Values("simt:nvptx:sm_75"), GpuLevelName);

// AMD's chips: each its own products, or none. Tilings, kinds of operands and types are spread over the chips.
class AmdGpuMatmulTest : public GpuMatmulTest {
 protected:
  // A number that tells chips apart.
  uint64_t chip() const { return GetParam().size() + static_cast<uint64_t>(GetParam().back()); }
  // Without matrix products, only f32 may lie in any order.
  bool multiplies() const { return GetParam() != "simt:amdgpu:gfx906"; }
};
TEST_P(AmdGpuMatmulTest, EveryType) {
  for (DType type : {kF32, kF16, kBF16}) {
    Expect({.a = {131, 70}, .b = {70, 150}, .a_type = type, .b_type = type, .epilogue = true}, chip(), 9);
  }
  for (const auto& [a, b] : {std::pair{kI8, kI8}, {kU8, kI8}, {kI8, kU8}, {kU8, kU8}}) {
    Expect({.a = {70, 141}, .b = {141, 139}, .a_type = a, .b_type = b}, chip(), 13);
  }
}
TEST_P(AmdGpuMatmulTest, OperandsInAnyOrder) {
  for (int kind = 0; kind < 4; ++kind) {
    const bool ta = kind & 1, tb = kind & 2;
    const int64_t m = 45, n = 76, k = 53;
    const Shape a = ta ? Shape{k, m} : Shape{m, k}, b = tb ? Shape{n, k} : Shape{k, n};
    const bool lines = tb && !ta;
    Expect({a, b, ta, tb, false, kF32, kF32}, chip() + static_cast<uint64_t>(kind), 15);
    if (lines || multiplies()) Expect({a, b, ta, tb, false, kF16, kF16}, chip() + static_cast<uint64_t>(kind), 15);
  }
  // Lines of bytes across the depth are as long as the largest tiles.
  if (multiplies()) Expect({.a = {130, 70}, .b = {70, 150}, .constant_b = false, .a_type = kU8, .b_type = kI8}, 15, 3);
}
TEST_P(AmdGpuMatmulTest, BatchesSharesOfTheDepthAndNoDepth) {
  Expect({.a = {2, 1, 18, 20}, .b = {3, 20, 37}, .constant_b = !multiplies(), .a_type = kF16, .b_type = kF16}, chip(),
         7);
  Expect({.a = {20, 1100}, .b = {1100, 36}, .epilogue = true}, chip(), 15);
  Expect({.a = {20, 1100}, .b = {1100, 36}, .a_type = kU8, .b_type = kU8}, chip(), 15);
  Expect({.a = {5, 0}, .b = {0, 7}}, 14, 15);
}
INSTANTIATE_TEST_SUITE_P(Chips, AmdGpuMatmulTest,
                         testing::Values("simt:amdgpu:gfx906", "simt:amdgpu:gfx908", "simt:amdgpu:gfx90a",
                                         "simt:amdgpu:gfx942", "simt:amdgpu:gfx1100"),
                         GpuLevelName);

TEST(GpuMatmulWaysTest, AmdChipsMultiplyWithWhatTheyHave) {
  using Core = MatmulTiling::Core;
  const auto core = [](const char* chip, DType type) {
    const MatmulProblem problem = {.rows = 1024, .columns = 1024, .depth = 1024, .b_constant = true};
    std::string why;
    return GpuMatmulWays(problem, type, type, *MakeTarget(chip), &why)[0].tiling.core;
  };
  for (DType type : {kF32, kF16, kBF16, kI8, kU8}) {
    EXPECT_EQ(Core::kFma, core("hip:gfx906", type)) << Name(type);
    for (const char* chip : {"hip:gfx908", "hip:gfx90a", "hip:gfx942"}) {
      EXPECT_EQ(Core::kMfma, core(chip, type)) << chip << " " << Name(type);
    }
    EXPECT_EQ(type == kF32 ? Core::kFma : Core::kWmma, core("hip:gfx1100", type)) << Name(type);
  }
}

// f32 means f32: no way of a strict target rounds operands. What multiplies doubles quickly may.
TEST(GpuMatmulWaysTest, StrictF32IsNeverRounded) {
  const MatmulProblem problem = {.rows = 256, .columns = 256, .depth = 256, .b_constant = true};
  std::string why;
  for (const char* chip : {"cuda:sm_75", "cuda:sm_80", "cuda:sm_89", "cuda:sm_90", "cuda:sm_90a"}) {
    std::set<MatmulTiling::Core> expected = {MatmulTiling::Core::kFma};
    if (GpuModel(*MakeTarget(chip)).mma_f64_per_clock > 0) expected.insert(MatmulTiling::Core::kMmaF64);
    std::set<MatmulTiling::Core> cores;
    for (const GpuMatmulWay& way : GpuMatmulWays(problem, kF32, kF32, *MakeTarget(chip), &why)) {
      cores.insert(way.tiling.core);
    }
    EXPECT_EQ(expected, cores) << chip;
  }
  const std::vector<GpuMatmulWay> relaxed = GpuMatmulWays(problem, kF32, kF32, *MakeTarget("cuda:sm_90+tf32"), &why);
  EXPECT_EQ(MatmulTiling::Core::kMma, relaxed[0].tiling.core);
}

TEST(GpuMatmulWaysTest, NamesAreDistinctAndTypesAreRefusedWithAReason) {
  const MatmulProblem problem = {.rows = 300, .columns = 500, .depth = 4000, .b_constant = true};
  for (const char* chip : {"cuda:sm_75", "cuda:sm_80", "cuda:sm_90"}) {
    std::string why;
    std::set<std::string> names;
    const std::vector<GpuMatmulWay> ways = GpuMatmulWays(problem, kF32, kF32, *MakeTarget(chip), &why);
    for (const GpuMatmulWay& way : ways) names.insert(way.tiling.Name());
    EXPECT_EQ(ways.size(), names.size());
    EXPECT_GT(ways.size(), 5u);
    EXPECT_TRUE(GpuMatmulWays(problem, DType::kF64, DType::kF64, *MakeTarget(chip), &why).empty());
    EXPECT_NE(std::string::npos, why.find("f64")) << why;
  }
  std::string why;
  EXPECT_TRUE(GpuMatmulWays(problem, kBF16, kBF16, *MakeTarget("cuda:sm_75"), &why).empty()) << "no bf16 there";
}

TEST(GpuMatmulWaysTest, LargeProductsTakeLargeTilesAndFewBlocksShareTheDepth) {
  std::string why;
  const Target h100 = *MakeTarget("cuda:sm_90");
  const auto best = [&](int64_t rows, int64_t columns, int64_t depth) {
    const MatmulProblem problem = {.rows = rows, .columns = columns, .depth = depth, .b_constant = true};
    return GpuMatmulWays(problem, kF32, kF32, h100, &why)[0].tiling;
  };
  EXPECT_GE(best(4096, 4096, 4096).tile_m * best(4096, 4096, 4096).tile_n, 64 * 128);
  EXPECT_EQ(1, best(4096, 4096, 4096).splits);
  EXPECT_GT(best(64, 64, 8192).splits, 1);
}

// Lines of 777 elements come in parts, those of 784 in whole pieces: estimates know.
TEST(GpuMatmulWaysTest, OddDepthsCostTheirCopies) {
  const Target h100 = *MakeTarget("cuda:sm_90");
  for (DType type : {kF32, kF16, kI8}) {
    const auto us = [&](int64_t depth) {
      const MatmulProblem problem = {.rows = 1000, .columns = 333, .depth = depth, .b_constant = true};
      std::string why;
      double least = 1e9;
      for (const GpuMatmulWay& way : GpuMatmulWays(problem, type, type, h100, &why)) {
        if (way.tiling.tile_m == 64 && way.tiling.tile_n == 64) least = std::min(least, way.us);
      }
      return least;
    };
    EXPECT_GT(us(777), 1.03 * us(784)) << Name(type);
  }
}

}  // namespace
}  // namespace tessera
