// The order of streams, straight and rolled: every kept unit once, in groups that fit the registers; and what a run is.
// That the code computes what the order says is tested by sparse_matmul_test.cc.
#include "codegen/emit/scattered_stream.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>

#include "base/status.h"
#include "tesa/pattern.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct FoundRun {
  int64_t first_row, k, columns;
  uint32_t rows;
  friend bool operator==(const FoundRun&, const FoundRun&) = default;
};

// Walks, and fails where the walk breaks what StreamVisitor promises. Gives the runs.
std::vector<FoundRun> Walk(const ScatteredPattern& pattern, const ScatteredBlocks& blocks) {
  std::vector<FoundRun> runs;
  std::set<std::pair<int64_t, int64_t>> seen;
  int64_t group_row = 0, group_rows = 0, block_seen = -1, column = -1, in_run = 0, chunk = 0, rows_seen = 0;
  StreamVisitor visitor;
  visitor.on_block = [&](int64_t block) { EXPECT_EQ(block, ++block_seen); };
  visitor.on_chunk = [&](int64_t first_column) {
    EXPECT_EQ(first_column, blocks.depth_chunk == 0 || first_column == 0 ? 0 : chunk + blocks.depth_chunk);
    chunk = first_column;
    if (chunk > 0) group_row = blocks.first_row(block_seen), group_rows = 0;
  };
  visitor.on_group = [&](int64_t first_row, int rows) {
    if (chunk == 0) {
      EXPECT_EQ(first_row, rows_seen) << "rows follow each other";
      rows_seen += rows;
    } else {
      EXPECT_GE(first_row, group_row + group_rows);
      EXPECT_LE(first_row + rows, blocks.first_row(block_seen) + blocks.rows_of(block_seen));
    }
    EXPECT_LE(rows, blocks.group_rows);
    group_row = first_row, group_rows = rows;
  };
  visitor.on_column = [&](int64_t k) { column = k; };
  visitor.on_element = [&](int64_t row, int64_t k) {
    EXPECT_EQ(k, column);
    EXPECT_GE(k, chunk);
    EXPECT_LT(k, blocks.depth_chunk == 0 ? pattern.depth : chunk + blocks.depth_chunk);
    EXPECT_GE(row, group_row);
    EXPECT_LT(row, group_row + group_rows);
    EXPECT_TRUE(seen.insert({row, k}).second) << "twice";
    if (in_run == 0) return;
    --in_run;
    EXPECT_GE(k, runs.back().k);
    EXPECT_LT(k, runs.back().k + runs.back().columns);
    EXPECT_TRUE(runs.back().rows >> (row - group_row) & 1);
  };
  visitor.on_run = [&](int64_t k, int64_t columns, uint32_t rows) {
    EXPECT_TRUE(blocks.rolled);
    EXPECT_GE(columns, kMinRunColumns);
    EXPECT_GE(std::popcount(rows), kMinRunRows);
    runs.push_back({group_row, k, columns, rows});
    in_run = columns * std::popcount(rows);
  };
  visitor.after_run = [&] { EXPECT_EQ(in_run, 0) << "a run is whole"; };
  WalkStream(pattern, blocks, visitor);
  EXPECT_EQ(rows_seen, pattern.rows);
  EXPECT_EQ(static_cast<int64_t>(seen.size()), pattern.num_kept());
  for (int64_t row = 0; row < pattern.rows; ++row) {
    for (int64_t j = pattern.begin[row]; j < pattern.begin[row + 1]; ++j) {
      EXPECT_EQ(seen.count({row, pattern.columns[j]}), 1) << row << ", " << pattern.columns[j];
    }
  }
  return runs;
}

ScatteredPattern Make(const Bitmap& kept, int64_t rows, int64_t depth) {
  return ScatteredPattern::Make(kept, rows, depth, depth, 1);
}

TEST(ScatteredStreamTest, PatternsOfAnyLayout) {
  Random random(7);
  for (int repeat = 0; repeat < 60; ++repeat) {
    const int64_t rows = random.Int(1, 90), depth = random.Int(1, 150);
    const int elements = 1 << random.Int(0, 2);
    const int64_t gap = random.Int(0, 3);
    // Rows behind each other, columns behind each other, or neither.
    const int64_t steps[3][2] = {{depth + gap, 1}, {1, rows + gap}, {2, 2 * rows + gap}};
    for (const auto& [row_step, depth_step] : steps) {
      Bitmap kept(rows * row_step + depth * depth_step);
      for (int64_t i = 0; i < kept.size(); ++i) kept.Set(i, random.Int(0, 4) == 0);
      const ScatteredPattern pattern = ScatteredPattern::Make(kept, rows, depth, row_step, depth_step, elements);
      ASSERT_EQ(static_cast<int64_t>(pattern.begin.size()), rows + 1);
      std::vector<int32_t> expected;
      for (int64_t row = 0; row < rows; ++row) {
        EXPECT_EQ(pattern.begin[row], static_cast<int64_t>(expected.size()));
        for (int64_t unit = 0; unit * elements < depth; ++unit) {
          bool any = false;
          for (int64_t k = unit * elements; k < std::min(depth, (unit + 1) * elements); ++k) {
            any |= kept[row * row_step + k * depth_step];
          }
          if (any) expected.push_back(static_cast<int32_t>(unit));
        }
      }
      EXPECT_EQ(pattern.columns, expected) << rows << "x" << depth << " steps " << row_step << ", " << depth_step;
    }
  }
}

TEST(ScatteredStreamTest, EveryUnitOnceRolledOrNot) {
  Random random(1);
  for (int repeat = 0; repeat < 60; ++repeat) {
    const int64_t rows = random.Int(1, 100), depth = random.Int(1, 90);
    Bitmap kept = RandomMask(random, {rows, depth},
                             Pattern::Block(int64_t{1} << random.Int(0, 5), int64_t{1} << random.Int(0, 5)), 0.3);
    kept |= RandomMask(random, {rows, depth}, Pattern::Scattered(), random.Uniform(0, 0.3));
    for (const bool rolled : {false, true}) {
      SCOPED_TRACE(internal::Join("repeat ", repeat, ", ", rows, "x", depth, rolled ? " rolled" : ""));
      const ScatteredBlocks blocks = {.rows = rows,
                                      .block_rows = 16 * random.Int(1, 4),
                                      .group_rows = static_cast<int>(random.Int(1, 31)),
                                      .rolled = rolled,
                                      .depth_chunk = random.Chance(0.5) ? random.Int(1, depth) : 0,
                                      .cuts = {}};
      const ScatteredPattern pattern = Make(kept, rows, depth);
      const std::vector<FoundRun> runs = Walk(pattern, blocks);
      const StreamCounts counts = CountStream(pattern, blocks);
      EXPECT_EQ(counts.elements, pattern.num_kept());
      EXPECT_EQ(counts.runs, static_cast<int64_t>(runs.size()));
      int64_t inside = 0;
      for (const FoundRun& run : runs) inside += run.columns * std::popcount(run.rows);
      EXPECT_EQ(counts.run_elements, inside);
    }
  }
}

TEST(ScatteredStreamTest, BlocksAreRunsWhateverLiesBesideThem) {
  // Rows 0-7 keep columns 10-25, rows 8-15 keep 18-33: two blocks that overlap in depth. Row 3 and row 12 keep more.
  Bitmap kept(16 * 40);
  for (int64_t row = 0; row < 8; ++row) kept.SetRange(row * 40 + 10, row * 40 + 26, true);
  for (int64_t row = 8; row < 16; ++row) kept.SetRange(row * 40 + 18, row * 40 + 34, true);
  kept.Set(3 * 40 + 5, true);
  kept.Set(12 * 40 + 10, true);
  const ScatteredBlocks blocks = {.rows = 16, .block_rows = 16, .group_rows = 16, .rolled = true, .cuts = {}};
  EXPECT_EQ(Walk(Make(kept, 16, 40), blocks),
            (std::vector<FoundRun>{{0, 10, 16, 0x00ff}, {0, 18, 8, 0xff00}, {0, 26, 8, 0xff00}}));
}

TEST(ScatteredStreamTest, TooSmallForARun) {
  Bitmap kept(16 * 40);
  for (int64_t row = 0; row < 3; ++row) kept.SetRange(row * 40, row * 40 + 40, true);       // few rows
  for (int64_t row = 8; row < 16; ++row) kept.SetRange(row * 40 + 8, row * 40 + 15, true);  // few columns
  const ScatteredBlocks blocks = {.rows = 16, .block_rows = 16, .group_rows = 16, .rolled = true, .cuts = {}};
  EXPECT_TRUE(Walk(Make(kept, 16, 40), blocks).empty());
}

// A loop is its two columns, whatever its length.
TEST(ScatteredStreamTest, LoopsAreShort) {
  const ScatteredPattern pattern = Make(Bitmap(16 * 512, true), 16, 512);
  ScatteredBlocks blocks = {.rows = 16, .block_rows = 16, .group_rows = 16};
  const size_t straight = EncodeStream(pattern, blocks, {}).bytes.size();
  blocks.rolled = true;
  EXPECT_GT(straight, 50000);
  EXPECT_LT(EncodeStream(pattern, blocks, {}).bytes.size(), 700);
}

}  // namespace
}  // namespace tessera
