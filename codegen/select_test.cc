#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/testing/run_compiled.h"
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

// A node whose first way is quick and large.
std::vector<Choice> QuickAndLarge(double us, double bytes) {
  static const Emitter& emitter = AllEmitters()[0];
  return {{&emitter, {"straight", us, "", bytes}},
          {&emitter, {"short", 2 * us, "", bytes / 4}},
          {&emitter, {"loop", 3 * us, "", 0}}};
}

TEST(CodeBudgetTest, WhatLosesLeastForItsBytesGoesFirst) {
  for (const auto& [budget, first, second] : {std::tuple{5000.0, "straight", "straight"},
                                              {4999.0, "short", "straight"},
                                              {2500.0, "short", "straight"},
                                              {999.0, "loop", "short"},
                                              {250.0, "loop", "short"},
                                              {0.0, "loop", "loop"}}) {
    // 1 us for 4000 bytes, 100 us for 1000.
    std::vector<std::vector<Choice>> ranked = {QuickAndLarge(1, 4000), QuickAndLarge(100, 1000)};
    std::vector<std::string> lines(2);
    KeepCodeWithin(budget, ranked, lines);
    EXPECT_EQ(ranked[0][0].way.name, first) << budget;
    EXPECT_EQ(ranked[1][0].way.name, second) << budget;
    EXPECT_EQ(ranked[0].size(), 3u);
    EXPECT_EQ(lines[0].empty(), budget == 5000) << lines[0];
  }
}

TEST(CodeBudgetTest, ANetworkWithinABudgetGivesTheSameResult) {
  const StatusOr<Graph> graph = ParseGraph(R"(graph "g" {
    %x: f32[64,256] = input
    %w: f32[256,256] tesa(scattered kept 20%) = constant random(seed = 1)
    %y: f32[64,256] = matmul(%x, %w)
    return %y
  })");
  ASSERT_TRUE(graph.ok()) << graph.status();
  const StatusOr<CompileResult> free = Compile(*graph, Host(), {});
  const StatusOr<CompileResult> held = Compile(*graph, Host(), {.max_code_bytes = 1024});
  ASSERT_TRUE(free.ok() && held.ok()) << free.status() << held.status();
  if (Host().has_fma) {
    EXPECT_GT(free->code_bytes, 50000) << free->decisions[0];
    EXPECT_NE(held->decisions[0].find("within the budget for code"), std::string::npos) << held->decisions[0];
  }
  EXPECT_LT(held->code_bytes, 50000) << held->decisions[0];
  std::vector<Tensor> inputs = RandomInputs(*graph, 3);
  EXPECT_TRUE(CompiledAgrees(*graph, inputs, "host", {.max_code_bytes = 1024}, 1e-5));
}

}  // namespace
}  // namespace tessera
