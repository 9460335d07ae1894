#include "graph/passes/min_cut.h"

#include <random>

#include "gtest/gtest.h"

namespace tessera {
namespace {

struct TestEdge {
  int from, to;
  int64_t cost;
};

int64_t CostOf(const std::vector<TestEdge>& edges, const std::vector<bool>& side) {
  int64_t cost = 0;
  for (const TestEdge& e : edges) cost += side[e.from] && !side[e.to] ? e.cost : 0;
  return cost;
}

TEST(MinCut, IsAsCheapAsTheBestOfAllPartitions) {
  std::mt19937_64 rng(1);
  for (int round = 0; round < 500; ++round) {
    const int n = 2 + static_cast<int>(rng() % 8), source = 0, sink = n - 1;
    std::vector<TestEdge> edges;
    for (uint64_t k = rng() % 25; k > 0; --k) {
      edges.push_back({static_cast<int>(rng() % n), static_cast<int>(rng() % n), static_cast<int64_t>(rng() % 10)});
    }
    MinCut cut(n);
    for (const TestEdge& e : edges) cut.AddEdge(e.from, e.to, e.cost);
    const std::vector<bool> side = cut.Solve(source, sink);
    ASSERT_TRUE(side[source]);
    ASSERT_FALSE(side[sink]);
    int64_t best = MinCut::kUncuttable;
    for (int mask = 0; mask < 1 << n; ++mask) {
      std::vector<bool> partition(n);
      for (int k = 0; k < n; ++k) partition[k] = mask >> k & 1;
      if (partition[source] && !partition[sink]) best = std::min(best, CostOf(edges, partition));
    }
    EXPECT_EQ(CostOf(edges, side), best) << "round " << round;
  }
}

}  // namespace
}  // namespace tessera
