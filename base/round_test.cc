#include "base/round.h"

#include "gtest/gtest.h"

namespace tessera {
namespace {

TEST(RoundTest, UpToTheNextMultiple) {
  for (int64_t divisor = 1; divisor < 20; ++divisor) {
    for (int64_t value = 0; value < 100; ++value) {
      const int64_t multiple = RoundUp(value, divisor);
      EXPECT_EQ(0, multiple % divisor);
      EXPECT_GE(multiple, value);
      EXPECT_LT(multiple, value + divisor);
      EXPECT_EQ(multiple, DivideUp(value, divisor) * divisor);
    }
  }
}

}  // namespace
}  // namespace tessera
