#include "propagate/learn/scramble.h"

#include <cmath>

#include "gtest/gtest.h"
#include "propagate/testing/boxes.h"

namespace tessera {
namespace {

// The clauses of the rule that is learned under several seeds; all have to agree.
std::string Learned(const BlackBox& box) {
  std::string first;
  for (uint64_t seed : {1, 7, 99}) {
    const StatusOr<Rule> rule = LearnRule(box, {.seed = seed});
    if (!rule.ok()) return rule.status().ToString();
    EXPECT_TRUE(rule->Verify().ok());
    std::string text = rule->ToString();
    text = text.substr(text.find('\n') + 1);
    if (first.empty()) first = text;
    EXPECT_EQ(text, first) << box.name << ", seed " << seed;
  }
  return first;
}

std::string Lines(std::initializer_list<std::string> lines) {
  std::string text;
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text;
}

TEST(ScrambleTest, Contractions) {
  EXPECT_EQ(Learned(MatmulBox({128, 768}, {768, 768})),
            Lines({"out0[a,b] <- in0[a,c]  unless in1[c,b] = 0", "out0[a,b] <- in1[c,b]  unless in0[a,c] = 0"}));
  EXPECT_EQ(Learned(ConvBox({.stride = 2, .pad = 1}, {1, 64, 56, 56}, {128, 64, 3, 3})),
            Lines({"out0[0,a,b,c] <- in0[0,d,2*b+e-1,2*c+f-1] for e < 3, f < 3  unless in1[a,d,e,f] = 0",
                   "out0[0,a,b,c] <- in1[a,d,e,f]  unless in0[0,d,2*b+e-1,2*c+f-1] = 0"}));
  EXPECT_EQ(Learned(ConvBox({.dilation = 2}, {2, 5, 17, 16}, {6, 5, 3, 2})),
            Lines({"out0[a,b,c,d] <- in0[a,e,c+2*f,d+2*g] for f < 3, g < 2  unless in1[b,e,f,g] = 0",
                   "out0[a,b,c,d] <- in1[b,e,f,g]  unless in0[a,e,c+2*f,d+2*g] = 0"}));
}

TEST(ScrambleTest, GroupsAreFound) {
  EXPECT_EQ(Learned(ConvBox({.pad = 1, .groups = 16}, {1, 16, 9, 9}, {16, 1, 3, 3})),
            Lines({"out0[0,a,b,c] <- in0[0,a,b+d-1,c+e-1] for d < 3, e < 3  unless in1[a,0,d,e] = 0",
                   "out0[0,a,b,c] <- in1[a,0,d,e]  unless in0[0,a,b+d-1,c+e-1] = 0"}));
  // 3 groups of 2 -> 4 channels: whatever the text, it is the relation of the groups.
  const StatusOr<Rule> rule = LearnRule(ConvBox({.groups = 3}, {1, 6, 6, 6}, {12, 2, 3, 3}));
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_NE(rule->ToString().find("unless"), std::string::npos);
}

TEST(ScrambleTest, ElementWiseAndReductions) {
  EXPECT_EQ(Learned(MapBox("relu", {5, 300}, [](double x) { return std::max(x, 0.0); })),
            Lines({"out0[a,b] <- in0[a,b]"}));
  EXPECT_EQ(Learned(BinaryBox("add", {5, 300}, {300}, [](double x, double y) { return x + y; })),
            Lines({"out0[a,b] <- in0[a,b]", "out0[*,a] <- in1[a]"}));
  EXPECT_EQ(Learned(BinaryBox("mul", {5, 300}, {5, 1}, [](double x, double y) { return x * y; })),
            Lines({"out0[a,b] <- in0[a,b]  unless in1[a,0] = 0", "out0[a,b] <- in1[a,0]  unless in0[a,b] = 0"}));
  EXPECT_EQ(Learned(SumBox({50, 30})), Lines({"out0[a] <- in0[a,*]"}));
  EXPECT_EQ(Learned(ProductBox({50, 30})), Lines({"out0[a] <- in0[a,*]  unless in0[a,b] = 0 for any b"}));
  EXPECT_EQ(Learned(WhereBox({5, 300})), Lines({"out0[a,b] <- in0[a,b]", "out0[a,b] <- in1[a,b]  unless in0[a,b] = 0",
                                                "out0[a,b] <- in2[a,b]  unless in0[a,b] = 1"}));
}

TEST(ScrambleTest, Movement) {
  EXPECT_EQ(Learned(TransposeBox({50, 30})), Lines({"out0[a,b] <- in0[b,a]"}));
  EXPECT_EQ(Learned(ConcatBox({{20, 9}, {30, 9}, {7, 9}})),
            Lines({"out0[a,b] <- in0[a,b]", "out0[a,b] <- in1[a-20,b]", "out0[a,b] <- in2[a-50,b]"}));
  EXPECT_EQ(Learned(PadBox(3, 2, {100})), Lines({"out0[a] <- in0[a-3]"}));
  EXPECT_EQ(Learned(SliceBox(4, 3, 5, {40, 20})), Lines({"out0[a,b] <- in0[3*a+4,b]"}));
  EXPECT_EQ(Learned(ReshapeBox({12, 10}, {8, 15})), Lines({"out0[a,b] <- in0:[8,15][a,b]"}));
  EXPECT_EQ(Learned(GatherBox({1000, 16}, {12})),
            Lines({"out0[a,b] <- in0[value in1[a],b]", "out0[a,b] <- in1[a]  unless in0[*,b] = 0"}));
}

TEST(ScrambleTest, OpsOfNoTable) {
  EXPECT_EQ(Learned(CumsumBox({6, 40})), Lines({"out0[a,b] <- in0[a,b+c-39] for c < 40"}));
  EXPECT_EQ(Learned(BandedBox(2, {20, 20}, {20, 9})),
            Lines({"out0[a,b] <- in0[a,a+c-2] for c < 5  unless in1[a+c-2,b] = 0",
                   "out0[a,b] <- in1[a+c-2,b] for c < 5  unless in0[a,a+c-2] = 0"}));
  EXPECT_EQ(Learned(RollBox(3, {40})), Lines({"out0[a] <- in0[a+40*b-3] for b < 2"}));
  // Of one shape only: a table.
  EXPECT_NE(Learned(ReflectBox(2, {9})).find("table"), std::string::npos);
  // Neither: that is for InstanceTransfer.
  const StatusOr<Rule> none = LearnRule(CheckerboardBox({6, 8}));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), ErrorCode::kRuleNotLearned);
  EXPECT_NE(none.status().message().find("in1"), std::string::npos) << none.status();
}

// What the published method marks dead and is not (facts 2.3).
TEST(ScrambleTest, TrapsOfThePublishedMethod) {
  // An all-ones gradient of softmax and of norms is zero.
  EXPECT_EQ(Learned(SoftmaxBox({9, 64})), Lines({"out0[a,*] <- in0[a,*]"}));
  EXPECT_EQ(Learned(LayerNormBox({9, 64})), Lines({"out0[a,b] <- in0[a,*]  unless in1[b] = 0",
                                                   "out0[a,b] <- in1[b]  unless in0[a,*] = 0", "out0[*,a] <- in2[a]"}));
  // An element that is never the largest at random: spikes make it so.
  EXPECT_EQ(Learned(MaxPoolBox(3, 1, {2, 9, 9})), Lines({"out0[a,b,c] <- in0[a,b+d,c+e] for d < 3, e < 3"}));
  EXPECT_EQ(Learned(MaxPoolBox(2, 2, {2, 8, 8})), Lines({"out0[a,b,c] <- in0:[2,4,2,4,2][a,b,*,c,*]"}));
  // Clipped almost everywhere.
  EXPECT_EQ(Learned(MapBox("clip", {70}, [](double x) { return std::clamp(x, 100.0, 106.0); })),
            Lines({"out0[a] <- in0[a]"}));
  // Far below any threshold, and lost in half precision but for a few bits.
  EXPECT_EQ(Learned(MapBox("tiny", {70}, [](double x) { return 1e-30 * x; })), Lines({"out0[a] <- in0[a]"}));
  EXPECT_EQ(Learned(MapBox("half", {70}, [](double x) { return std::round(8 * x) / 8; })),
            Lines({"out0[a] <- in0[a]"}));
  // NaN only.
  EXPECT_EQ(Learned(MapBox("is_nan", {70}, [](double x) { return std::isnan(x) ? 1.0 : 0.0; })),
            Lines({"out0[a] <- in0[a]"}));
}

TEST(ScrambleTest, StatisticsStateTheBound) {
  ScrambleStats stats;
  ASSERT_TRUE(LearnRule(MatmulBox({12, 30}, {30, 20}), {}, &stats).ok());
  EXPECT_GT(stats.runs, 100);
  EXPECT_GE(stats.trials, 10);
  EXPECT_LE(stats.error_bound, 1e-9);
  ScrambleStats again;
  ASSERT_TRUE(LearnRule(MatmulBox({12, 30}, {30, 20}), {}, &again).ok());
  EXPECT_EQ(stats.runs, again.runs);
}

TEST(RuleCacheTest, LearnsOnceAndReadsBack) {
  RuleCache cache;
  ScrambleStats stats;
  const BlackBox small = MatmulBox({12, 30}, {30, 20}), large = MatmulBox({3000, 1000}, {1000, 77});
  EXPECT_FALSE(cache.Find(small).has_value());
  const StatusOr<Rule> learned = cache.FindOrLearn(small, {}, &stats);
  ASSERT_TRUE(learned.ok()) << learned.status();
  const std::optional<Rule> bound = cache.Find(large);
  ASSERT_TRUE(bound.has_value());
  EXPECT_EQ(bound->outputs[0].shape, (Shape{3000, 77}));
  const StatusOr<Rule> fresh = LearnRule(large);
  ASSERT_TRUE(fresh.ok());
  EXPECT_EQ(*bound, *fresh);
  ASSERT_TRUE(cache.FindOrLearn(ReflectBox(2, {9}), {}).ok());

  RuleCache other;
  ASSERT_TRUE(other.Parse(cache.ToString()).ok());
  EXPECT_EQ(other.ToString(), cache.ToString());
  EXPECT_EQ(other.Find(large), bound);
  EXPECT_TRUE(other.Find(ReflectBox(2, {9})).has_value());
  EXPECT_FALSE(other.Find(ReflectBox(2, {10})).has_value());

  EXPECT_EQ(other.Parse("rule cut off").code(), ErrorCode::kTextInvalid);
  EXPECT_EQ(other.ToString(), cache.ToString());
}

}  // namespace
}  // namespace tessera
