#include "models/quantize/range.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tesa/random.h"

namespace tessera {
namespace {

std::vector<float> Normal(int64_t count, uint64_t seed, double scale = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = static_cast<float>(scale * random.Normal());
  return values;
}

double MeanSquaredError(std::span<const float> values, const Affine& affine, DType type) {
  double sum = 0;
  for (const float v : values) sum += std::pow(v - RoundTrip(v, affine, type), 2);
  return sum / static_cast<double>(values.size());
}

TEST(AffineTest, ZeroIsExactAndEndsAreWithinAStep) {
  Random random(1);
  for (int round = 0; round < 1000; ++round) {
    for (DType type : {DType::kU8, DType::kI8, DType::kU4}) {
      Range range{-std::exp(random.Uniform(-30, 30)), std::exp(random.Uniform(-30, 30))};
      if (round % 3 == 0) range.low = 0;
      if (round % 3 == 1) range.high = 0;
      const Affine affine = AffineOf(range, type);
      EXPECT_EQ(RoundTrip(0, affine, type), 0);
      EXPECT_GE(affine.zero_point, MinInt(type));
      EXPECT_LE(affine.zero_point, MaxInt(type));
      EXPECT_NEAR(RoundTrip(range.low, affine, type), range.low, 1.01 * affine.scale);
      EXPECT_NEAR(RoundTrip(range.high, affine, type), range.high, 1.01 * affine.scale);
      EXPECT_EQ(affine.scale, static_cast<float>(affine.scale));
    }
  }
}

TEST(AffineTest, NothingAndExtremes) {
  for (DType type : {DType::kU8, DType::kI8}) {
    EXPECT_EQ(AffineOf({}, type).scale, 1);
    EXPECT_EQ(RoundTrip(0, AffineOf({}, type), type), 0);
    const double huge = std::numeric_limits<float>::max();
    for (const Range& range : {Range{-huge, huge}, {0, 1e-45}, {-1e-45, 0}, {0, huge}}) {
      const Affine affine = AffineOf(range, type);
      EXPECT_TRUE(std::isnormal(static_cast<float>(affine.scale)));
      EXPECT_EQ(RoundTrip(0, affine, type), 0);
    }
  }
}

TEST(RangeObserverTest, MinMaxIsExactInAnyOrder) {
  const std::vector<float> values = Normal(10007, 3, 7);
  RangeObserver whole, parts;
  ASSERT_TRUE(whole.Observe(values).ok());
  for (size_t at = 0; at < values.size(); at += 131) {
    ASSERT_TRUE(parts.Observe(std::span(values).subspan(at, std::min<size_t>(131, values.size() - at))).ok());
  }
  for (const RangeObserver& seen : {whole, parts}) {
    EXPECT_EQ(seen.count(), 10007);
    EXPECT_EQ(seen.min(), *std::min_element(values.begin(), values.end()));
    EXPECT_EQ(seen.max(), *std::max_element(values.begin(), values.end()));
    EXPECT_EQ(seen.Choose(RangeMethod::kMinMax, 0).high, seen.max());
  }
}

TEST(RangeObserverTest, PercentileCutsBothTails) {
  RangeObserver seen;
  // Grows by ten powers of two on the way.
  for (double scale : {0.001, 0.01, 0.1, 1.0}) ASSERT_TRUE(seen.Observe(Normal(100000, 5, scale)).ok());
  const Range range = seen.Choose(RangeMethod::kPercentile, 99);
  // A quarter of the values has deviation 1: 1 % of all beyond is 4 % of these, 1.75 deviations.
  EXPECT_NEAR(range.high, 1.75, 0.03);
  EXPECT_NEAR(range.low, -1.75, 0.03);
  EXPECT_EQ(seen.Choose(RangeMethod::kPercentile, 100).high, seen.max());
}

TEST(RangeObserverTest, PercentileOfOneSideStaysThere) {
  RangeObserver seen;
  std::vector<float> values = Normal(50000, 6);
  for (float& v : values) v = std::max(v, 0.0f);
  ASSERT_TRUE(seen.Observe(values).ok());
  const Range range = seen.Choose(RangeMethod::kPercentile, 99.9);
  EXPECT_EQ(range.low, 0);
  EXPECT_GT(range.high, 2.5);
}

TEST(RangeObserverTest, LeastErrorIsNotAboveThatOfAnyOtherRange) {
  std::vector<float> values = Normal(60000, 7);
  values[17] = 90;  // one value far out takes most of the 256 steps with min and max
  RangeObserver seen;
  ASSERT_TRUE(seen.Observe(values).ok());
  const Affine best = AffineOf(seen.Choose(RangeMethod::kMse, 0), DType::kU8);
  const double least = MeanSquaredError(values, best, DType::kU8);
  for (double high : {90.0, 40.0, 20.0, 10.0, 5.0, 3.0}) {
    for (double low : {-6.0, -4.0, -2.0}) {
      EXPECT_LE(least, 1.02 * MeanSquaredError(values, AffineOf({low, high}, DType::kU8), DType::kU8)) << low << high;
    }
  }
  EXPECT_GT(seen.SignalToNoise(best, DType::kU8),
            seen.SignalToNoise(AffineOf(seen.Choose(RangeMethod::kMinMax, 0), DType::kU8), DType::kU8));
}

TEST(RangeObserverTest, ConstantsAndZeros) {
  RangeObserver zeros, ones, nothing;
  ASSERT_TRUE(zeros.Observe(std::vector<float>(5, 0.0f)).ok());
  ASSERT_TRUE(ones.Observe(std::vector<float>(5, -3.5f)).ok());
  for (RangeMethod method : {RangeMethod::kMinMax, RangeMethod::kPercentile, RangeMethod::kMse}) {
    EXPECT_EQ(zeros.Choose(method, 99).high, 0);
    EXPECT_EQ(nothing.Choose(method, 99).low, 0);
    const Affine affine = AffineOf(ones.Choose(method, 99), DType::kU8);
    EXPECT_NEAR(RoundTrip(-3.5, affine, DType::kU8), -3.5, 0.1);
  }
  EXPECT_EQ(zeros.SignalToNoise({}, DType::kU8), std::numeric_limits<double>::infinity());
}

TEST(RangeObserverTest, WhatIsNoNumberIsRefused) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    RangeObserver seen;
    const Status status = seen.Observe(std::vector<float>{1, bad});
    EXPECT_EQ(status.code(), ErrorCode::kValueInvalid);
  }
  // The smallest and the largest there are do not break the bins.
  RangeObserver seen;
  ASSERT_TRUE(seen.Observe(std::vector<float>{1e-45f}).ok());
  ASSERT_TRUE(seen.Observe(std::vector<float>{3e38f, -3e38f}).ok());
  EXPECT_EQ(seen.max(), 3e38f);
}

}  // namespace
}  // namespace tessera
