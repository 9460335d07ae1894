// Tests that the random draws are what they say: fixed values for a seed, moments, and the patterns' definitions.
#include "tesa/random.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace tessera {
namespace {

TEST(Random, IsSplitMix64) {
  // The published test values of the reference implementation, seed 1234567.
  Random random(1234567);
  EXPECT_EQ(random.Next(), 6457827717110365317u);
  EXPECT_EQ(random.Next(), 3203168211198807973u);
  EXPECT_EQ(random.Next(), 9817491932198370423u);
}

TEST(Random, IntsCoverTheirRangeEvenly) {
  Random random(1);
  std::vector<int> counts(7, 0);
  for (int k = 0; k < 70000; ++k) {
    const int64_t value = random.Int(-3, 3);
    ASSERT_TRUE(value >= -3 && value <= 3);
    ++counts[value + 3];
  }
  for (int count : counts) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(random.Int(5, 5), 5);
  random.Int(INT64_MIN, INT64_MAX);
}

TEST(Random, NormalHasItsMoments) {
  Random random(2);
  double sum = 0, square = 0, fourth = 0;
  constexpr int kCount = 200000;
  for (int k = 0; k < kCount; ++k) {
    const double x = random.Normal();
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.01);
  EXPECT_NEAR(square / kCount, 1, 0.02);
  EXPECT_NEAR(fourth / kCount, 3, 0.1);
}

TEST(Random, TensorsFollowTheirType) {
  Random random(3);
  const Tensor floats = RandomTensor(random, {DType::kF32, {100, 100}}, 0.02);
  double square = 0;
  for (float x : floats.data<float>()) square += x * x;
  EXPECT_NEAR(std::sqrt(square / 1e4), 0.02, 0.001);
  const Tensor nibbles = RandomTensor(random, {DType::kI4, {100}});
  for (int64_t i = 0; i < 100; ++i) EXPECT_LE(std::abs(nibbles.GetInt(i)), 8);
  const Tensor in = RandomTensorIn(random, {DType::kF64, {100}}, 2, 3);
  for (double x : in.data<double>()) EXPECT_TRUE(x >= 2 && x < 3);
  EXPECT_EQ(RandomTensor(random, {DType::kF32, {0, 3}}).num_elements(), 0);
}

TEST(Random, MasksFollowTheirDefinitions) {
  Random random(4);
  const Shape shape = {66, 70};
  EXPECT_NEAR(static_cast<double>(RandomMask(random, shape, Pattern::Scattered(), 0.3).Count()) / (66 * 70), 0.3, 0.03);
  const Bitmap blocks = RandomMask(random, shape, Pattern::Block(8, 16), 0.4);
  const Bitmap rows = RandomMask(random, shape, Pattern::Slices(0), 0.4);
  const Bitmap columns = RandomMask(random, shape, Pattern::Slices(1), 0.4);
  const Bitmap along_rows = RandomMask(random, shape, Pattern::Nm(2, 4, 1), 0);
  for (int64_t r = 0; r < 66; ++r) {
    for (int64_t c = 0; c < 70; ++c) {
      EXPECT_EQ(blocks[r * 70 + c], blocks[r / 8 * 8 * 70 + c / 16 * 16]);
      EXPECT_EQ(rows[r * 70 + c], rows[r * 70]);
      EXPECT_EQ(columns[r * 70 + c], columns[c]);
    }
    for (int64_t c = 0; c < 70; c += 4) {
      int kept = 0;
      for (int64_t k = c; k < std::min<int64_t>(70, c + 4); ++k) kept += along_rows[r * 70 + k];
      EXPECT_EQ(kept, 2);
    }
  }
}

}  // namespace
}  // namespace tessera
