#include "codegen/tuner.h"

#include <gtest/gtest.h>

#include "codegen/compile.h"
#include "codegen/single_node.h"
#include "graph/text.h"
#include "runtime/testing/fake_gpu.h"

namespace tessera {
namespace {

Graph Parse(const std::string& text) {
  StatusOr<Graph> graph = ParseGraph(text);
  TES_CHECK(graph.ok(), graph.status().message());
  return *std::move(graph);
}

// Two equal layers (other weights, the same pattern: none), a third with fewer kept.
Graph Layers() {
  return Parse(R"(graph "g" {
    %x: f32[32,64] = input
    %a: f32[64,64] = constant random(seed = 1)
    %b: f32[64,64] = constant random(seed = 2)
    %c: f32[64,64] tesa(scattered kept 10%) = constant random(seed = 3)
    %p: f32[32,64] = matmul "first"(%x, %a)
    %q: f32[32,64] = matmul "second"(%p, %b)
    %r: f32[32,64] = matmul "third"(%q, %c)
    return %r
  })");
}

std::string Key(const Graph& graph, int node, int threads = 1) {
  return NodeKey(TakeOut(graph, graph.nodes[node]), *MakeTarget("host"), threads);
}

TEST(SingleNodeTest, KeysAreOfPatternsAndNotOfValues) {
  const Graph graph = Layers();
  EXPECT_EQ(Key(graph, 0), Key(graph, 1));
  EXPECT_NE(Key(graph, 0), Key(graph, 2)) << "declares sparsity";
  EXPECT_NE(Key(graph, 0), Key(graph, 0, 2)) << "threads";
  Graph other = graph;
  for (Value& value : other.values) {
    if (value.tesa) value.tesa = Attribute::FromKept(value.type.shape, std::vector<uint8_t>(64 * 64, 1), 32);
  }
  EXPECT_NE(Key(graph, 2), Key(other, 2)) << "another pattern";
  other = graph;
  other.nodes[0].attrs.Set("transpose_b", int64_t{1});
  EXPECT_NE(Key(graph, 0), Key(other, 0)) << "a parameter";
}

TEST(SingleNodeTest, ANodeAloneKeepsItsConstants) {
  const Graph graph = Layers();
  const SingleNode single = TakeOut(graph, graph.nodes[2]);
  ASSERT_EQ(single.graph.inputs.size(), 1u);
  EXPECT_EQ(single.graph.nodes.size(), 1u);
  const Value& weights = single.graph[single.graph.nodes[0].inputs[1]];
  EXPECT_EQ(weights.kind, ValueKind::kConstant);
  ASSERT_TRUE(weights.tesa.has_value());
  EXPECT_NE(single.what.find("matmul f32[32,64] x f32[64,64] kept"), std::string::npos) << single.what;
}

TEST(TunerTest, MeasuresEachKindOfNodeOnceAndThenNothing) {
  const Graph graph = Layers();
  const Target target = *MakeTarget("host");
  const TuneOptions options = {.threads = 1, .rounds = 2, .round_ms = 0.05};
  TuningRecords records;
  const StatusOr<TuneReport> first = Tune(graph, target, options, records);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->problems.empty()) << first->problems[0];
  EXPECT_GT(first->ways_measured, 1);
  int nodes = 0;
  for (const TunedNode& node : first->nodes) {
    nodes += node.count;
    EXPECT_TRUE(node.measured);
    EXPECT_LE(node.best_us, node.estimated_us);
  }
  EXPECT_GE(nodes, 1);
  const std::map<std::string, double>* times = records.Find(Key(graph, 2));
  ASSERT_NE(times, nullptr);
  EXPECT_TRUE(times->count("matmul")) << "dense is always tried";
  EXPECT_GE(times->size(), 2u);

  const TuningRecords before = records;
  const StatusOr<TuneReport> second = Tune(graph, target, options, records);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->ways_measured, 0);
  EXPECT_EQ(second->nodes.size(), first->nodes.size());
  EXPECT_EQ(records, before);
}

TEST(TunerTest, RecordsDecideWhatIsCompiled) {
  const Graph graph = Layers();
  const Target target = *MakeTarget("host");
  for (const char* way : {"generic", "matmul"}) {
    TuningRecords records;
    records.Set(Key(graph, 2, 3), way, 1, "");
    const StatusOr<Plan> plan = MakePlan(graph, target, {.tuning = &records, .tuning_threads = 3});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->notes[2].rfind("node 'third': " + std::string(way) + ";", 0), 0u) << plan->notes[2];
    EXPECT_NE(plan->notes[2].find("measured 1.0 us"), std::string::npos) << plan->notes[2];
  }
}

TEST(TunerTest, ABudgetOfNothingLeavesEverything) {
  const Graph graph = Layers();
  TuningRecords records;
  const StatusOr<TuneReport> report = Tune(graph, *MakeTarget("host"), {.budget_seconds = 0}, records);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->ways_measured, 0);
  EXPECT_GE(report->nodes_left, 1);
  EXPECT_EQ(records.size(), 0u);
}

// A driver whose card computes nothing and needs half a millisecond for everything.
class CardTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("TESSERA_NVJITLINK", "off", 1);
    FakeGpu::Use("runtime/testing/fake_libcuda.so").Reset(nullptr);
  }
};

Graph Halves() {
  return Parse(R"(graph "g" {
    %x: f16[192,512] = input
    %w: f16[512,192] = constant random(seed = 1)
    %y: f16[192,192] = matmul "product"(%x, %w)
    return %y
  })");
}

TEST_F(CardTest, MeasuresTheWholeSpaceByTheCardsClockAndOnlyOnce) {
  const Graph graph = Halves();
  const Target target = *MakeTarget("cuda:sm_90");
  TuningRecords records;
  const TuneOptions options = {.rounds = 3, .factor = 1000};
  const StatusOr<TuneReport> first = Tune(graph, target, options, records);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->problems.empty()) << first->problems[0];
  EXPECT_GT(first->ways_measured, 7);
  const std::string key = NodeKey(TakeOut(graph, graph.nodes[0]), target, 1);
  const std::map<std::string, double>* times = records.Find(key);
  ASSERT_NE(times, nullptr);
  for (const auto& [way, us] : *times) EXPECT_LT(us, 500) << way << ": not of a replay that has the step many times";
  EXPECT_NE(records.ToString().find("matmul f16[192,512] x f16[512,192] on sm_90\n"), std::string::npos);
  const StatusOr<TuneReport> second = Tune(graph, target, options, records);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->ways_measured, 0);

  // Another chip, another key: files are merged.
  EXPECT_NE(key, NodeKey(TakeOut(graph, graph.nodes[0]), *MakeTarget("cuda:sm_80"), 1));
  EXPECT_EQ(key, NodeKey(TakeOut(graph, graph.nodes[0]), target, 16)) << "threads of the host";

  // One that no estimate would have offered is taken where it was the quickest.
  std::string best;
  for (const auto& [way, us] : *times) {
    const StatusOr<Plan> plan = MakePlan(graph, target, {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    if (plan->notes[0].find(way + ": ") == std::string::npos) best = way;
  }
  ASSERT_FALSE(best.empty()) << "all are offered anyway";
  records.Set(key, best, 0.1, "");
  const StatusOr<Plan> tuned = MakePlan(graph, target, {.tuning = &records});
  ASSERT_TRUE(tuned.ok()) << tuned.status();
  EXPECT_EQ(tuned->notes[0].rfind("node 'product': " + best + ";", 0), 0u) << tuned->notes[0];
}

TEST_F(CardTest, TheHostsStandInHasNoTime) {
  TuningRecords records;
  const StatusOr<TuneReport> report = Tune(Halves(), *MakeTarget("simt:nvptx:sm_90"), {}, records);
  EXPECT_EQ(report.status().code(), ErrorCode::kTargetUnsupported);
}

}  // namespace
}  // namespace tessera
