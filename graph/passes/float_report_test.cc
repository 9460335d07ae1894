#include "graph/passes/float_report.h"

#include "gmock/gmock.h"
#include "graph/pass.h"
#include "graph/passes/pipeline.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

TEST(WhyFloat, NamesEachOpWithItsReason) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(R"(graph "g" {
  %x: u8[3,8] = input
  %s: f32[] = constant [0.5]
  %w: i8[8,8] = constant random(seed = 1)
  %f: f32[8,8] = constant random(seed = 2)
  %r: f32[3,8] = dequantize(%x, %s)
  %v: f32[8,8] = dequantize(%w, %s)
  %a: f32[3,8] = matmul "runs on integers"(%r, %v)
  %b: f32[3,8] = matmul "float weights"(%r, %f)
  %c: f32[3,3] = matmul "computed"(%a, %b) {transpose_b = 1}
  %d: f32[3,3] = softmax "rows"(%c) {axis = 1}
  %y: u8[3,3] = quantize(%d, %s) {dtype = u8}
  return %y
})"));
  ASSERT_OK(RunPasses(graph, SimplifyPipeline()));
  EXPECT_THAT(WhyFloat(graph),
              testing::ElementsAre("matmul 'float weights': its weights are floats; it reads dequantised integers",
                                   "matmul 'computed': its first operand is not quantised with one scale",
                                   "softmax 'rows': no integer form; what it makes is quantised"));
}

TEST(WhyFloat, IsSilentAboutNetworksOfFloats) {
  ASSERT_OK_AND_ASSIGN(const Graph graph, ParseAndVerify(R"(graph "g" {
  %x: f32[3,8] = input
  %y: f32[3,8] = softmax(%x) {axis = 1}
  return %y
})"));
  EXPECT_TRUE(WhyFloat(graph).empty());
}

}  // namespace
}  // namespace tessera
