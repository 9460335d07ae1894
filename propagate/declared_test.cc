#include "propagate/declared.h"

#include <cmath>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/testing/random_graph.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "propagate/propagate.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

Graph Declared() {
  GraphBuilder b("declared");
  const ValueId x = b.Input("x", DType::kF32, {1, 3});
  const ValueId h = b.Named("h").Relu(x);
  b.SetTesa(x, Attribute::FromBits({1, 3}, std::vector<uint8_t>{32, 0, 32}));
  b.SetTesa(h, Attribute::FromBits({1, 3}, std::vector<uint8_t>{8, 4, 0}));
  b.Output(h);
  b.Output(b.Named("z").Neg(h));
  return *std::move(b).Build();
}

TEST(Declared, MasksBecomeNodes) {
  Graph graph = Declared();
  EXPECT_EQ(ApplyDeclaredMasks(graph), 2);
  ASSERT_OK(Verify(graph));
  EXPECT_EQ(graph.nodes.size(), 4u);
  EXPECT_EQ(graph[graph.outputs[0]].name, "h");
  EXPECT_EQ(graph[graph.inputs[0]].name, "x");
  EXPECT_EQ(graph[graph.inputs[0]].tesa, std::nullopt);
  EXPECT_EQ(graph[graph.outputs[0]].tesa->Bits(), (std::vector<uint8_t>{8, 4, 8}));
  const Tensor nan = Tensor::FromVector<float>({1, 3}, {2, std::nanf(""), 5});
  ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> y, Interpret(graph, std::vector<Tensor>{nan}));
  EXPECT_EQ(y[0].f, (std::vector<double>{2, 0, 0}));
  EXPECT_EQ(y[1].f, (std::vector<double>{-2, 0, 0}));
  EXPECT_EQ(ApplyDeclaredMasks(graph), 0);
}

TEST(Declared, WhatIsMaskedIsZeroBehindAndDeadInFront) {
  Graph graph = Declared();
  const ValueId h = graph.FindValue("h"), x = graph.FindValue("x");
  ApplyDeclaredMasks(graph);
  RuleBook book(RuleMode::kExact);
  ASSERT_OK_AND_ASSIGN(const Facts facts, Propagate(graph, book));
  EXPECT_EQ(PrunedAttribute(graph, facts, h).Bits(), (std::vector<uint8_t>{8, 0, 0}));
  EXPECT_EQ(PrunedAttribute(graph, facts, x).Bits(), (std::vector<uint8_t>{32, 0, 0}));
}

TEST(Declared, RandomGraphsStayValid) {
  int masked = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Random random(seed);
    Graph graph = RandomGraph(random);
    masked += ApplyDeclaredMasks(graph);
    ASSERT_OK(Verify(graph)) << "seed " << seed;
    EXPECT_EQ(ApplyDeclaredMasks(graph), 0);
  }
  EXPECT_GT(masked, 10);
}

}  // namespace
}  // namespace tessera
