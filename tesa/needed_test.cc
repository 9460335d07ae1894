#include "tesa/needed.h"

#include <algorithm>
#include <random>

#include "gtest/gtest.h"
#include "tesa/describe.h"

namespace tessera {
namespace {

TEST(NeededTest, AllAndNothing) {
  const Needed all = Needed::All({3, 4}, 8), nothing = Needed::Nothing({3, 4});
  EXPECT_TRUE(all.all_live() && !all.none_live() && all.at(std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(nothing.none_live() && !nothing.all_live());
  EXPECT_EQ(all.num_live(), 12);
  EXPECT_EQ(nothing.bits, 0);
  EXPECT_EQ(all.bits, 8);
  EXPECT_EQ(Needed::All({}).num_live(), 1);
  EXPECT_EQ(Needed::All({0, 4}).num_live(), 0);
  EXPECT_EQ(Needed::FromElements({2}, std::vector<uint8_t>{0, 0}, 32), Needed::Nothing({2}));
}

TEST(NeededTest, JoinIsAliveForEither) {
  std::mt19937 rng(1);
  for (int trial = 0; trial < 200; ++trial) {
    const Shape shape = {static_cast<int64_t>(rng() % 5), static_cast<int64_t>(1 + rng() % 6)};
    std::vector<uint8_t> x(static_cast<size_t>(shape.num_elements())), y = x, both = x;
    const uint32_t some = rng() % 3, other = rng() % 3;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = rng() % 3 < some ? static_cast<uint8_t>(1 + rng() % 2) : 0;
      y[i] = rng() % 3 < other;
      both[i] = x[i] != 0 || y[i] != 0;
    }
    const Needed a = Needed::FromElements(shape, x, 4), b = Needed::FromElements(shape, y, 9);
    const Needed joined = Join(a, b);
    EXPECT_EQ(joined.live.Elements(), both);
    EXPECT_EQ(joined.num_live(), std::count(both.begin(), both.end(), 1));
    EXPECT_EQ(joined.bits, std::max(a.bits, b.bits));
    EXPECT_EQ(joined, Join(b, a));
    EXPECT_EQ(Join(joined, a), joined);
  }
}

TEST(NeededTest, ForPeople) {
  EXPECT_EQ(Needed::All({3}).ToString(), "live");
  EXPECT_EQ(Needed::Nothing({3}).ToString(), "dead");
  EXPECT_EQ(Needed::FromElements({2, 3}, std::vector<uint8_t>{1, 0, 1, 1, 0, 1}, 8).ToString(),
            "live but for columns {1}, 8 bits");
  EXPECT_EQ(Needed::FromElements({2, 2}, std::vector<uint8_t>{1, 0, 1, 1}).ToString(), "live but for 1 of 4 elements");
  EXPECT_EQ(DescribeIndices(std::vector<int64_t>{0, 4, 5, 6, 9, 10}), "{0, 4-6, 9, 10}");
  EXPECT_EQ(DescribeIndices(std::vector<int64_t>{0, 2, 4, 6}, 2), "{0, 2, … (4 in all)}");
  EXPECT_EQ(DescribeIndices({}), "{}");
}

}  // namespace
}  // namespace tessera
