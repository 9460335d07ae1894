#include "graph/passes/take_signed.h"

#include <algorithm>

#include "graph/passes/pipeline.h"
#include "graph/passes/testing/keeps_integers.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

Status AfterSimplifying(Graph& graph) {
  RETURN_IF_ERROR(RunPasses(graph, SimplifyPipeline()));
  return TakeSigned(graph);
}

TEST(TakeSigned, KeepsEveryBit) {
  ExpectKeepsExactNetworks(TakeSigned, 100);
  ExpectKeepsExactNetworks(AfterSimplifying, 300);
}

int Count(const Graph& graph, Op op) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& n) { return n.op == op; }));
}

// A product of plain integers is one node for a GPU; with another zero point, a bias is left.
TEST(TakeSigned, LeavesAPlainProduct) {
  ASSERT_OK_AND_ASSIGN(const Graph graph, ParseAndVerify(R"(graph "g" {
  %x: i8[5,8] = input
  %w: i8[8,4] = constant random(seed = 1)
  %y: i32[5,4] = matmul(%x, %w)
  return %y
})"));
  Graph processor = graph, gpu = graph;
  ASSERT_OK(OptimizeForHost(processor));
  EXPECT_GT(processor.nodes.size(), 1u) << PrintGraph(processor);
  ASSERT_OK(RunPasses(gpu, SimplifyPipeline()));
  ASSERT_OK(RunPasses(gpu, LoweringPipeline(MachineKind::kGpu)));
  ASSERT_EQ(gpu.nodes.size(), 1u) << PrintGraph(gpu);
  EXPECT_FALSE(gpu.nodes[0].epilogue) << PrintGraph(gpu);
  EXPECT_OK(SameMeaning(graph, gpu, 1, {0, 0}));
}

// Where others read the sums, or the shifted values are computed otherwise, nothing changes.
TEST(TakeSigned, LeavesWhatItCannotProve) {
  for (const char* text : {
           R"(graph "g" {
  %x: i8[3,4] = input
  %w: i8[4,2] = constant [1, -2, 3, 4, -5, 6, 7, 8]
  %high_bit: u8[] = constant [64]
  %c: i32[2] = constant [-768, -2048]
  %bits: u8[3,4] = cast(%x) {to = u8}
  %u: u8[3,4] = xor(%bits, %high_bit)
  %s: i32[3,2] = matmul(%u, %w)
  %y: i32[3,2] = add(%s, %c)
  return %y
})",
           R"(graph "g" {
  %x: i8[3,4] = input
  %w: i8[4,2] = constant [1, -2, 3, 4, -5, 6, 7, 8]
  %high_bit: u8[] = constant [128]
  %c: i32[2] = constant [-768, -2048]
  %bits: u8[3,4] = cast(%x) {to = u8}
  %u: u8[3,4] = xor(%bits, %high_bit)
  %s: i32[3,2] = matmul(%u, %w)
  %y: i32[3,2] = add(%s, %c)
  return %y, %s
})"}) {
    ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(text));
    ASSERT_OK(TakeSigned(graph));
    EXPECT_EQ(Count(graph, Op::kXor), 1) << PrintGraph(graph);
  }
}

}  // namespace
}  // namespace tessera
