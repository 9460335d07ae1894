#include "tools/common/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tessera {
namespace {

TEST(StatisticsTest, KnownValues) {
  std::vector<double> samples;
  for (int k = 100; k >= 0; --k) samples.push_back(k);  // 0 … 100: quantile q is 100 q
  const Statistics s = Summarize(samples);
  EXPECT_EQ(s.samples, 101u);
  EXPECT_DOUBLE_EQ(s.min, 0);
  EXPECT_DOUBLE_EQ(s.max, 100);
  EXPECT_DOUBLE_EQ(s.median, 50);
  EXPECT_DOUBLE_EQ(s.mean, 50);
  EXPECT_DOUBLE_EQ(s.p90, 90);
  EXPECT_DOUBLE_EQ(s.p95, 95);
  EXPECT_DOUBLE_EQ(s.p99, 99);
  EXPECT_NEAR(s.cv, std::sqrt(858.5) / 50, 1e-12);
}

TEST(StatisticsTest, InterpolatesAndTakesFewSamples) {
  EXPECT_DOUBLE_EQ(Summarize({1, 2}).median, 1.5);
  EXPECT_DOUBLE_EQ(Summarize({4}).p99, 4);
  EXPECT_DOUBLE_EQ(Summarize({4}).cv, 0);
  EXPECT_EQ(Summarize({}).samples, 0u);
  EXPECT_DOUBLE_EQ(Summarize({3, 1, 2}).median, 2);
}

}  // namespace
}  // namespace tessera
