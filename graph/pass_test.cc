// Tests the runner: order, stopping, printing, and that a pass which breaks the graph is named.
#include "graph/pass.h"

#include <sstream>

#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using testing::Not;

Graph TwoRelus() {
  StatusOr<Graph> graph = ParseAndVerify(R"(graph "g" {
    %x: f32[2] = input
    %y: f32[2] = relu(%x)
    %z: f32[2] = relu(%y)
    return %z
  })");
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

Status SecondReadsInput(Graph& graph) {
  graph.nodes[1].inputs[0] = graph.inputs[0];
  return OkStatus();
}
Status RemoveDead(Graph& graph) {
  RemoveDeadNodes(graph);
  return OkStatus();
}
Status DoNothing(Graph&) { return OkStatus(); }
Status Break(Graph& graph) {
  graph.nodes[0].outputs.clear();
  return OkStatus();
}
Status Refuse(Graph&) { return Error(ErrorCode::kInternal, "no"); }

constexpr Pass kPasses[] = {{"bypass", "lets the second relu read the input", SecondReadsInput},
                            {"nothing", "does nothing", DoNothing},
                            {"dead", "removes dead nodes", RemoveDead}};

TEST(RunPasses, RunsAllInOrder) {
  Graph graph = TwoRelus();
  ASSERT_OK(RunPasses(graph, kPasses));
  EXPECT_EQ(graph.nodes.size(), 1u);
}

TEST(RunPasses, StopsWhereAsked) {
  Graph graph = TwoRelus();
  ASSERT_OK(RunPasses(graph, kPasses, {.stop_after = "nothing"}));
  EXPECT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(graph.nodes[1].inputs[0], graph.inputs[0]);
  EXPECT_THAT(RunPasses(graph, kPasses, {.stop_after = "nobody"}),
              StatusIs(ErrorCode::kUsageInvalid, HasSubstr("bypass, nothing, dead, found 'nobody'")));
}

TEST(RunPasses, PrintsWhatIsAskedFor) {
  const auto printed = [](std::string_view after) {
    Graph graph = TwoRelus();
    std::ostringstream out;
    EXPECT_OK(RunPasses(graph, kPasses, {.print_after = std::string(after), .out = &out}));
    return out.str();
  };
  EXPECT_EQ(printed(""), "");
  EXPECT_EQ(printed("dead"),
            "// after dead\ngraph \"g\" {\n  %x: f32[2] = input\n  %z: f32[2] = relu(%x)\n"
            "  return %z\n}\n");
  EXPECT_THAT(printed("all"), HasSubstr("// after nothing\n"));
  EXPECT_THAT(printed("changed"), HasSubstr("// after bypass\n"));
  EXPECT_THAT(printed("changed"), Not(HasSubstr("// after nothing\n")));
  EXPECT_OK(ParseAndVerify(printed("dead")));
  Graph graph = TwoRelus();
  EXPECT_THAT(RunPasses(graph, kPasses, {.print_after = "nobody"}), StatusIs(ErrorCode::kUsageInvalid));
}

TEST(RunPasses, NamesThePassThatFails) {
  const Pass breaks[] = {{"nothing", "", DoNothing}, {"break", "", Break}, {"dead", "", RemoveDead}};
  Graph graph = TwoRelus();
  EXPECT_THAT(RunPasses(graph, breaks), StatusIs(ErrorCode::kGraphInvalid, HasSubstr("after pass break: node 'y'")));
  const Pass refuses[] = {{"refuse", "", Refuse}};
  graph = TwoRelus();
  EXPECT_THAT(RunPasses(graph, refuses), StatusIs(ErrorCode::kInternal, "pass refuse: no"));
  EXPECT_OK(Break(graph));
  EXPECT_THAT(RunPasses(graph, kPasses), StatusIs(ErrorCode::kGraphInvalid, HasSubstr("before the first pass")));
}

}  // namespace
}  // namespace tessera
