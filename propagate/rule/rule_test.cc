// Tests rules as values: the text form and back, the normal form, and what Verify rejects. That the normal form means
// the same as what it came from is tested element by element in apply_test.cc.
#include "propagate/rule/rule.h"

#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// The text reads back, prints as `canonical`, and that reads back exactly.
void ExpectCanonical(const std::string& text, const std::string& canonical) {
  ASSERT_OK_AND_ASSIGN(const Rule rule, ParseRule(text));
  EXPECT_EQ(rule.ToString(), canonical);
  ASSERT_OK_AND_ASSIGN(const Rule again, ParseRule(canonical));
  EXPECT_TRUE(again == Canonical(rule)) << again.ToString();
  EXPECT_TRUE(Canonical(again) == again) << again.ToString();
}
void ExpectExact(const std::string& text) { ExpectCanonical(text, text); }

constexpr char kMatmul[] =
    "rule matmul: f32[7,5], f32[5,3] -> f32[7,3]\n"
    "  out0[a,b] <- in0[a,c]  unless in1[c,b] = 0\n"
    "  out0[a,b] <- in1[c,b]  unless in0[a,c] = 0\n";

TEST(RuleText, MatmulIsWrittenAsInTheHeader) {
  const Shape x = {7, 5}, w = {5, 3}, y = {7, 3};
  const RuleAccess at_x{x, {Variable(0), Variable(2)}}, at_w{w, {Variable(2), Variable(1)}};
  Rule rule{.name = "matmul", .inputs = {{DType::kF32, x}, {DType::kF32, w}}, .outputs = {{DType::kF32, y}}};
  rule.clauses = {{.output = 0,
                   .input = 1,
                   .extents = {7, 3, 5},
                   .out = Straight(y),
                   .in = at_w,
                   .unless = {{.input = 0, .at = at_x}}},
                  {.output = 0,
                   .input = 0,
                   .extents = {7, 3, 5},
                   .out = Straight(y),
                   .in = at_x,
                   .unless = {{.input = 1, .at = at_w}}}};
  ASSERT_OK(rule.Verify());
  EXPECT_EQ(rule.ToString(), kMatmul);
  ASSERT_OK_AND_ASSIGN(const Rule parsed, ParseRule(kMatmul));
  EXPECT_EQ(parsed, Canonical(rule));
}

TEST(RuleText, EveryFormReadsBackAsItIsPrinted) {
  ExpectExact(kMatmul);
  ExpectExact("rule softmax: f32[4,6] -> f32[4,6]\n  out0[a,*] <- in0[a,*]\n");
  ExpectExact("rule pool: f32[2,3,9] -> f32[2,3,5]\n  out0[a,b,c] <- in0[a,b,2*c+d-1] for d < 3\n");
  ExpectExact(
      "rule conv: f32[2,3,9], f32[4,3,3] -> f32[2,4,5]\n"
      "  out0[a,b,c] <- in0[a,d,2*c+e-1] for e < 3  unless in1[b,d,e] = 0\n"
      "  out0[a,b,c] <- in1[b,d,e]  unless in0[a,d,2*c+e-1] = 0\n");
  ExpectExact("rule gather: f32[9,4], i64[5] -> f32[5,4]\n  out0[a,b] <- in0[value in1[a],b]\n  out0[a,*] <- in1[a]\n");
  ExpectExact("rule resize: f32[3] -> f32[4]\n  out0[a] <- in0[b] for b in table(a) {0:1, 0:2, -, 0:1+2:3}\n");
  ExpectExact("rule \"odd {x = 1}\": bool[4], bool[4] -> bool[4]\n  out0[a] <- in0[a]  unless in1[a] = 1\n");
  ExpectExact(
      "rule two: f32[4], f32[4,5], bool[6] -> f32[4]\n"
      "  out0[a] <- in0[a]  unless in1[a,b] = 0 for all b < 3 or in1[a,*] = 0 or in2[b] = 1 for any b\n");
  ExpectExact("rule scalar: f32[], f32[1,3] -> f32[]\n  out0[] <- in0[]\n  out0[] <- in1[0,*]\n");
  ExpectExact("rule part: f32[9] -> f32[4]\n  out0[a] <- in0[2*a+1]\n");
  ExpectExact("rule short: f32[4] -> f32[4]\n  out0[a] <- in0[a] for a < 3\n");
  ExpectExact(
      "rule group: f32[2,6], f32[6,3] -> f32[2,6]\n"
      "  out0:[2,2,3][a,b,c] <- in0:[2,2,3][a,b,d]  unless in1:[2,3,3][b,c,d] = 0\n");
}

TEST(RuleCanonical, VariablesStandAloneInTheOutput) {
  ExpectCanonical("rule roll: f32[5] -> f32[5]\n  out0[a+1] <- in0[a] for a < 4\n  out0[0] <- in0[4]\n",
                  "rule roll: f32[5] -> f32[5]\n  out0[0] <- in0[4]\n  out0[a] <- in0[a-1]\n");
  ExpectCanonical("rule flip: f32[5] -> f32[5]\n  out0[-a+4] <- in0[a]\n",
                  "rule flip: f32[5] -> f32[5]\n  out0[a] <- in0[-a+4]\n");
  ExpectCanonical("rule pad: f32[5] -> f32[9]\n  out0[a+2] <- in0[a]\n",
                  "rule pad: f32[5] -> f32[9]\n  out0[a] <- in0[a-2]\n");
  ExpectCanonical("rule slice: f32[9] -> f32[5]\n  out0[a-2] <- in0[a]\n",
                  "rule slice: f32[9] -> f32[5]\n  out0[a] <- in0[a+2]\n");
}

TEST(RuleCanonical, WhatSaysNothingGoes) {
  ExpectCanonical("rule one: f32[1,4] -> f32[1,4]\n  out0[a,b] <- in0[a,b] for c < 1\n",
                  "rule one: f32[1,4] -> f32[1,4]\n  out0[0,a] <- in0[0,a]\n");
  ExpectCanonical("rule cover: f32[4] -> f32[4]\n  out0[a] <- in0[a]\n  out0[a] <- in0[b]\n  out0[a] <- in0[a+1]\n",
                  "rule cover: f32[4] -> f32[4]\n  out0[*] <- in0[*]\n");
  ExpectCanonical(
      "rule cover: f32[4], f32[4] -> f32[4]\n"
      "  out0[a] <- in0[a] unless in1[a] = 0\n  out0[a] <- in0[a]\n",
      "rule cover: f32[4], f32[4] -> f32[4]\n  out0[a] <- in0[a]\n");
  ExpectCanonical(
      "rule cover: f32[4], f32[4] -> f32[4]\n"
      "  out0[a] <- in0[a]\n  out0[a] <- in0[b] unless in1[b] = 0\n",
      "rule cover: f32[4], f32[4] -> f32[4]\n"
      "  out0[a] <- in0[a]\n  out0[*] <- in0[a]  unless in1[a] = 0\n");
  ExpectCanonical("rule links: f32[3] -> f32[2]\n  out0[a] <- in0[b] for b in table(a) {0:3, 0:3}\n",
                  "rule links: f32[3] -> f32[2]\n  out0[*] <- in0[*]\n");
  ExpectCanonical("rule links: f32[3] -> f32[2]\n  out0[a] <- in0[b] for a in table(b) {0:1, 0:2, -}\n",
                  "rule links: f32[3] -> f32[2]\n  out0[a] <- in0[b] for b in table(a) {0:2, 1:2}\n");
}

TEST(RuleCanonical, ViewsFollowTheTensorsOwnAxes) {
  ExpectCanonical("rule add: f32[2,3] -> f32[2,3]\n  out0:[6][a] <- in0:[6][a]\n",
                  "rule add: f32[2,3] -> f32[2,3]\n  out0[a,b] <- in0[a,b]\n");
  ExpectCanonical("rule reshape: f32[4,6] -> f32[8,3]\n  out0:[24][a] <- in0:[2,2,6][b,c,d]\n",
                  "rule reshape: f32[4,6] -> f32[8,3]\n  out0[*,*] <- in0[*,*]\n");
  ExpectCanonical("rule reshape: f32[4,6] -> f32[8,3]\n  out0:[24][a] <- in0:[24][a]\n",
                  "rule reshape: f32[4,6] -> f32[8,3]\n  out0[a,b] <- in0:[8,3][a,b]\n");
  ExpectCanonical("rule depth: f32[3,2] -> f32[6]\n  out0[2*a+b] <- in0[a,b]\n",
                  "rule depth: f32[3,2] -> f32[6]\n  out0[a] <- in0:[6][a]\n");
  ExpectCanonical("rule squeeze: f32[2,1,3] -> f32[2,3,1]\n  out0[a,b,c] <- in0[a,d,b]\n",
                  "rule squeeze: f32[2,1,3] -> f32[2,3,1]\n  out0[a,b,0] <- in0[a,0,b]\n");
}

TEST(RuleCanonical, VariablesOfOneAnnihilatorAreItsOwn) {
  ExpectCanonical("rule own: f32[4], f32[4,5] -> f32[4]\n  out0[a] <- in0[a] for b < 5 unless in1[a,b] = 0\n",
                  "rule own: f32[4], f32[4,5] -> f32[4]\n  out0[a] <- in0[a]  unless in1[a,*] = 0\n");
}

TEST(RuleVerify, BreachesAreNamed) {
  const auto broken = [](auto breach) {
    Rule rule = *ParseRule(kMatmul);
    breach(rule);
    return rule.Verify();
  };
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].input = 2; }), StatusIs(ErrorCode::kRuleInvalid, HasSubstr("input 2")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].output = -1; }), StatusIs(ErrorCode::kRuleInvalid));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].extents.pop_back(); }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("variable 2")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].in.view = {35}; }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("2 indices")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].in.view = {7, 6}; }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("number of elements")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].unless[0].value = 1; }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("bool")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].out.index[0].terms[0].coefficient = int64_t{1} << 62; }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("coefficient")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].links = {{0, 1, {}}}; }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("rows")));
  EXPECT_THAT(broken([](Rule& r) { r.clauses[0].lookups = {{0, r.clauses[0].in}}; }),
              StatusIs(ErrorCode::kRuleInvalid, HasSubstr("not integer")));
}

TEST(RuleText, DamagedTextGivesAnErrorWithItsLine) {
  EXPECT_THAT(ParseRule(""), StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 1")));
  EXPECT_THAT(ParseRule("rule x: f32[2] -> f32[2]\n out0[a] <- in1[a]"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("line 2")));
  EXPECT_THAT(ParseRule("rule x: f32[2] -> f32[2]\n out0[a] <- in0[2*b]"),
              StatusIs(ErrorCode::kTextInvalid, HasSubstr("'b' stands alone nowhere")));
  EXPECT_THAT(ParseRule("rule x: f32[2] -> f32[2]\n out0[a,b] <- in0[a]"), StatusIs(ErrorCode::kTextInvalid));
  const std::string text =
      "rule t: f32[9,4], i64[5], f32[9] -> f32[5,4]\n"
      "  out0[a,b] <- in0[value in1[a],b] for c < 2, b in table(a) {0:1, 2:3+4:5}  unless in2[2*c+d] = 0 for any d < "
      "3\n";
  for (size_t length = 0; length < text.size(); ++length) {
    for (const char* insert : {"", "*", "[", "]", ",", "99999999999999999999", "-", "for"}) {
      static_cast<void>(ParseRule(text.substr(0, length) + insert));
      static_cast<void>(ParseRule(text.substr(0, length) + insert + text.substr(length)));
    }
  }
}

}  // namespace
}  // namespace tessera
