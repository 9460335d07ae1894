// Weights of 4 bits with scales are recognised in f32 whatever their blocks, and only where each value comes out to the
// last bit.
#include "tesa/int4.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tesa/random.h"

namespace tessera {
namespace {

TEST(FitInt4BlockTest, EveryScaleAndOffset) {
  Random random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    const auto scale = static_cast<float>(std::exp(random.Uniform(-20, 20)));
    const int64_t zero = random.Int(0, 15), largest = random.Int(0, 15);
    std::vector<float> values;
    for (int k = 0; k < 32; ++k) {
      values.push_back(static_cast<float>(static_cast<double>(random.Int(0, largest) - zero) * scale));
    }
    const std::optional<Int4Block> block = FitInt4Block(values);
    ASSERT_TRUE(block.has_value()) << trial;
    for (float value : values) {
      const double q = std::round(value / static_cast<double>(block->scale));
      EXPECT_EQ(static_cast<float>(q * block->scale), value);
      if (value != 0) {
        EXPECT_GE(q - block->offset, -8);
        EXPECT_LE(q - block->offset, 7);
      }
    }
  }
}

TEST(FitInt4BlockTest, OtherValuesAreRefused) {
  EXPECT_FALSE(FitInt4Block(std::vector<float>{0.1f, 0.2f, 0.35f, 1.0f, 0.777f}));
  EXPECT_FALSE(FitInt4Block(std::vector<float>{-8.0f, 8.0f, 1.0f}));  // 17 different integers
  EXPECT_FALSE(FitInt4Block(std::vector<float>{1.0f, std::nextafter(2.0f, 3.0f), 3.0f}));
  EXPECT_FALSE(FitInt4Block(std::vector<float>{1.0f, std::numeric_limits<float>::infinity()}));
  EXPECT_TRUE(FitInt4Block(std::vector<float>{0.0f, 0.0f}));
}

// Of a matrix with a scale for each block of each row, all integers come back.
TEST(FindInt4Test, FindsTheIntegers) {
  Random random(3);
  const int64_t rows = 7, depth = 96;
  for (const int64_t block : {16, 32, 96}) {
    std::vector<float> w;
    for (int64_t k = 0; k < rows * depth; ++k) {
      const float scale = std::ldexp(1.0f + static_cast<float>(k / block % 5), -6);
      w.push_back(static_cast<float>(k % block == 0 ? 7 : k % block == 1 ? -8 : random.Int(-8, 7)) * scale);
    }
    const auto read = [&](int64_t row, std::span<float> to) { std::copy_n(&w[row * depth], depth, to.begin()); };
    const std::optional<Int4Weights> found = FindInt4(rows, depth, read);
    ASSERT_TRUE(found.has_value()) << block;
    EXPECT_EQ(found->block, block);
    for (int64_t k = 0; k < rows * depth; ++k) {
      const Int4Block& of = found->blocks[k / block];
      EXPECT_EQ(static_cast<float>(found->elements[k] + of.offset) * of.scale, w[k]);
    }
    w[rows * depth / 2] *= 1.001f;
    EXPECT_FALSE(FindInt4(rows, depth, read));
  }
  EXPECT_FALSE(FindInt4(0, depth, [](int64_t, std::span<float>) {}));
}

}  // namespace
}  // namespace tessera
