// Groups of block rows, their schedule and tables on the host; and products in every size of group against the
// interpreter, on the host's stand-in for sm_90a: every type, sizes that no tile divides, rows that keep nothing, more
// tiles than blocks, gaps longer than the rings, a rest beside the blocks, epilogues.
#include "codegen/emit/gpu/block_groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "codegen/emit/gpu/testing/gpu_levels.h"
#include "codegen/emit/gpu/testing/gpu_products.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "graph/passes/pipeline.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16, kI8 = DType::kI8;

BlockPattern RandomPattern(int64_t rows, int64_t stages, double density, uint64_t seed) {
  Random random(seed);
  BlockPattern pattern = {.rows = rows, .stages = stages};
  for (int64_t at = 0; at < rows * stages; ++at) pattern.kept.push_back(random.Uniform(0, 1) < density);
  return pattern;
}

int64_t Steps(const std::vector<BlockGroup>& groups) {
  int64_t steps = 0;
  for (const BlockGroup& g : groups) steps += static_cast<int64_t>(g.steps.size());
  return steps;
}

TEST(BlockGroupsTest, EachRowIsInOneGroupWithExactlyItsBlocks) {
  for (const double density : {0.0, 0.03, 0.3, 1.0}) {
    for (const int size : {1, 2, 3, 4}) {
      const BlockPattern pattern = RandomPattern(29, 70, density, 5);
      std::set<int64_t> seen;
      for (const BlockGroup& g : GroupBlocks(pattern, size)) {
        ASSERT_LE(g.rows.size(), static_cast<size_t>(size));
        ASSERT_TRUE(std::is_sorted(g.steps.begin(), g.steps.end()));
        for (size_t k = 0; k < g.rows.size(); ++k) {
          EXPECT_TRUE(seen.insert(g.rows[k]).second);
          int64_t own = 0, kept = 0;
          for (int64_t s = 0; s < pattern.stages; ++s) own += pattern.Keeps(g.rows[k], s) ? 1 : 0;
          for (size_t step = 0; step < g.steps.size(); ++step) {
            kept += g.kept[k][step] ? 1 : 0;
            if (own > 0) {
              EXPECT_EQ(g.kept[k][step], pattern.Keeps(g.rows[k], g.steps[step]));
            }
          }
          EXPECT_EQ(kept, std::max<int64_t>(1, own));
        }
      }
      EXPECT_EQ(seen.size(), 29u);
    }
  }
}

TEST(BlockGroupsTest, RowsThatKeepTheSameBlocksComeTogether) {
  // Four kinds of rows, mixed up.
  BlockPattern pattern = {.rows = 16, .stages = 20, .kept = std::vector<bool>(16 * 20)};
  for (int64_t row = 0; row < 16; ++row) {
    for (int64_t s = 0; s < 5; ++s) pattern.kept[static_cast<size_t>(row * 20 + row % 4 * 5 + s)] = true;
  }
  EXPECT_EQ(Steps(GroupBlocks(pattern, 4)), 20);
  const BlockPattern random = RandomPattern(64, 64, 0.108, 1);
  int64_t in_order = 0;
  for (int64_t row = 0; row < 64; row += 4) {
    for (int64_t s = 0; s < 64; ++s) {
      bool any = false;
      for (int64_t k = row; k < row + 4; ++k) any = any || random.Keeps(k, s);
      in_order += any ? 1 : 0;
    }
  }
  EXPECT_LT(static_cast<double>(Steps(GroupBlocks(random, 4))), 0.9 * static_cast<double>(in_order));
}

TEST(BlockGroupsTest, SchedulesHoldEachTileOnceAndAreEven) {
  for (const int64_t token_tiles : {1, 3, 16, 40}) {
    const std::vector<double> cost = {9, 2, 5, 7, 7, 3, 8};
    const std::vector<std::vector<int64_t>> tiles = ScheduleTiles(cost, token_tiles, 13);
    std::set<int64_t> seen;
    double most = 0, all = 0;
    for (const auto& of_block : tiles) {
      double load = 0;
      EXPECT_FALSE(of_block.empty());
      for (int64_t tile : of_block) {
        EXPECT_TRUE(seen.insert(tile).second);
        load += cost[static_cast<size_t>(tile % 7)];
      }
      most = std::max(most, load), all += load;
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), 7 * token_tiles);
    EXPECT_LE(most, all / static_cast<double>(tiles.size()) + 9);
  }
}

struct Options {
  DType type = kF16;
  bool epilogue = false;
  double beside = 0;  // of the elements outside blocks, kept
  std::string only;   // of the ways
};

class GroupedProductTest : public testing::TestWithParam<std::string> {
 protected:
  // How many ways ran.
  int Expect(int64_t rows, int64_t depth, int64_t tokens, double density, const Options& o) {
    Random random(static_cast<uint64_t>(rows * 1000 + tokens));
    GraphBuilder builder("blocks");
    std::vector<Tensor> inputs = {RandomOperand(random, o.type, {tokens, depth})};
    const ValueId x = builder.Input("x", o.type, {tokens, depth});
    const int64_t across = (depth + 63) / 64;
    const BlockPattern blocks = RandomPattern((rows + 63) / 64, across, density, 3);
    std::vector<uint8_t> kept;
    for (int64_t at = 0; at < rows * depth; ++at) {
      const bool in_block = blocks.Keeps(at % rows / 64, at / rows / 64);
      kept.push_back(in_block || random.Uniform(0, 1) < o.beside ? 1 : 0);
    }
    const Shape shape = {depth, rows};
    const Attribute tesa = Attribute::FromKept(shape, kept, TypeInfo(o.type).bits);
    const ValueId w = builder.Constant("w", tesa.ApplyTo(RandomOperand(random, o.type, shape)));
    builder.SetTesa(w, tesa);
    ValueId y = builder.Matmul(x, w, false, false);
    if (o.epilogue) {
      inputs.push_back(RandomOperand(random, o.type, {rows}));
      y = builder.Relu(builder.Add(y, builder.Input("bias", o.type, {rows})));
    }
    builder.Output(y);
    StatusOr<Graph> graph = std::move(builder).Build();
    TES_CHECK(graph.ok(), graph.status());
    TES_CHECK(!o.epilogue || OptimizeForHost(*graph).ok(), "not optimized");
    StatusOr<Target> target = MakeTarget(GetParam() + (o.type == kF32 ? "+tf32" : ""));
    TES_CHECK(target.ok(), target.status());
    target->whole_space = true;
    std::string why;
    int ran = 0;
    for (const Way& way : WaysOf(EmitterNamed("gpu_blocks"), *graph, graph->nodes[0], *target, &why)) {
      if (way.name.find("64 by ") == std::string::npos || way.name.find(o.only) == std::string::npos) continue;
      EXPECT_TRUE(CompiledAgrees(*graph, inputs, GetParam() + (o.type == kF32 ? "+tf32" : ""),
                                 {.threads = 1, .only_emitter = "gpu_blocks:" + way.name},
                                 o.type == kF32 ? 4e-3 : ProductBound(o.type)))
          << way.name << " " << Name(o.type) << " " << rows << "x" << depth << "x" << tokens;
      if (HasFailure()) break;
      ++ran;
    }
    return ran;
  }
};

TEST_P(GroupedProductTest, Types) {
  EXPECT_GE(Expect(320, 256, 280, 0.3, {}), 3);
  EXPECT_GE(Expect(200, 192, 140, 0.4, {.type = kBF16, .only = "128x64"}), 2);
  EXPECT_GE(Expect(200, 640, 140, 0.2, {.type = kI8, .only = "128x64"}), 2);
  EXPECT_GE(Expect(200, 200, 200, 0.4, {.type = kF32, .only = "256x64"}), 1);
}

TEST_P(GroupedProductTest, OddSizes) {
  EXPECT_GE(Expect(333, 776, 1000, 0.2, {.epilogue = true, .only = "by 3"}), 1);
  EXPECT_GE(Expect(77, 200, 33, 0.3, {.epilogue = true}), 2);
  EXPECT_GE(Expect(130, 136, 257, 0.3, {.only = "256"}), 1);
}

TEST_P(GroupedProductTest, RowsThatKeepNothing) {
  EXPECT_GE(Expect(320, 128, 128, 0, {.only = "128x64"}), 2);
  EXPECT_GE(Expect(320, 640, 128, 0.02, {.only = "128x64"}), 2);
}

TEST_P(GroupedProductTest, GapsLongerThanTheRings) {
  // One row keeps all depths, the others nearly none.
  EXPECT_GE(Expect(256, 2048, 128, 0.15, {.only = "128x64"}), 2);
}

TEST_P(GroupedProductTest, MoreTilesThanBlocks) {
  EXPECT_GE(Expect(640, 128, 128 * 70, 0.5, {.only = "128x64 by 2"}), 1);
}

TEST_P(GroupedProductTest, ARestBesideTheBlocks) {
  EXPECT_GE(Expect(256, 512, 256, 0.3, {.epilogue = true, .beside = 0.002, .only = "scattered"}), 1);
}

INSTANTIATE_TEST_SUITE_P(Orders, GroupedProductTest,
                         testing::Values("simt:nvptx:sm_90a", "simt:nvptx:sm_90a:reverse", "simt:nvptx:sm_90a:random"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), ':', '_');
                           return name;
                         });

}  // namespace
}  // namespace tessera
