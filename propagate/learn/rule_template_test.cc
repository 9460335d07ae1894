#include "propagate/learn/rule_template.h"

#include "gtest/gtest.h"
#include "propagate/learn/small_shapes.h"
#include "propagate/testing/boxes.h"

namespace tessera {
namespace {

Rule Parsed(const std::string& text) {
  StatusOr<Rule> rule = ParseRule(text);
  TES_CHECK(rule.ok(), rule.status());
  return *std::move(rule);
}

TEST(RuleTemplateTest, NumbersBecomeExtents) {
  const RuleTemplate concat = {{Parsed("rule concat: f32[5,6], f32[7,6] -> f32[12,6]\n"
                                       "  out0[a,b] <- in0[a,b]\n  out0[a,b] <- in1[a-5,b]\n"),
                                Parsed("rule concat: f32[6,8], f32[9,8] -> f32[15,8]\n"
                                       "  out0[a,b] <- in0[a,b]\n  out0[a,b] <- in1[a-6,b]\n")}};
  const std::optional<Rule> bound = concat.Bind(ConcatBox({{20, 3}, {30, 3}}));
  ASSERT_TRUE(bound.has_value());
  EXPECT_EQ(*bound, Parsed("rule concat: f32[20,3], f32[30,3] -> f32[50,3]\n"
                           "  out0[a,b] <- in0[a,b]\n  out0[a,b] <- in1[a-20,b]\n"));
  // Three operands are another op to it; so is an extent of 1, which would broadcast.
  EXPECT_FALSE(concat.Bind(ConcatBox({{20, 3}, {30, 3}, {2, 3}})).has_value());
  EXPECT_FALSE(concat.Bind(ConcatBox({{1, 3}, {30, 3}})).has_value());
}

TEST(RuleTemplateTest, WhatDidNotVaryStays) {
  const Rule first = Parsed("rule sum: f32[5,4] -> f32[5]\n  out0[a] <- in0[a,b]\n");
  const Rule second = Parsed("rule sum: f32[7,4] -> f32[7]\n  out0[a] <- in0[a,b]\n");
  EXPECT_TRUE(RuleTemplate({{first, second}}).Bind(SumBox({9, 4})).has_value());
  EXPECT_FALSE(RuleTemplate({{first, second}}).Bind(SumBox({9, 5})).has_value());
  EXPECT_TRUE(RuleTemplate({{first}}).Bind(SumBox({5, 4})).has_value());
  EXPECT_FALSE(RuleTemplate({{first}}).Bind(SumBox({6, 4})).has_value());
}

TEST(RuleTemplateTest, TablesHoldForTheirShapes) {
  const RuleTemplate table = {
      {Parsed("rule reflect: f32[3] -> f32[5]\n  out0[a] <- in0[b] for b in table(a) "
              "{1:2, 0:1, 1:2, 2:3, 1:2}\n")}};
  EXPECT_TRUE(table.Bind(ReflectBox(1, {3})).has_value());
  EXPECT_FALSE(table.Bind(ReflectBox(1, {4})).has_value());
}

// -4 and -6 are twice the rows and once the columns, negative: elsewhere these are two numbers.
TEST(RuleTemplateTest, WhatCouldBeTwoThingsIsNeither) {
  const RuleTemplate tile = {{Parsed("rule tile: f32[2,4] -> f32[6,4]\n  out0[a,b] <- in0[a+2*c-4,b] for c < 3\n"),
                              Parsed("rule tile: f32[3,6] -> f32[9,6]\n  out0[a,b] <- in0[a+3*c-6,b] for c < 3\n")}};
  BlackBox box;
  box.name = "tile";
  box.inputs = {TensorType{DType::kF32, {3, 7}}};
  box.outputs = {TensorType{DType::kF32, {9, 7}}};
  EXPECT_FALSE(tile.Bind(box).has_value());
}

TEST(SmallShapesTest, TellsWhatIsTied) {
  // All extents are equal; what belongs together the op says.
  const StatusOr<SmallShapes> small = FindSmallShapes(MatmulBox({768, 768}, {768, 768}));
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->ties.size(), 3);
  for (const BlackBox* box : {&small->first, &small->second}) {
    const Shape &a = box->inputs[0]->shape, &b = box->inputs[1]->shape;
    EXPECT_EQ(a[1], b[0]);
    EXPECT_LE(a.num_elements() + b.num_elements(), 300);
  }
  // Each extent is told from the others by its two sizes.
  const Shape &a = small->first.inputs[0]->shape, &b = small->second.inputs[0]->shape;
  EXPECT_NE(std::pair(a[0], b[0]), std::pair(a[1], b[1]));
}

TEST(SmallShapesTest, KeepsOnesAndWhatCannotChange) {
  // 16 groups: the channels are 16 whatever else is.
  const StatusOr<SmallShapes> small =
      FindSmallShapes(ConvBox({.pad = 1, .groups = 16}, {1, 16, 90, 80}, {16, 1, 3, 3}));
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->first.inputs[0]->shape[0], 1);
  EXPECT_EQ(small->first.inputs[1]->shape[1], 1);
  EXPECT_EQ(small->first.inputs[0]->shape[1], 16);
  EXPECT_LT(small->second.inputs[0]->shape[2], 20);
  // Outputs differ from one instance to the other.
  EXPECT_NE(small->first.outputs[0].shape[2], small->second.outputs[0].shape[2]);
  EXPECT_FALSE(FindSmallShapes(ReshapeBox({4, 6}, {8, 3})).ok());
}

}  // namespace
}  // namespace tessera
