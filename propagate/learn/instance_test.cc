#include <random>

#include "gtest/gtest.h"
#include "propagate/learn/scramble.h"
#include "propagate/testing/boxes.h"

namespace tessera {
namespace {

constexpr uint8_t kZero = 0, kConstant = 1, kUnknown = 2;

Known Facts(const Shape& shape, const std::vector<uint8_t>& kinds, std::vector<double> values = {}) {
  values.resize(kinds.size());
  return Known::FromElements({DType::kF32, shape}, kinds, values);
}

std::vector<uint8_t> KindsOf(const Known& known) { return known.kind.Elements(); }

TEST(InstanceTest, MatmulForwardAndBackward) {
  const InstanceTransfer transfer(MatmulBox({3, 4}, {4, 5}));
  std::mt19937_64 rng(4);
  for (int round = 0; round < 10; ++round) {
    std::vector<uint8_t> a(12, kUnknown), b(20, kUnknown), live(15, 1);
    for (auto* kinds : {&a, &b}) {
      for (uint8_t& kind : *kinds) kind = rng() % 2 == 0 ? kZero : kUnknown;
    }
    for (uint8_t& l : live) l = rng() % 3 != 0;
    const Known x = Facts({3, 4}, a), w = Facts({4, 5}, b);
    const Known* in[] = {&x, &w};
    const StatusOr<std::vector<Known>> out = transfer.Forward(in);
    ASSERT_TRUE(out.ok());
    const Needed needed = Needed::FromElements({3, 5}, live);
    const Needed* outs[] = {&needed};
    const StatusOr<Needed> of_x = transfer.Backward(0, in, outs);
    ASSERT_TRUE(of_x.ok());
    std::vector<uint8_t> expected(15, kZero), expected_live(12, 0);
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 5; ++j) {
        for (int k = 0; k < 4; ++k) {
          const bool z = b[k * 5 + j] != kZero;
          if (z && a[i * 4 + k] != kZero) expected[i * 5 + j] = kUnknown;
          if (z && live[i * 5 + j]) expected_live[i * 4 + k] = 1;
        }
      }
    }
    EXPECT_EQ(KindsOf((*out)[0]), expected);
    EXPECT_EQ(of_x->live.Elements(), expected_live);
  }
}

TEST(InstanceTest, ConstantsKeepTheirValues) {
  const InstanceTransfer add(BinaryBox("add", {4}, {4}, [](double x, double y) { return x + y; }));
  const Known x = Facts({4}, {kConstant, kZero, kUnknown, kZero}, {2, 0, 0, 0});
  const Known y = Facts({4}, {kConstant, kConstant, kZero, kZero}, {3, -1, 0, 0});
  const Known* in[] = {&x, &y};
  const StatusOr<std::vector<Known>> out = add.Forward(in);
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(KindsOf((*out)[0]), (std::vector<uint8_t>{kConstant, kConstant, kUnknown, kZero}));
  EXPECT_EQ((*out)[0].ValueAt(std::vector<int64_t>{0}), 5);
  EXPECT_EQ((*out)[0].ValueAt(std::vector<int64_t>{1}), -1);
}

TEST(InstanceTest, NoRelationFitsButTheInstanceDoes) {
  const InstanceTransfer transfer(CheckerboardBox({3, 4}));
  const Known unknown = Facts({3, 4}, std::vector<uint8_t>(12, kUnknown));
  const Known zero = Facts({3, 4}, std::vector<uint8_t>(12, kZero));
  const Needed all = Needed::All({3, 4});
  const Needed* outs[] = {&all};
  const Known* in[] = {&unknown, &unknown};
  const StatusOr<Needed> of_b = transfer.Backward(1, in, outs);
  ASSERT_TRUE(of_b.ok());
  const Known* from_b[] = {&zero, &unknown};
  const StatusOr<std::vector<Known>> out = transfer.Forward(from_b);
  ASSERT_TRUE(out.ok());
  for (int64_t k = 0; k < 12; ++k) {
    const bool black = (k / 4 + k % 4) % 2 == 0;
    EXPECT_EQ(of_b->live.Elements()[k], black) << k;
    EXPECT_EQ(KindsOf((*out)[0])[k], black ? kUnknown : kZero) << k;
  }
}

// The traps: a softmax, whose all-ones gradient is 0, and windows whose elements are rarely the largest.
TEST(InstanceTest, LiveElementsAreNeverDead) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    for (const BlackBox& box : {SoftmaxBox({4, 6}), MaxPoolBox(3, 3, {1, 6, 6}), LayerNormBox({4, 6}),
                                MapBox("relu6", {30}, [](double x) { return std::clamp(x, 0.0, 6.0); })}) {
      const InstanceTransfer transfer(box, {.seed = seed});
      std::vector<Known> known;
      for (const auto& type : box.inputs) known.push_back(Known::Unknown(*type));
      std::vector<const Known*> in;
      for (const Known& k : known) in.push_back(&k);
      const Needed all = Needed::All(box.outputs[0].shape);
      const Needed* outs[] = {&all};
      const StatusOr<Needed> needed = transfer.Backward(0, in, outs);
      ASSERT_TRUE(needed.ok());
      EXPECT_TRUE(needed->all_live()) << box.name << " " << needed->ToString();
      const StatusOr<std::vector<Known>> out = transfer.Forward(in);
      ASSERT_TRUE(out.ok());
      EXPECT_TRUE((*out)[0].nothing_known()) << box.name;
    }
  }
}

TEST(InstanceTest, WhatOnlyThisInstanceKnows) {
  // Softmax over one element is 1, whatever it is.
  const InstanceTransfer transfer(SoftmaxBox({4, 1}));
  const Known x = Known::Unknown({DType::kF32, {4, 1}});
  const Known* in[] = {&x};
  const StatusOr<std::vector<Known>> out = transfer.Forward(in);
  ASSERT_TRUE(out.ok());
  EXPECT_EQ((*out)[0].CountOf(Certainty::kConstant), 4);
}

TEST(InstanceTest, StructuredAnswersTakeFewRuns) {
  // Of 4096 columns 512 are dead: far fewer runs than elements.
  int64_t runs = 0;
  BlackBox box = MapBox("first", {8, 64}, [](double x) { return x; });
  const auto run = box.run;
  box.run = [&runs, run](auto in, auto out) {
    ++runs;
    run(in, out);
  };
  std::vector<uint8_t> live(512, 0);
  for (int64_t k = 0; k < 512; ++k) live[k] = k % 64 < 2;
  const InstanceTransfer transfer(box);
  const Known x = Known::Unknown({DType::kF32, {8, 64}});
  const Known* in[] = {&x};
  const Needed needed = Needed::FromElements({8, 64}, live);
  const Needed* outs[] = {&needed};
  const StatusOr<Needed> of_x = transfer.Backward(0, in, outs);
  ASSERT_TRUE(of_x.ok());
  EXPECT_EQ(*of_x, needed);
  EXPECT_LT(runs, 5000);
  EXPECT_FALSE(transfer.WhyDead(0, 5, in, outs).empty());
  EXPECT_TRUE(transfer.WhyDead(0, 1, in, outs).empty());
}

}  // namespace
}  // namespace tessera
