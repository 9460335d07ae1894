#include "models/prune/prune.h"

#include <gtest/gtest.h>

#include "graph/builder.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// x · W1[in, out], x · W2ᵀ[out, in], a convolution, a depthwise one.
Graph Weights() {
  Random random(1);
  GraphBuilder b("weights");
  const ValueId x = b.Input("x", DType::kF32, {1, 64});
  const ValueId w1 = b.Constant("w1", RandomTensor(random, {DType::kF32, {64, 96}}));
  const ValueId w2 = b.Constant("w2", RandomTensor(random, {DType::kF32, {96, 64}}));
  b.Output(b.Add(b.Matmul(x, w1), b.Matmul(x, w2, false, true)));
  const ValueId image = b.Input("image", DType::kF32, {1, 32, 5, 5});
  const ValueId conv = b.Conv(image, b.Constant("conv", RandomTensor(random, {DType::kF32, {64, 32, 3, 3}})));
  b.Output(b.Conv(conv, b.Constant("dw", RandomTensor(random, {DType::kF32, {64, 1, 1, 1}})), {}, 64));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *graph;
}

const Value& Named(const Graph& graph, const char* name) { return graph[graph.FindValue(name)]; }

Graph Pruned(std::string_view text, int expected = 3) {
  StatusOr<PruneSpec> spec = ParsePruneSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status();
  Graph graph = Weights();
  EXPECT_EQ(Prune(graph, *spec, 7), expected);
  return graph;
}

TEST(PruneTest, MaskAndDataAgree) {
  for (std::string_view text : {"90%:fine", "80%:4x1", "50%:16x16", "70%:channels", "2:4", "75%:1:4"}) {
    const Graph graph = Pruned(text);
    const double kept = 1 - ParsePruneSpec(text)->dropped;
    for (const char* name : {"w1", "w2", "conv"}) {
      const Value& value = Named(graph, name);
      ASSERT_TRUE(value.tesa.has_value()) << text << name;
      EXPECT_NEAR(value.tesa->density(), kept, 0.2) << text << " " << name;
      EXPECT_EQ(value.tesa->ApplyTo(value.constant), value.constant);
    }
    EXPECT_FALSE(Named(graph, "dw").tesa.has_value());
  }
}

TEST(PruneTest, QuantisedWeightsArePrunedWhereTheyAreStored) {
  Random random(2);
  for (const int64_t zero_point : {0, 3}) {
    GraphBuilder b("quantised");
    const ValueId x = b.Input("x", DType::kF32, {4, 64});
    const ValueId w = b.Constant("w", RandomTensorIn(random, {DType::kI8, {64, 96}}, 1, 100));
    const ValueId zero = b.Constant("zero", Tensor::Full(DType::kI8, {}, static_cast<double>(zero_point)));
    b.Output(b.Matmul(x, b.Dequantize(w, b.Number(0.1), zero)));
    const ValueId u = b.Input("u", DType::kU8, {4, 64});
    b.Output(b.Matmul(u, b.Constant("direct", RandomTensorIn(random, {DType::kI8, {64, 96}}, 1, 100))));
    Graph graph = *std::move(b).Build();
    EXPECT_EQ(Prune(graph, *ParsePruneSpec("90%:fine"), 7), zero_point == 0 ? 2 : 1);
    const Value& value = Named(graph, "w");
    EXPECT_EQ(value.tesa.has_value(), zero_point == 0);
    if (value.tesa) {
      EXPECT_EQ(value.tesa->Widths(), std::vector<int>{8});
      EXPECT_EQ(value.tesa->ApplyTo(value.constant), value.constant);
    }
  }
}

TEST(PruneTest, ChannelsAndGroupsLieAlongTheRightAxis) {
  const Graph channels = Pruned("50%:channels");
  // w1 is [in, out]: whole columns; w2 and conv: whole rows.
  EXPECT_EQ(FitPattern(*Named(channels, "w1").tesa).pattern, Pattern::Slices(1));
  EXPECT_EQ(FitPattern(*Named(channels, "w2").tesa).pattern, Pattern::Slices(0));
  EXPECT_EQ(FitPattern(*Named(channels, "conv").tesa).pattern, Pattern::Slices(0));
  const Graph groups = Pruned("2:4");
  EXPECT_EQ(FitPattern(*Named(groups, "w1").tesa).pattern, Pattern::Nm(2, 4, 0));
  EXPECT_EQ(FitPattern(*Named(groups, "w2").tesa).pattern, Pattern::Nm(2, 4, 1));
}

TEST(PruneTest, TheSeedDecides) {
  Graph a = Weights(), b = Weights(), c = Weights();
  const PruneSpec spec = *ParsePruneSpec("90%:fine");
  Prune(a, spec, 1);
  Prune(b, spec, 1);
  Prune(c, spec, 2);
  EXPECT_EQ(*Named(a, "w1").tesa, *Named(b, "w1").tesa);
  EXPECT_FALSE(*Named(a, "w1").tesa == *Named(c, "w1").tesa);
  EXPECT_FALSE(Named(Pruned("none", 0), "w1").tesa.has_value());
}

TEST(PruneTest, BadSpecsAreUsageErrors) {
  for (std::string_view text :
       {"", "fine", "90%", "90%:", "90%:dense", "190%:fine", "x%:fine", "90%:2:4", "90%:0x4", "4:2", "90%:rows"}) {
    EXPECT_EQ(ParsePruneSpec(text).status().code(), ErrorCode::kUsageInvalid) << text;
  }
}

}  // namespace
}  // namespace tessera
