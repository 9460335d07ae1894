// Tiles: every row in exactly one, rows of a tile keep its columns, heights as even as they can be. That the kernel
// computes what tiles say is tested by tests/conformance/pattern_test.cc.
#include "codegen/emit/host/sparse_tiles.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/status.h"
#include "tesa/pattern.h"
#include "tesa/random.h"

namespace tessera {
namespace {

ScatteredPattern Make(const Bitmap& kept, int64_t rows, int64_t depth) {
  return ScatteredPattern::Make(kept, rows, depth, depth, 1);
}

TEST(SparseTilesTest, EveryRowOnceWithItsColumns) {
  Random random(1);
  for (int repeat = 0; repeat < 60; ++repeat) {
    const int64_t rows = random.Int(1, 200), depth = random.Int(1, 40);
    const Pattern patterns[] = {Pattern::Block(int64_t{1} << random.Int(0, 5), int64_t{1} << random.Int(0, 5)),
                                Pattern::Slices(0), Pattern::Slices(1), Pattern::Scattered()};
    const ScatteredPattern pattern =
        Make(RandomMask(random, {rows, depth}, patterns[random.Int(0, 3)], 0.4), rows, depth);
    const ScatteredBlocks blocks = {.rows = rows, .block_rows = 16 * random.Int(1, 8)};
    const int max_rows = static_cast<int>(random.Int(1, 16));
    SCOPED_TRACE(internal::Join("repeat ", repeat, ": ", rows, "x", depth, ", at most ", max_rows));
    std::set<int64_t> seen;
    std::map<std::pair<int64_t, std::vector<int32_t>>, std::set<size_t>> heights;
    int64_t block = 0;
    size_t height = 0;
    for (const SparseTile& tile : CutTiles(pattern, blocks, max_rows)) {
      EXPECT_GE(tile.block, block) << "by blocks";
      if (tile.block > block) height = 0;
      EXPECT_GE(tile.rows.size(), height) << "then by height";
      block = tile.block, height = tile.rows.size();
      EXPECT_LE(static_cast<int>(tile.rows.size()), max_rows);
      heights[{tile.block, tile.columns}].insert(tile.rows.size());
      for (int32_t r : tile.rows) {
        EXPECT_LT(r, blocks.rows_of(tile.block));
        const int64_t row = blocks.first_row(tile.block) + r;
        EXPECT_TRUE(seen.insert(row).second) << "row " << row << " twice";
        EXPECT_EQ(tile.columns, std::vector<int32_t>(pattern.columns.begin() + pattern.begin[row],
                                                     pattern.columns.begin() + pattern.begin[row + 1]));
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), rows);
    for (const auto& [key, sizes] : heights) EXPECT_LE(*sizes.rbegin() - *sizes.begin(), 1);
  }
}

TEST(SparseTilesTest, RowsApartShareATile) {
  // Rows 1, 4 and 6 keep columns 2 and 5; the others nothing.
  Bitmap kept(8 * 7);
  for (int64_t row : {1, 4, 6}) {
    kept.Set(row * 7 + 2, true);
    kept.Set(row * 7 + 5, true);
  }
  const std::vector<SparseTile> tiles = CutTiles(Make(kept, 8, 7), {.rows = 8, .block_rows = 16}, 16);
  ASSERT_EQ(tiles.size(), 2);
  EXPECT_EQ(tiles[0].rows, (std::vector<int32_t>{1, 4, 6}));
  EXPECT_EQ(tiles[0].columns, (std::vector<int32_t>{2, 5}));
  EXPECT_EQ(tiles[1].rows.size(), 5);
  EXPECT_TRUE(tiles[1].columns.empty());
}

TEST(SparseTilesTest, TilesFitTheRegisters) {
  const auto most = [](const char* level, SparseUnit unit) {
    SparseProblem problem;
    problem.unit = unit;
    const StatusOr<Target> target = MakeTarget(level);
    TES_CHECK(target.ok(), target.status());
    return MaxTileRows(problem, *target);
  };
  EXPECT_EQ(most("host:x86-64-v4", SparseUnit::kF32), 16);
  EXPECT_EQ(most("host:x86-64-v3", SparseUnit::kF32), 4);
  EXPECT_EQ(most("host:x86-64-v3", SparseUnit::kInt16x2), 4);
  EXPECT_EQ(most("host:x86-64", SparseUnit::kF32), 2);
}

}  // namespace
}  // namespace tessera
