// Tests element types (tesa/dtypes.def, row by row) and shapes: the table's promises, sizes without overflow,
// broadcasting against its definition.
#include "tesa/types.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tesa/testing/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

TEST(DTypes, NamesReadBackAndAreUnique) {
  std::set<std::string_view> names;
  for (int k = 0; k <= static_cast<int>(DType::kBool); ++k) {
    const DType type = static_cast<DType>(k);
    EXPECT_TRUE(names.insert(Name(type)).second);
    EXPECT_EQ(ParseDType(Name(type)), type);
    EXPECT_EQ(IsFloat(type) + IsInteger(type) + IsBool(type), 1) << type;
  }
  EXPECT_EQ(ParseDType("f31"), std::nullopt);
}

TEST(DTypes, Limits) {
  EXPECT_EQ(MinInt(DType::kI8), -128);
  EXPECT_EQ(MaxInt(DType::kI8), 127);
  EXPECT_EQ(MinInt(DType::kI4), -8);
  EXPECT_EQ(MaxInt(DType::kU4), 15);
  EXPECT_EQ(MinInt(DType::kU32), 0);
  EXPECT_EQ(MaxInt(DType::kU32), 4294967295);
  EXPECT_EQ(MinInt(DType::kI64), INT64_MIN);
  EXPECT_EQ(MaxInt(DType::kI64), INT64_MAX);
  EXPECT_EQ(MaxInt(DType::kBool), 1);
}

TEST(Shapes, CountsAndStrides) {
  const Shape shape = {2, 3, 5};
  EXPECT_EQ(shape.num_elements(), 30);
  EXPECT_EQ(shape.Strides(), (std::vector<int64_t>{15, 5, 1}));
  EXPECT_EQ(shape.ToString(), "[2,3,5]");
  EXPECT_EQ(Shape().num_elements(), 1);
  EXPECT_EQ((Shape{4, 0}).num_elements(), 0);
  EXPECT_EQ(ByteSize(DType::kI4, 3), 2);
  EXPECT_EQ(ByteSize(DType::kF64, 3), 24);
  int64_t expected = 0;
  ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
    EXPECT_EQ(index[0] * 15 + index[1] * 5 + index[2], expected++);
  });
  EXPECT_EQ(expected, 30);
}

TEST(Shapes, ForeignShapesAreChecked) {
  EXPECT_OK(CheckShape(DType::kF32, {1, 2, 3}));
  EXPECT_OK(CheckShape(DType::kF32, Shape()));
  EXPECT_OK(CheckShape(DType::kF32, {0, 5}));
  EXPECT_THAT(CheckShape(DType::kF32, {-1, 5}), StatusIs(ErrorCode::kShapeUnknown));
  EXPECT_THAT(CheckShape(DType::kF32, Shape(std::vector<int64_t>(17, 1))), StatusIs(ErrorCode::kLimitExceeded));
  const int64_t big = int64_t{1} << 62;
  EXPECT_THAT(CheckShape(DType::kF32, {big, big}), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(CheckShape(DType::kF32, {0, big, big}), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_THAT(CheckShape(DType::kF64, {1 << 10}, 1 << 12), StatusIs(ErrorCode::kLimitExceeded));
  EXPECT_OK(CheckShape(DType::kF32, {1 << 10}, 1 << 12));
  EXPECT_OK(CheckShape(DType::kI4, {1 << 12}, 1 << 12));
}

TEST(Shapes, BroadcastingFollowsItsDefinition) {
  EXPECT_EQ(BroadcastShapes({3, 1}, {4}), (Shape{3, 4}));
  EXPECT_EQ(BroadcastShapes({3}, {4}), std::nullopt);
  EXPECT_EQ(BroadcastShapes({0, 3}, {1, 3}), (Shape{0, 3}));
  Random random(1);
  for (int k = 0; k < 2000; ++k) {
    const Shape a = RandomShape(random, static_cast<int>(random.Int(0, 3)), 1, 3);
    const Shape b = RandomShape(random, static_cast<int>(random.Int(0, 3)), 1, 3);
    const std::optional<Shape> both = BroadcastShapes(a, b);
    bool match = true;
    for (int d = 1; d <= std::min(a.rank(), b.rank()); ++d) {
      const int64_t da = a[a.rank() - d], db = b[b.rank() - d];
      match &= da == db || da == 1 || db == 1;
    }
    ASSERT_EQ(both.has_value(), match) << a << b;
    if (!match) continue;
    EXPECT_EQ(both->rank(), std::max(a.rank(), b.rank()));
    EXPECT_EQ(both, BroadcastShapes(b, a));
    EXPECT_EQ(both, BroadcastShapes(*both, a));
  }
}

TEST(Types, Text) { EXPECT_EQ((TensorType{DType::kBF16, {1, 1024}}).ToString(), "bf16[1,1024]"); }

}  // namespace
}  // namespace tessera
