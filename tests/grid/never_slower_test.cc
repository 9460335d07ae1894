#include "tests/grid/never_slower.h"

#include <gtest/gtest.h>

#include <vector>

namespace tessera {
namespace {

std::vector<double> Times(Random& random, double middle, double noise) {
  std::vector<double> times;
  for (int k = 0; k < 15; ++k) times.push_back(middle * (1 + noise * random.Normal()));
  return times;
}

TEST(SlowdownTest, IsTheRatioWhereThereIsNoNoise) {
  const std::vector<double> dense(15, 100), sparse(15, 110);
  EXPECT_NEAR(SlowdownLowerBound(dense, sparse), 0.1, 1e-9);
  EXPECT_NEAR(SlowdownLowerBound(sparse, dense), -1.0 / 11, 1e-9);
}

TEST(SlowdownTest, FindsWhatIsSlowerAndSeldomWhatIsNot) {
  Random random(5);
  int found = 0, wrong = 0;
  for (int k = 0; k < 200; ++k) {
    found += SlowdownLowerBound(Times(random, 100, 0.02), Times(random, 108, 0.02)) > 0.03;
    wrong += SlowdownLowerBound(Times(random, 100, 0.02), Times(random, 103, 0.02)) > 0.03;
  }
  EXPECT_GT(found, 195);
  EXPECT_LT(wrong, 25);  // 5 % of 200, and what chance adds
}

TEST(NeverSlowerTest, BothSidesOfEveryPatternAgree) {
  Random random(11);
  for (int k = 0; k < 8; ++k) {
    const DType types[] = {DType::kF32, DType::kI8, DType::kF16, DType::kI8};
    const Layer layer = RandomLayer(random, types[k % 4]);
    for (const char* prune : {"none", "90%:fine", "50%:4x1", "70%:16x16", "50%:channels", "2:4"}) {
      const StatusOr<Verdict> verdict = Compare(layer, prune, {.threads = 1 + k % 2, .pairs = 2, .run_seconds = 0});
      ASSERT_TRUE(verdict.ok()) << verdict.status();
      EXPECT_GT(verdict->dense_us, 0) << layer.name;
      EXPECT_FALSE(verdict->way.empty()) << layer.name;
    }
  }
}

}  // namespace
}  // namespace tessera
