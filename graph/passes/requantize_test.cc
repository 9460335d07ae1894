#include "graph/passes/requantize.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "gmock/gmock.h"
#include "graph/passes/fuse_epilogues.h"
#include "graph/passes/pipeline.h"
#include "graph/passes/testing/at_borders.h"
#include "graph/passes/testing/keeps_integers.h"
#include "graph/testing/random_quantized.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// Alone, on bodies as fusion leaves them.
Status Fused(Graph& graph) {
  RETURN_IF_ERROR(FuseEpilogues(graph));
  return Requantize(graph);
}

TEST(Requantize, KeepsEveryBitOfExactNetworks) {
  ExpectKeepsExactNetworks(Requantize, 300);
  ExpectKeepsExactNetworks(Fused, 300);
  ExpectKeepsExactNetworks(OptimizeForHost, 500);
}

TEST(Requantize, StaysWithinAStep) {
  ExpectStaysWithinAStep(Requantize, 300);
  ExpectStaysWithinAStep(Fused, 300);
  ExpectStaysWithinAStep(OptimizeForHost, 1000);
}

// An integer differs only where the real that it is made of lies on the border of two, as f32 sees it.
TEST(Requantize, IntegersDifferAtBordersOnly) {
  Borders all;
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    const QuantizedCase c = RandomQuantized(seed, {.plain = true, .integer_inputs = true});
    Graph before = c.graph;
    ASSERT_OK(RunPasses(before, SimplifyPipeline()));
    ASSERT_OK(FuseEpilogues(before));
    Graph after = before;
    ASSERT_OK(Requantize(after));
    ASSERT_OK_AND_ASSIGN(const Borders borders, CompareAtBorders(before, after, c.inputs));
    all.integers += borders.integers;
    all.other_side += borders.other_side;
    all.farthest = std::max(all.farthest, borders.farthest);
  }
  EXPECT_GT(all.integers, 100000);
  std::printf("%lld of %lld integers are the second nearest, of reals up to %.1e from the border\n",
              static_cast<long long>(all.other_side), static_cast<long long>(all.integers), all.farthest);
}

// 4 * 0.3 * (1 / 0.8) is 1.5, but 0.3 and 0.8 are not what f32 holds: their quotient is a little more than 0.375.
constexpr const char* kOnBorder = R"(graph "g" {
  %x: u8[3] = input
  %s: f32[] = constant [0.3]
  %z: u8[] = constant [0]
  %t: f32[] = constant [0.8]
  %r: f32[3] = dequantize(%x, %s, %z)
  %y: u8[3] = quantize(%r, %t, %z) {dtype = u8}
  return %y
})";

TEST(Requantize, ARealOnTheBorderMayFallToEitherSide) {
  ASSERT_OK_AND_ASSIGN(Graph before, ParseAndVerify(kOnBorder));
  ASSERT_OK(FuseEpilogues(before));
  Graph after = before;
  ASSERT_OK(Requantize(after));
  Tensor x(DType::kU8, Shape{3});
  for (int k = 0; k < 3; ++k) x.mutable_data<uint8_t>()[k] = static_cast<uint8_t>(4 * (k + 1));
  ASSERT_OK_AND_ASSIGN(const Borders borders, CompareAtBorders(before, after, std::span(&x, 1)));
  EXPECT_EQ(borders.integers, 3);
  EXPECT_GT(borders.other_side, 0);
  EXPECT_LT(borders.farthest, 1e-6);
}

TEST(Requantize, AWrongFactorIsNotABorder) {
  ASSERT_OK_AND_ASSIGN(Graph before, ParseAndVerify(kOnBorder));
  ASSERT_OK(FuseEpilogues(before));
  Graph after = before;
  ASSERT_OK(Requantize(after));
  for (ScalarInst& inst : after.nodes[0].epilogue->body.insts) {
    if (inst.op == ScalarOp::kConst && std::abs(inst.imm - 0.375) < 1e-3) inst.imm *= 1.01;
  }
  Tensor x(DType::kU8, Shape{3});
  for (int k = 0; k < 3; ++k) x.mutable_data<uint8_t>()[k] = static_cast<uint8_t>(100 * k + 53);
  const StatusOr<Borders> borders = CompareAtBorders(before, after, std::span(&x, 1));
  ASSERT_FALSE(borders.ok());
  EXPECT_THAT(borders.status().message(), testing::HasSubstr("from a border"));
}

// Reals that integers become are rounded at each step.
TEST(Requantize, ExactBodiesAreNarrowedThroughout) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(R"(graph "g" {
  %x: u8[4] = input
  %s: f32[] = constant [0.3]
  %z: u8[] = constant [7]
  %t: f32[] = constant [0.7]
  %b: f32[4] = constant [1, 2, 3, 4]
  %r: f32[4] = dequantize(%x, %s, %z)
  %a: f32[4] = add(%r, %b)
  %y: u8[4] = quantize(%a, %t, %z) {dtype = u8}
  return %y
})"));
  ASSERT_OK(Fused(graph));
  ASSERT_EQ(graph.nodes.size(), 1u);
  const Body& body = graph.nodes[0].epilogue->body;
  int operations = 0;
  for (size_t n = 0; n < body.insts.size(); ++n) {
    const ScalarOp op = body.insts[n].op;
    if (op != ScalarOp::kMul && op != ScalarOp::kAdd) continue;
    if (body.insts[n].type != DType::kF32) continue;
    ++operations;
    ASSERT_LT(n + 1, body.insts.size());
    EXPECT_EQ(body.insts[n + 1].op, ScalarOp::kNarrow) << body.ToString();
  }
  EXPECT_EQ(operations, 2 + 1) << "one factor, one constant, and the odd part of the zero point: " << body.ToString();
}

}  // namespace
}  // namespace tessera
