#include "propagate/learn/probe.h"

#include <cmath>

#include "gtest/gtest.h"
#include "propagate/testing/boxes.h"

namespace tessera {
namespace {

TEST(TrialsTest, IsTheLeastCountThatKeepsTheBound) {
  EXPECT_EQ(Trials(1, 0.5, 0.5), 1);
  EXPECT_EQ(Trials(1, 0.5, 1e-9), 30);     // 2^-30 < 1e-9 < 2^-29
  EXPECT_EQ(Trials(1024, 0.5, 1e-9), 40);  // ten more for 1024 tests
  EXPECT_EQ(Trials(1, 0.9, 1e-9 * 1.01), 9);
  EXPECT_EQ(Trials(100, 1, 1e-9), 1);  // a spike always shows
  for (double shows : {0.2, 0.5, 0.9}) {
    const int trials = Trials(5000, shows, 1e-9);
    EXPECT_LE(5000 * std::pow(1 - shows, trials), 1e-9);
    EXPECT_GT(5000 * std::pow(1 - shows, trials - 1), 1e-9);
  }
}

std::vector<Group> Singles(int64_t count) {
  std::vector<Group> groups;
  for (int64_t e = 0; e < count; ++e) groups.push_back({e});
  return groups;
}

TEST(ProberTest, MeasuresADiagonal) {
  const BlackBox box = MapBox("relu", {7}, [](double x) { return std::max(x, 0.0); });
  Prober prober(box, 3);
  const Footprints f = prober.Measure(0, Singles(7), Held(1));
  for (int64_t i = 0; i < 7; ++i) {
    for (int64_t j = 0; j < 7; ++j) EXPECT_EQ(f.moved[i][j], i == j) << i << " " << j;
  }
  EXPECT_FALSE(f.kinds.empty());
  EXPECT_LE(f.error_bound, 1e-9);
}

TEST(ProberTest, SpikesShowWhatSelects) {
  // The maximum of a row of 64: at random one element in 64 shows.
  const BlackBox box = MaxPoolBox(8, 8, {1, 8, 8});
  Prober prober(box, 3);
  const Footprints f = prober.Measure(0, Singles(64), Held(1));
  for (int64_t i = 0; i < 64; ++i) EXPECT_TRUE(f.moved[i][0]) << i;
  EXPECT_EQ(f.kinds, std::vector<ProbeKind>{ProbeKind::kSpike});
}

TEST(ProberTest, HeldElementsStay) {
  const BlackBox box = BinaryBox("mul", {5}, {5}, [](double x, double y) { return x * y; });
  Prober prober(box, 3);
  Held held(2);
  held.Set(box, 1, 2, 0);
  const Footprints f = prober.Measure(0, Singles(5), held);
  for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(f.moved[i][i], i != 2) << i;
}

TEST(ProberTest, SpikesAreLargeNextToWhatIsHeld) {
  const BlackBox box = BinaryBox("max", {3}, {3}, [](double x, double y) { return std::max(x, y); });
  Prober prober(box, 3);
  Held held(2);
  for (int64_t e = 0; e < 3; ++e) held.Set(box, 1, e, 1e9);
  const Footprints f = prober.Measure(0, Singles(3), held);
  for (int64_t i = 0; i < 3; ++i) EXPECT_TRUE(f.moved[i][i]);
}

TEST(ProberTest, SameSeedSameRuns) {
  const BlackBox box = SoftmaxBox({3, 5});
  Prober a(box, 11), b(box, 11), c(box, 12);
  EXPECT_EQ(a.RunBase(ProbeKind::kSmooth, 0, Held(1)), b.RunBase(ProbeKind::kSmooth, 0, Held(1)));
  EXPECT_NE(a.RunBase(ProbeKind::kSmooth, 0, Held(1)), c.RunBase(ProbeKind::kSmooth, 0, Held(1)));
}

TEST(ProberTest, IntegersStayInTheirRange) {
  BlackBox box = GatherBox({3, 4}, {6});
  box.integer_ranges = {std::nullopt, std::pair<int64_t, int64_t>{1, 3}};
  box.run = [](std::span<const RefTensor* const> in, std::span<RefTensor> out) {
    for (int64_t index : in[1]->i) {
      ASSERT_GE(index, 1);
      ASSERT_LT(index, 3);
    }
    for (int64_t k = 0; k < out[0].size(); ++k) out[0].f[k] = in[0]->f[in[1]->i[k / 4] * 4 + k % 4];
  };
  Prober prober(box, 5);
  const Footprints f = prober.Measure(0, Singles(12), Held(2));
  for (int64_t i = 0; i < 12; ++i) {
    for (int64_t j = 0; j < 24; ++j) EXPECT_EQ(f.moved[i][j], i >= 4 && i % 4 == j % 4) << i << " " << j;
  }
}

}  // namespace
}  // namespace tessera
