#include "graph/passes/requantize.h"

#include "graph/passes/fuse_epilogues.h"
#include "graph/passes/pipeline.h"
#include "graph/passes/testing/keeps_integers.h"
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
