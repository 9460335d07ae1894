#include "graph/passes/use_integers.h"

#include <string>

#include "graph/passes/canonicalize.h"
#include "graph/passes/fold_constants.h"
#include "graph/passes/move_scales.h"
#include "graph/passes/testing/keeps_integers.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// With what goes before it in the pipeline.
Status Prepared(Graph& graph) {
  RETURN_IF_ERROR(MoveScales(graph));
  RETURN_IF_ERROR(FoldConstants(graph));
  RETURN_IF_ERROR(Canonicalize(graph));
  return UseIntegers(graph);
}

TEST(UseIntegers, KeepsEveryBitOfExactNetworks) {
  ExpectKeepsExactNetworks(UseIntegers, 300);
  ExpectKeepsExactNetworks(Prepared, 500);
}

TEST(UseIntegers, StaysWithinAStep) {
  ExpectStaysWithinAStep(UseIntegers, 300);
  ExpectStaysWithinAStep(Prepared, 1000);
}

// Every product of a constant that could be one is one: u8 times i8.
TEST(UseIntegers, LeavesOnlyTheFormThatKernelsAreMadeFor) {
  for (const char* text : {
           R"(graph "g" {
  %x: i8[3,8] = input
  %sx: f32[] = constant [0.5]
  %zx: i8[] = constant [3]
  %w: u8[8,4] = constant random(seed = 1)
  %sw: f32[4] = constant [0.25, 0.5, 0.125, 1]
  %zw: u8[4] = constant [128, 100, 7, 255]
  %r: f32[3,8] = dequantize(%x, %sx, %zx)
  %v: f32[8,4] = dequantize(%w, %sw, %zw) {axis = 1}
  %y: f32[3,4] = matmul(%r, %v)
  return %y
})",
           R"(graph "g" {
  %x: u8[1,5,5,4] = input
  %sx: f32[] = constant [0.5]
  %zx: u8[] = constant [3]
  %w: i4[6,2,3,3] = constant random(seed = 1)
  %sw: f32[1] = constant [0.25]
  %r: f32[1,5,5,4] = dequantize(%x, %sx, %zx)
  %v: f32[6,2,3,3] = dequantize(%w, %sw)
  %y: f32[1,5,5,6] = conv(%r, %v) {strides = [1, 1], dilations = [1, 1], pads = [1, 1, 1, 1], groups = 2, layout = "nhwc"}
  return %y
})"}) {
    ASSERT_OK_AND_ASSIGN(const Graph before, ParseAndVerify(text));
    Graph after = before;
    ASSERT_OK(UseIntegers(after));
    ASSERT_OK(Verify(after));
    EXPECT_OK(SameMeaning(before, after, 1));
    int products = 0;
    for (const Node& node : after.nodes) {
      EXPECT_NE(node.op, Op::kDequantize);
      if (node.op != Op::kMatmul && node.op != Op::kConv) continue;
      ++products;
      EXPECT_EQ(after[node.inputs[0]].type.dtype, DType::kU8);
      EXPECT_EQ(after[node.inputs[1]].type.dtype, DType::kI8);
      EXPECT_TRUE(after.IsConstant(node.inputs[1]));
    }
    EXPECT_GE(products, 1);
  }
}

// Attention: queries times keys of any sign and zero point, the keys turned; nothing of it is left in float.
TEST(UseIntegers, ProductsOfTwoActivations) {
  for (const char* type : {"u8", "i8"}) {
    const std::string t = type;
    ASSERT_OK_AND_ASSIGN(const Graph before, ParseAndVerify(R"(graph "g" {
  %q: )" + t + R"([2,5,7] = input
  %k: f32[2,3,7] = input
  %sq: f32[] = constant [0.5]
  %zq: )" + t + R"([] = constant [3]
  %zk: u8[] = constant [131]
  %kq: u8[2,3,7] = quantize(%k, %sq, %zk) {dtype = u8}
  %kt: u8[2,7,3] = transpose(%kq) {perm = [0, 2, 1]}
  %a: f32[2,5,7] = dequantize(%q, %sq, %zq)
  %b: f32[2,7,3] = dequantize(%kt, %sq, %zk)
  %y: f32[2,5,3] = matmul(%a, %b)
  return %y
})"));
    Graph after = before;
    ASSERT_OK(UseIntegers(after));
    ASSERT_OK(Verify(after));
    EXPECT_OK(SameMeaning(before, after, 1));
    for (const Node& node : after.nodes) {
      EXPECT_NE(node.op, Op::kDequantize);
      // Keys are quantised as i8 at once.
      if (t == "u8") {
        EXPECT_NE(node.op, Op::kXor);
      }
      if (node.op != Op::kMatmul) continue;
      EXPECT_EQ(after[node.inputs[0]].type.dtype, DType::kU8);
      EXPECT_EQ(after[node.inputs[1]].type.dtype, DType::kI8);
      EXPECT_EQ(after[node.outputs[0]].type.dtype, DType::kI32);
    }
  }
}

// What an importer found or a user declared of integer weights stays with them.
TEST(UseIntegers, WeightsKeepTheirSparsity) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(R"(graph "g" {
  %x: u8[3,4] = input
  %s: f32[] = constant [0.5]
  %w: i8[4,2] tesa(scattered kept 50%) = constant random(seed = 1)
  %r: f32[3,4] = dequantize(%x, %s)
  %v: f32[4,2] = dequantize(%w, %s)
  %y: f32[3,2] = matmul(%r, %v)
  return %y
})"));
  ASSERT_OK(UseIntegers(graph));
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kMatmul) continue;
    ASSERT_TRUE(graph[node.inputs[1]].tesa.has_value());
    EXPECT_EQ(graph[node.inputs[1]].tesa->num_kept(), 4);
  }
}

}  // namespace
}  // namespace tessera
