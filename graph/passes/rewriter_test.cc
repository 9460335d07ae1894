#include "graph/passes/rewriter.h"

#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

constexpr std::string_view kChain = R"(graph "g" {
  %x: f32[2] = input
  %a: f32[2] = relu(%x)
  %b: f32[2] = neg(%a)
  %y: f32[2] = exp(%b)
  return %y
}
)";

TEST(Rewriter, ANewNodeStandsBeforeItsAnchorAndNamesStayUnique) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(kChain));
  Rewriter r(graph);
  const NodeId neg = r.Producer(graph.FindValue("b"));
  const ValueId made = r.Emit(neg, Op::kTanh, {graph.FindValue("a")}, {}, "b");
  Node changed = r.node(neg);
  changed.inputs = {made};
  r.Rebuild(neg, changed);
  ASSERT_OK(std::move(r).Finish());
  ASSERT_OK(Verify(graph));
  EXPECT_EQ(graph.nodes[1].op, Op::kTanh);
  EXPECT_EQ(graph[graph.nodes[1].outputs[0]].name, "b.1");
  EXPECT_EQ(graph[graph.nodes[2].outputs[0]].name, "b");
}

TEST(Rewriter, AReplacedOutputKeepsItsNameAndWhatOnlyItNeededGoes) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(kChain));
  Rewriter r(graph);
  EXPECT_TRUE(r.Replace(graph.FindValue("y"), graph.FindValue("a")));
  ASSERT_OK(std::move(r).Finish());
  ASSERT_OK(Verify(graph));
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].op, Op::kRelu);
  EXPECT_EQ(graph[graph.outputs[0]].name, "y");
}

TEST(Rewriter, AnInputCannotTakeTheNameOfAnOutput) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(kChain));
  Rewriter r(graph);
  EXPECT_FALSE(r.Replace(graph.FindValue("y"), graph.FindValue("x")));
  ASSERT_OK(std::move(r).Finish());
  EXPECT_EQ(graph.nodes.size(), 3u);
}

TEST(Rewriter, RemembersTheFirstWrongEdit) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(kChain));
  Rewriter r(graph);
  Attrs attrs;
  attrs.Set("perm", std::vector<int64_t>{0, 1});
  EXPECT_EQ(r.Emit(NodeId::kNone, Op::kTranspose, {graph.FindValue("x")}, attrs), ValueId::kNone);
  EXPECT_FALSE(r.Replace(graph.FindValue("b"), graph.FindValue("a"))) << "edits after an error do nothing";
  EXPECT_FALSE(std::move(r).Finish().ok());
}

TEST(Rewriter, RulesThatUndoEachOtherEnd) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(kChain));
  Rewriter r(graph);
  for (NodeId id; r.Next(id);) {
    if (r.node(id).op == Op::kNeg) r.Rebuild(id, r.node(id));
  }
  EXPECT_FALSE(std::move(r).Finish().ok());
}

}  // namespace
}  // namespace tessera
