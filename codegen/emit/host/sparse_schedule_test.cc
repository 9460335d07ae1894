#include "codegen/emit/host/sparse_schedule.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "codegen/compile.h"
#include "codegen/emit/testing/sparse_product.h"

namespace tessera {
namespace {

// A product whose row r keeps each element with probability `density(r)`.
SparseProblem ProblemOf(int64_t rows, int64_t depth, int64_t columns, Random& random,
                        const std::function<double(int64_t row)>& density) {
  Bitmap kept(rows * depth);
  for (int64_t at = 0; at < kept.size(); ++at) kept.Set(at, random.Chance(density(at / depth)));
  SparseProblem problem;
  problem.row_step = depth;
  problem.source = {.depth = depth, .columns = columns, .depth_step = 1, .column_step = depth};
  problem.all.pattern = std::make_shared<ScatteredPattern>(ScatteredPattern::Make(kept, rows, depth, depth, 1));
  problem.all.kept = std::make_shared<const Bitmap>(std::move(kept));
  return problem;
}

TEST(SparseScheduleTest, ThreadsGetEqualSharesOfWhatIsKept) {
  StatusOr<Target> target = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(target.ok());
  target->threads = 2;
  Random random(16);
  const SparseProblem skewed = ProblemOf(768, 256, 16, random, [](int64_t row) { return row < 256 ? 1 : 0.01; });
  SparseSchedule schedule;
  schedule.blocks = {.rows = 768, .block_rows = 128, .group_rows = 31};
  EXPECT_GT(BusiestShare(skewed, schedule, 2), 1.9);
  const std::optional<SparseSchedule> cut = BalanceSparse(skewed, schedule, *target);
  ASSERT_TRUE(cut.has_value());
  EXPECT_LT(BusiestShare(skewed, *cut, 2), 1.06);
  const SparseProblem even = ProblemOf(768, 256, 16, random, [](int64_t) { return 0.1; });
  EXPECT_FALSE(BalanceSparse(even, schedule, *target).has_value());
  target->threads = 1;
  EXPECT_FALSE(BalanceSparse(skewed, schedule, *target).has_value());
}

TEST(SparseScheduleTest, BalancedBlocksCoverTheRowsInWholeSquares) {
  StatusOr<Target> target = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(target.ok());
  Random random(17);
  int found = 0;
  for (int repeat = 0; repeat < 200; ++repeat) {
    target->threads = static_cast<int>(random.Int(2, 5));
    const int64_t rows = random.Int(1, 600), edge = random.Int(0, rows);
    const SparseProblem problem = ProblemOf(rows, random.Int(1, 40), random.Int(8, 80), random,
                                            [&](int64_t row) { return row < edge ? 0.8 : 0.05; });
    SparseSchedule schedule;
    schedule.blocks = {.rows = rows, .block_rows = 16 * random.Int(1, 8), .group_rows = 31};
    const std::optional<SparseSchedule> cut = BalanceSparse(problem, schedule, *target);
    if (!cut) continue;
    ++found;
    const ScatteredBlocks& blocks = cut->blocks;
    EXPECT_EQ(blocks.blocks() % target->threads, 0);
    EXPECT_EQ(blocks.cuts.front(), 0);
    EXPECT_EQ(blocks.cuts.back(), rows);
    for (int64_t block = 0; block < blocks.blocks(); ++block) {
      EXPECT_EQ(blocks.first_row(block) % kPanelLanes, 0);
      EXPECT_GT(blocks.rows_of(block), 0);
      EXPECT_LE(blocks.rows_of(block), blocks.block_rows);
    }
    EXPECT_LE(blocks.block_rows, 128);
    EXPECT_LT(BusiestShare(problem, *cut, target->threads), BusiestShare(problem, schedule, target->threads));
  }
  EXPECT_GT(found, 50);
}

// Panels that one thread packs and others read cost more than packing them in each thread.
TEST(SparseScheduleTest, SeveralThreadsPackWhatTheyRead) {
  const StatusOr<Target> target = MakeTarget("host:x86-64-v4");
  ASSERT_TRUE(target.ok());
  Random random(1);
  const Graph graph = OneProduct({.rows = 383, .depth = 12, .columns = 153, .density = 0.3}, random).Build();
  for (const int threads : {1, 2}) {
    for (const char* way : {"sparse_stream:whole depth", "sparse_loop"}) {
      CompileOptions options;
      options.only_emitter = way;
      options.run_threads = threads;
      const StatusOr<Plan> plan = MakePlan(graph, *target, options);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->steps.size(), threads == 1 ? 2u : 1u) << way;
    }
  }
}

}  // namespace
}  // namespace tessera
