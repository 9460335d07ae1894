#include "tests/ladder/pairwise.h"

#include <algorithm>
#include <random>
#include <set>
#include <tuple>

#include "gtest/gtest.h"

namespace tessera {
namespace {

// Every pair of levels of every two factors.
void ExpectCovers(const std::vector<int>& levels, const std::vector<std::vector<int>>& rows) {
  std::set<std::tuple<size_t, int, size_t, int>> seen;
  for (const std::vector<int>& row : rows) {
    ASSERT_EQ(levels.size(), row.size());
    for (size_t a = 0; a < row.size(); ++a) {
      EXPECT_GE(row[a], 0);
      EXPECT_LT(row[a], levels[a]);
      for (size_t b = a + 1; b < row.size(); ++b) seen.insert({a, row[a], b, row[b]});
    }
  }
  size_t pairs = 0;
  for (size_t a = 0; a < levels.size(); ++a) {
    for (size_t b = a + 1; b < levels.size(); ++b) pairs += static_cast<size_t>(levels[a] * levels[b]);
  }
  EXPECT_EQ(pairs, seen.size());
}

TEST(PairwiseTest, EveryPairIsThere) {
  std::mt19937 rng(5);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<int> levels;
    for (unsigned factors = 1 + rng() % 5; factors > 0; --factors) levels.push_back(1 + static_cast<int>(rng() % 7));
    ExpectCovers(levels, PairwiseCover(levels));
  }
}

TEST(PairwiseTest, RowsAreFewAndAlwaysTheSame) {
  const std::vector<int> levels = {8, 7, 3, 5};
  const std::vector<std::vector<int>> rows = PairwiseCover(levels);
  EXPECT_GE(rows.size(), 8u * 7u);
  EXPECT_LE(rows.size(), 8u * 7u + 8u);
  EXPECT_EQ(rows, PairwiseCover(levels));
  EXPECT_EQ((std::vector<std::vector<int>>{{0}, {1}, {2}}).size(), PairwiseCover({3, 1}).size());
}

// A single factor has no pairs: one row.
TEST(PairwiseTest, OneFactor) { EXPECT_EQ((std::vector<std::vector<int>>{{0}}), PairwiseCover({4})); }

}  // namespace
}  // namespace tessera
