#include "graph/graph.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

ValueId Add(Graph& graph, const std::string& name, ValueKind kind = ValueKind::kComputed) {
  Value value;
  value.name = name;
  value.kind = kind;
  return graph.AddValue(std::move(value));
}

Node MakeNode(const std::string& name, std::vector<ValueId> inputs, std::vector<ValueId> outputs) {
  return {.op = Op::kAdd, .name = name, .inputs = std::move(inputs), .outputs = std::move(outputs)};
}

// a = x + x; b = a + x (epilogue reads a too); dead = a + a
Graph Sample() {
  Graph graph;
  const ValueId x = Add(graph, "x", ValueKind::kInput), a = Add(graph, "a"), b = Add(graph, "b"),
                dead = Add(graph, "dead");
  graph.inputs = {x};
  graph.outputs = {b};
  graph.nodes = {MakeNode("a", {x, x}, {a}), MakeNode("b", {a, x}, {b}), MakeNode("dead", {a, a}, {dead})};
  graph.nodes[1].epilogue = Epilogue{.body = IdentityBody(DType::kF32), .inputs = {a}};
  return graph;
}

TEST(UsesTest, ReadersAndProducers) {
  const Graph graph = Sample();
  const Uses uses(graph);
  const ValueId x = graph.FindValue("x"), a = graph.FindValue("a"), b = graph.FindValue("b");
  EXPECT_EQ(uses.producer[Index(x)], NodeId::kNone);
  EXPECT_EQ(Index(uses.producer[Index(b)]), 1);
  EXPECT_EQ(uses.readers[Index(a)].size(), 2u) << "a node that reads a value twice counts once";
  EXPECT_FALSE(uses.HasOneReader(a));
  EXPECT_FALSE(uses.HasOneReader(b)) << "an output of the graph is read from outside";
}

TEST(GraphTest, RemoveDeadNodesKeepsWhatOutputsNeed) {
  Graph graph = Sample();
  RemoveDeadNodes(graph);
  ASSERT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(graph.values.size(), 3u);
  EXPECT_EQ(graph.FindValue("dead"), ValueId::kNone);
  EXPECT_EQ(graph[graph.outputs[0]].name, "b");
  EXPECT_EQ(graph[graph.nodes[1].epilogue->inputs[0]].name, "a");
}

TEST(GraphTest, SortRestoresOrderAndKeepsItWhereValid) {
  Graph graph = Sample();
  std::swap(graph.nodes[0], graph.nodes[1]);
  ASSERT_TRUE(SortTopologically(graph).ok());
  EXPECT_EQ(graph.nodes[0].name, "a");
  EXPECT_EQ(graph.nodes[1].name, "b");
  EXPECT_EQ(graph.nodes[2].name, "dead");
}

TEST(GraphTest, SortNamesANodeOnACycle) {
  Graph graph = Sample();
  graph.nodes[0].inputs[0] = graph.FindValue("b");
  const Status status = SortTopologically(graph);
  EXPECT_EQ(status.code(), ErrorCode::kGraphCyclic);
  EXPECT_NE(status.message().find("'a'"), std::string::npos) << status;
}

TEST(GraphTest, ReplaceAllUsesReachesEpiloguesAndOutputs) {
  Graph graph = Sample();
  const ValueId x = graph.FindValue("x"), a = graph.FindValue("a"), b = graph.FindValue("b");
  ReplaceAllUses(graph, a, x);
  EXPECT_EQ(graph.nodes[1].inputs[0], x);
  EXPECT_EQ(graph.nodes[1].epilogue->inputs[0], x);
  EXPECT_EQ(graph.nodes[2].inputs[1], x);
  ReplaceAllUses(graph, b, x);
  EXPECT_EQ(graph.outputs[0], x);
}

TEST(AttrsTest, KindsAndDefaults) {
  Attrs attrs;
  attrs.Set("axis", int64_t{2});
  attrs.Set("pads", std::vector<int64_t>{1, 2});
  EXPECT_EQ(attrs.Int("axis"), 2);
  EXPECT_EQ(attrs.Int("other", 7), 7);
  EXPECT_EQ(attrs.Ints("pads")[1], 2);
  EXPECT_EQ(attrs.String("mode", "x"), "x");
  Attrs same;
  same.Set("pads", std::vector<int64_t>{1, 2});
  same.Set("axis", int64_t{2});
  EXPECT_EQ(attrs, same) << "order of insertion does not matter";
  same.Erase("axis");
  EXPECT_FALSE(same.Has("axis"));
}

}  // namespace
}  // namespace tessera
