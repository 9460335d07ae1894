#include "graph/multiply_add.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace tessera {
namespace {

// Sizes around the blocks of four rows and 512 columns.
TEST(MultiplyAddTest, AddsTheProductOfIntegersInDouble) {
  std::mt19937 rng(3);
  for (int64_t m : {0, 1, 3, 4, 5, 9}) {
    for (int64_t n : {0, 1, 7, 511, 513}) {
      for (int64_t k : {0, 1, 6}) {
        std::vector<double> a(m * k), b(k * n), c(m * n, 1);
        for (double& value : a) value = static_cast<double>(rng() % 19) - 9;
        for (double& value : b) value = static_cast<double>(rng() % 19) - 9;
        MultiplyAdd(m, n, k, a.data(), b.data(), c.data());
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            double expected = 1;
            for (int64_t p = 0; p < k; ++p) expected += a[i * k + p] * b[p * n + j];
            ASSERT_EQ(c[i * n + j], expected) << m << "x" << n << "x" << k << " at " << i << ", " << j;
          }
        }
      }
    }
  }
}

TEST(MultiplyAddTest, IntegersWrap) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const std::vector<int64_t> a = {kMax, kMax}, b = {2, 2};
  std::vector<int64_t> c = {5};
  MultiplyAdd(1, 1, 2, a.data(), b.data(), c.data());
  EXPECT_EQ(c[0], 1);  // 4 * (2^63 - 1) + 5 modulo 2^64
}

}  // namespace
}  // namespace tessera
