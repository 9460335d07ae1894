#include <gtest/gtest.h>

#include <string>

#include "codegen/emitter.h"
#include "graph/text.h"

namespace tessera {
namespace {

// relu(x * w) with a constant w.
Graph Product() {
  StatusOr<Graph> graph = ParseGraph(
      "graph \"g\" {\n  %x: f32[16,32] = input\n  %w: f32[32,48] = constant random(seed = 1)\n"
      "  %y: f32[16,48] = matmul(%x, %w)\n  return %y\n}");
  TES_CHECK(graph.ok(), graph.status().message());
  return *std::move(graph);
}

Target Host() { return *MakeTarget("host"); }

TEST(SelectTest, TheReportNamesTheWinnerAndEveryCandidate) {
  const Graph graph = Product();
  std::string report;
  const Choice choice = SelectEmitter(graph, graph.nodes[0], Host(), "", &report);
  EXPECT_EQ(choice.ToString(), "matmul");
  for (const Emitter& emitter : AllEmitters()) {
    EXPECT_NE(report.find("; " + std::string(emitter.name)), std::string::npos) << emitter.name << " in " << report;
  }
}

TEST(SelectTest, NoWayIsQuickerThanTheChosenOne) {
  const Graph graph = Product();
  const Choice choice = SelectEmitter(graph, graph.nodes[0], Host(), "", nullptr);
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    const std::vector<Way> ways = WaysOf(emitter, graph, graph.nodes[0], Host(), &why);
    EXPECT_TRUE(!ways.empty() || !why.empty()) << emitter.name;
    for (const Way& way : ways) EXPECT_GE(way.us, choice.way.us) << Choice{&emitter, way}.ToString();
  }
}

TEST(SelectTest, OnlyNamesAnEmitterOrOneOfItsWaysAndIsIgnoredWhereItDoesNotApply) {
  const Graph graph = Product();
  EXPECT_EQ(SelectEmitter(graph, graph.nodes[0], Host(), "generic", nullptr).ToString(), "generic");
  EXPECT_EQ(SelectEmitter(graph, graph.nodes[0], Host(), "depthwise", nullptr).ToString(), "matmul");
  EXPECT_EQ(SelectEmitter(graph, graph.nodes[0], Host(), "generic:nothing", nullptr).ToString(), "matmul");
}

}  // namespace
}  // namespace tessera
