#include "propagate/learn/fit.h"

#include <algorithm>
#include <functional>
#include <random>

#include "gtest/gtest.h"
#include "propagate/learn/footprint.h"

namespace tessera {
namespace {

AxisPair PairOf(int64_t out, int64_t in, const std::function<bool(int64_t o, int64_t i)>& meets) {
  AxisPair pair = {
      .out = out, .in = in, .meets = std::vector<uint8_t>(out * in, 0), .seen = std::vector<uint8_t>(in, 1)};
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; ++o) pair.meets[i * out + o] = meets(o, i);
  }
  return pair;
}

TEST(FormTest, Windows) {
  for (int64_t stride : {1, 2, 3}) {
    for (int64_t dilation : {1, 2}) {
      const AxisForm form = FormOf(PairOf(6, 6 * stride + 3, [&](int64_t o, int64_t i) {
        const int64_t tap = i - stride * o + 1;
        return tap >= 0 && tap % dilation == 0 && tap / dilation < 3;
      }));
      EXPECT_EQ(form.kind, AxisForm::Kind::kWindow);
      EXPECT_EQ(form.scale, stride);
      EXPECT_EQ(form.step, dilation);
      EXPECT_EQ(form.taps, 3);
      EXPECT_EQ(form.offset, -1);
    }
  }
}

TEST(FormTest, FlipsRollsSumsAndPools) {
  AxisForm form = FormOf(PairOf(7, 7, [](int64_t o, int64_t i) { return i == 6 - o; }));
  EXPECT_EQ(form.scale, -1);
  EXPECT_EQ(form.offset, 6);
  form = FormOf(PairOf(7, 7, [](int64_t o, int64_t i) { return i == (o + 2) % 7; }));
  EXPECT_EQ(form.taps, 2);
  EXPECT_EQ(form.step, 7);
  form = FormOf(PairOf(7, 7, [](int64_t o, int64_t i) { return i <= o; }));
  EXPECT_EQ(form.taps, 7);
  EXPECT_EQ(form.offset, -6);
  form = FormOf(PairOf(4, 8, [](int64_t o, int64_t i) { return i / 2 == o; }));
  EXPECT_EQ(form.kind, AxisForm::Kind::kWindow);
  EXPECT_EQ(form.scale, 2);
  EXPECT_EQ(form.taps, 2);
}

TEST(FormTest, BlocksSpreadsAndTables) {
  AxisForm form = FormOf(PairOf(12, 6, [](int64_t o, int64_t i) { return o / 4 == i / 2; }));
  EXPECT_EQ(form.kind, AxisForm::Kind::kBlock);
  EXPECT_EQ(form.groups, 3);
  form = FormOf(PairOf(13, 6, [](int64_t o, int64_t i) { return o - 2 * i >= 0 && o - 2 * i < 3; }));
  EXPECT_EQ(form.kind, AxisForm::Kind::kSpread);
  EXPECT_EQ(form.scale, 2);
  EXPECT_EQ(form.taps, 3);
  form = FormOf(PairOf(5, 4, [](int64_t o, int64_t i) { return i == (o == 0 ? 2 : o == 3 ? 3 : o / 4); }));
  EXPECT_EQ(form.kind, AxisForm::Kind::kTable);
}

TEST(FitIndexTest, TwoVariablesAndTheSimplest) {
  std::mt19937_64 rng(5);
  std::vector<std::vector<int64_t>> values;
  std::vector<int64_t> same, window;
  for (int n = 0; n < 60; ++n) {
    values.push_back(
        {static_cast<int64_t>(rng() % 5), static_cast<int64_t>(rng() % 7), static_cast<int64_t>(rng() % 3)});
    same.push_back(values.back()[1]);
    window.push_back(2 * values.back()[1] + 3 * values.back()[2] - 1);
  }
  EXPECT_EQ(FitIndex(values, same, {5, 7, 3}, 7), Variable(1));
  const std::optional<RuleIndex> fitted = FitIndex(values, window, {5, 7, 3}, 20);
  ASSERT_TRUE(fitted.has_value());
  EXPECT_EQ(fitted->offset, -1);
  EXPECT_EQ(fitted->terms, (std::vector<RuleIndex::Term>{{1, 2}, {2, 3}}));
  window[7] += 1;
  EXPECT_FALSE(FitIndex(values, window, {5, 7, 3}, 20).has_value());
}

// Rows of a random clause, fitted, give the rows back.
TEST(FitClauseTest, GivesBackWhatItWasGiven) {
  std::mt19937_64 rng(9);
  for (int round = 0; round < 200; ++round) {
    // Up to 3 output axes; input axes are some of them, shifted and in any order, and free ones.
    Rule rule = {.name = "random"};
    Clause clause;
    std::vector<int64_t> out, in;
    const int rank = 1 + static_cast<int>(rng() % 3);
    for (int a = 0; a < rank; ++a) out.push_back(2 + static_cast<int64_t>(rng() % 5));
    clause.extents = out;
    clause.out = Straight(Shape(out));
    std::vector<int> order;
    for (int a = 0; a < rank; ++a) order.push_back(a);
    std::shuffle(order.begin(), order.end(), rng);
    for (int a : order) {
      const int what = static_cast<int>(rng() % 4);
      if (what == 0) continue;
      const int64_t stride = what == 3 ? 2 : 1, shift = what == 2 ? static_cast<int64_t>(rng() % 2) : 0;
      in.push_back(stride * out[a] + 1);
      clause.in.index.push_back(Variable(a, stride, shift));
    }
    if (rng() % 2 == 0) {
      in.push_back(3);
      clause.extents.push_back(3);
      clause.in.index.push_back(Variable(rank));
    }
    clause.in.view = Shape(in);
    rule.inputs = {{DType::kF32, Shape(in)}};
    rule.outputs = {{DType::kF32, Shape(out)}};
    rule.clauses = {clause};
    ASSERT_TRUE(rule.Verify().ok());
    const Held nothing(1);
    const Footprint footprint(rule, nothing);
    Rows rows;
    for (int64_t e = 0; e < Shape(in).num_elements(); ++e) {
      const std::vector<uint8_t> moved = footprint.Forward(0, e);
      rows.in.push_back(e);
      rows.out.emplace_back();
      for (size_t j = 0; j < moved.size(); ++j) {
        if (moved[j]) rows.out.back().push_back(static_cast<int64_t>(j));
      }
    }
    const StatusOr<Fitted> fitted = FitClause(0, 0, rows, {.out_view = Shape(out), .in_view = Shape(in)});
    ASSERT_TRUE(fitted.ok()) << rule.ToString() << fitted.status();
    if (fitted->clause.extents.empty() && !fitted->split_in.empty()) continue;
    Rule again = rule;
    again.clauses = {fitted->clause};
    const Footprint same(again, nothing);
    for (int64_t e = 0; e < Shape(in).num_elements(); ++e) {
      ASSERT_EQ(same.Forward(0, e), footprint.Forward(0, e)) << rule.ToString() << again.ToString();
    }
  }
}

TEST(FootprintTest, HeldElementsAnnihilateAndAreLookedUp) {
  const StatusOr<Rule> rule = ParseRule(
      "rule gather: f32[3,2], i64[4] -> f32[4,2]\n  out0[a,b] <- in0[value in1[a],b]\n  out0[a,*] <- in1[a]\n");
  ASSERT_TRUE(rule.ok()) << rule.status();
  BlackBox box;
  box.inputs = {TensorType{DType::kF32, {3, 2}}, TensorType{DType::kI64, {4}}};
  Held held(2);
  held.Set(box, 1, 0, 2);
  held.Set(box, 1, 1, -1);  // counts from the end
  held.Set(box, 1, 2, 5);   // out of range
  const Footprint f(*rule, held);
  EXPECT_EQ(f.Forward(0, 4), (std::vector<uint8_t>{1, 0, 1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(f.Forward(0, 0), (std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 1, 0}));
  EXPECT_EQ(f.Backward(0, 7, 0), (std::vector<uint8_t>{0, 1, 0, 1, 0, 1}));
}

}  // namespace
}  // namespace tessera
