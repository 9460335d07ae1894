// Tests the test helpers: that what should fail does, with the message that it promises.
#include "gtest/gtest.h"
#include "tesa/testing/close.h"
#include "tesa/testing/random.h"
#include "tesa/testing/status_matchers.h"

#include <cmath>
#include <string>

namespace tessera {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(StatusMatchers, MatchCodeAndMessage) {
  const Status error = Error(ErrorCode::kFileNotFound, "no file");
  EXPECT_THAT(error, StatusIs(ErrorCode::kFileNotFound));
  EXPECT_THAT(error, StatusIs(ErrorCode::kFileNotFound, "no file"));
  EXPECT_THAT(error, StatusIs(ErrorCode::kFileNotFound, HasSubstr("file")));
  EXPECT_THAT(error, Not(StatusIs(ErrorCode::kFileNotFound, HasSubstr("folder"))));
  EXPECT_THAT(error, Not(StatusIs(ErrorCode::kInternal)));
  EXPECT_THAT(error, Not(IsOk()));
  EXPECT_THAT(StatusOr<int>(error), StatusIs(ErrorCode::kFileNotFound));
  EXPECT_OK(OkStatus());
  ASSERT_OK_AND_ASSIGN(const int three, StatusOr<int>(3));
  EXPECT_EQ(three, 3);
}

TEST(Close, NamesTheWorstElement) {
  const Tensor r = Tensor::FromVector<float>({2, 3}, {1, 2, 3, 4, 5, 10});
  Tensor y = r;
  y.Set(4, 5.5);
  y.Set(1, 2.1);
  EXPECT_DOUBLE_EQ(RelativeError(y, r), 0.05);
  EXPECT_TRUE(Close(y, r, 0.06));
  const testing::AssertionResult result = Close(y, r, 0.001);
  EXPECT_FALSE(result);
  EXPECT_THAT(std::string(result.message()), HasSubstr("y[1,1] = 5.5, expected 5: relative error 0.05"));
  EXPECT_THAT(std::string(result.message()), HasSubstr("2 of 6 are off"));
}

TEST(Close, InfinitiesAndNaNsMustAgree) {
  const Tensor r = Tensor::FromVector<float>({3}, {NAN, INFINITY, 1});
  EXPECT_TRUE(Close(r, r, 0));
  for (int i : {0, 1}) {
    Tensor y = r;
    y.Set(i, 2);
    EXPECT_FALSE(Close(y, r, 1e6)) << i;
    EXPECT_FALSE(Close(r, y, 1e6)) << i;
  }
  Tensor y = r;
  y.Set(1, -INFINITY);
  EXPECT_FALSE(Close(y, r, 1e6));
}

TEST(Close, TypesAndShapesMustAgree) {
  const Tensor ints = Tensor::FromVector<int32_t>({2}, {1000000, 2});
  Tensor off = ints;
  off.SetInt(0, 1000001);
  EXPECT_FALSE(Close(off, ints, 0.1));
  EXPECT_TRUE(Close(ints, ints, 0));
  EXPECT_FALSE(Close(ints, ints.Cast(DType::kF32), 1));
  EXPECT_TRUE(Close(ints.Cast(DType::kF32), ints.Cast(DType::kF64), 0));
  EXPECT_FALSE(Close(ints, ints.Reshaped({1, 2}), 1));
}

TEST(RandomShapes, EveryPatternHasRoom) {
  Random random(1);
  for (int k = 0; k < 200; ++k) {
    const Shape shape = RandomShape(random, static_cast<int>(random.Int(1, 4)), 1, 12);
    for (const Pattern& pattern : EveryPattern(shape)) {
      EXPECT_EQ(RandomAttribute(random, shape, pattern, 0.5, 8).shape(), shape) << pattern;
    }
    EXPECT_EQ(RandomAttributeOfAnyKind(random, shape).shape(), shape);
  }
}

}  // namespace
}  // namespace tessera
