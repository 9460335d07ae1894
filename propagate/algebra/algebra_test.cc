// Known rules as text, what partial evaluation finds of bodies, and the time that deriving takes. That the rules are
// right for every op is algebra_walk_test.cc's business.
#include "propagate/algebra/algebra.h"

#include <chrono>

#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/algebra/partial_body.h"

namespace tessera {
namespace {

// The rule of an op on f32 operands of these shapes (but for those given types).
std::string RuleText(Op op, const std::vector<TensorType>& inputs, const Attrs& attrs = {}) {
  OpContext context = {.attrs = attrs, .inputs = {}, .outputs = {}};
  for (const TensorType& type : inputs) context.inputs.push_back(type);
  context.outputs = *GetOp(op).infer(context);
  const Compute compute = GetOp(op).compute(context);
  std::vector<std::string> widened;
  const Rule rule = RuleOf(std::string(Name(op)), compute, &widened);
  EXPECT_TRUE(rule.Verify().ok()) << rule.Verify();
  EXPECT_TRUE(widened.empty()) << rule.ToString() << widened[0];
  const std::string text = rule.ToString();
  return text.substr(text.find('\n') + 1);
}

TensorType F32(Shape shape) { return {DType::kF32, std::move(shape)}; }

TEST(AlgebraTest, Matmul) {
  EXPECT_EQ(RuleText(Op::kMatmul, {F32({7, 5}), F32({5, 3})}),
            "  out0[a,b] <- in0[a,c]  unless in1[c,b] = 0\n"
            "  out0[a,b] <- in1[c,b]  unless in0[a,c] = 0\n");
}

TEST(AlgebraTest, Conv) {
  const Attrs attrs = MakeAttrs({{"strides", std::vector<int64_t>{2, 1}},
                                 {"dilations", std::vector<int64_t>{1, 1}},
                                 {"pads", std::vector<int64_t>{1, 0, 1, 0}},
                                 {"groups", int64_t{2}},
                                 {"layout", std::string("nchw")}});
  EXPECT_EQ(RuleText(Op::kConv, {F32({2, 6, 7, 5}), F32({4, 3, 3, 2})}, attrs),
            "  out0:[2,2,2,4,4][a,b,c,d,e] <- in0:[2,2,3,7,5][a,b,f,2*d+g-1,e+h] for g < 3, h < 2  "
            "unless in1:[2,2,3,3,2][b,c,f,g,h] = 0\n"
            "  out0:[2,2,2,4,4][a,b,c,d,e] <- in1:[2,2,3,3,2][b,c,f,g,h]  "
            "unless in0:[2,2,3,7,5][a,b,f,2*d+g-1,e+h] = 0\n");
}

TEST(AlgebraTest, RowsMix) {
  EXPECT_EQ(RuleText(Op::kSoftmax, {F32({4, 5})}, MakeAttrs({{"axis", int64_t{1}}})), "  out0[a,*] <- in0[a,*]\n");
  EXPECT_EQ(
      RuleText(Op::kLayerNorm, {F32({4, 5}), F32({5}), F32({5})}, MakeAttrs({{"axis", int64_t{1}}, {"epsilon", 1e-5}})),
      "  out0[a,b] <- in0[a,*]  unless in1[b] = 0\n"
      "  out0[a,b] <- in1[b]  unless in0[a,*] = 0\n"
      "  out0[*,a] <- in2[a]\n");
}

TEST(AlgebraTest, Attention) {
  EXPECT_EQ(RuleText(Op::kAttention, {F32({2, 3, 4, 5}), F32({2, 3, 6, 5}), F32({2, 3, 6, 7}), F32({4, 6})},
                     MakeAttrs({{"scale", 0.5}})),
            "  out0[a,b,c,d] <- in0[a,b,c,e]  unless in1[a,b,*,e] = 0 or in2[a,b,*,d] = 0\n"
            "  out0[a,b,c,d] <- in1[a,b,*,e]  unless in0[a,b,c,e] = 0 or in2[a,b,*,d] = 0\n"
            "  out0[a,b,*,c] <- in2[a,b,*,c]\n"
            "  out0[a,b,c,d] <- in3[c,*]  unless in2[a,b,*,d] = 0\n");
}

TEST(AlgebraTest, ProductsStopAtAnyZero) {
  EXPECT_EQ(RuleText(Op::kReduceProd, {F32({4, 5})}, MakeAttrs({{"axes", std::vector<int64_t>{1}}})),
            "  out0[a,0] <- in0[a,*]  unless in0[a,b] = 0 for any b\n");
  // Nothing unsigned is below 0.
  EXPECT_EQ(RuleText(Op::kReduceMin, {{DType::kU8, {5}}}, MakeAttrs({{"axes", std::vector<int64_t>{0}}})),
            "  out0[0] <- in0[*]  unless in0[a] = 0 for any a\n");
  EXPECT_EQ(RuleText(Op::kReduceMin, {{DType::kI8, {5}}}, MakeAttrs({{"axes", std::vector<int64_t>{0}}})),
            "  out0[0] <- in0[*]\n");
}

TEST(AlgebraTest, Gather) {
  EXPECT_EQ(RuleText(Op::kGather, {F32({9, 4}), {DType::kI64, {5}}}, MakeAttrs({{"axis", int64_t{0}}})),
            "  out0[a,b] <- in0[value in1[a],b]\n"
            "  out0[a,b] <- in1[a]  unless in0[*,b] = 0\n");
}

TEST(AlgebraTest, TablesAreLinks) {
  EXPECT_EQ(RuleText(Op::kPad, {F32({3, 2})},
                     MakeAttrs({{"pads", std::vector<int64_t>{2, 0, 1, 0}}, {"mode", std::string("reflect")}})),
            "  out0[a,b] <- in0[c,b] for c in table(a) {2:3, 1:2, 0:1, 1:2, 2:3, 1:2}\n");
}

Body Parse(std::string_view text) { return *ParseBody(text); }

TEST(AlgebraTest, Annihilators) {
  using Lists = std::vector<std::vector<int>>;
  EXPECT_EQ(AnnihilatorsOf(Parse("(a: f32, b: f32) { return mul(a, b) }")).by_zero, (Lists{{1}, {0}}));
  EXPECT_EQ(AnnihilatorsOf(Parse("(a: f32, b: f32) { return div(a, b) }")).by_zero, (Lists{{}, {0}}));
  EXPECT_EQ(AnnihilatorsOf(Parse("(a: i32, b: i32) { return div(a, b) }")).by_zero, (Lists{{1}, {0}}));
  EXPECT_EQ(AnnihilatorsOf(Parse("(a: f32, b: f32) { return max(a, b) }")).by_zero, (Lists{{}, {}}));
  EXPECT_EQ(AnnihilatorsOf(Parse("(a: u32, b: u32) { return min(a, b) }")).by_zero, (Lists{{1}, {0}}));
  const BodyAnnihilators select = AnnihilatorsOf(Parse("(a: bool, b: f32, c: f32) { return select(a, b, c) }"));
  EXPECT_EQ(select.by_zero, (Lists{{}, {0}, {}}));
  EXPECT_EQ(select.by_one, (Lists{{}, {}, {0}}));
  EXPECT_EQ(AnnihilatorsOf(Parse("(a: bool, b: bool) { return or(a, b) }")).by_one, (Lists{{1}, {0}}));
  // x - x is not found to be 0.
  EXPECT_TRUE(EvaluatePartially(Parse("(a: f32) { return sub(a, a) }"), {{std::nullopt}}).inputs.test(0));
}

// What a node of BERT-base or MobileNet takes: the extents do not matter.
TEST(AlgebraTest, DerivingTakesLessThanAMillisecond) {
  const std::vector<std::pair<Op, OpContext>> nodes = [] {
    static const Attrs none, attention = MakeAttrs({{"scale", 0.125}}),
                             norm = MakeAttrs({{"axis", int64_t{2}}, {"epsilon", 1e-12}}),
                             conv = MakeAttrs({{"strides", std::vector<int64_t>{2, 2}},
                                               {"dilations", std::vector<int64_t>{1, 1}},
                                               {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                                               {"groups", int64_t{512}},
                                               {"layout", std::string("nchw")}});
    const TensorType heads = F32({1, 12, 128, 64}), x = F32({1, 128, 768});
    std::vector<std::pair<Op, OpContext>> list;
    list.push_back({Op::kMatmul, {.attrs = none, .inputs = {x, F32({768, 3072})}, .outputs = {}}});
    list.push_back({Op::kAttention, {.attrs = attention, .inputs = {heads, heads, heads}, .outputs = {}}});
    list.push_back({Op::kLayerNorm, {.attrs = norm, .inputs = {x, F32({768}), F32({768})}, .outputs = {}}});
    list.push_back({Op::kConv, {.attrs = conv, .inputs = {F32({1, 512, 28, 28}), F32({512, 1, 3, 3})}, .outputs = {}}});
    return list;
  }();
  for (const auto& [op, given] : nodes) {
    OpContext context = given;
    context.outputs = *GetOp(op).infer(context);
    const Compute compute = GetOp(op).compute(context);
    double best = 1;
    for (int n = 0; n < 20; ++n) {
      const auto start = std::chrono::steady_clock::now();
      const Rule rule = RuleOf("x", compute);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      ASSERT_FALSE(rule.clauses.empty());
    }
    std::printf("%s: %.0f us\n", std::string(Name(op)).c_str(), best * 1e6);
    EXPECT_LT(best, 1e-3) << Name(op);
  }
}

}  // namespace
}  // namespace tessera
