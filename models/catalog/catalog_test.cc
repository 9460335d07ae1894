#include "models/catalog/catalog.h"

#include <gtest/gtest.h>

#include <cmath>

#include "graph/interpreter.h"
#include "graph/op.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// Weights as published, without BatchNorm's statistics.
int64_t Parameters(const Graph& graph) {
  int64_t count = 0;
  for (const Value& value : graph.values) {
    if (value.kind == ValueKind::kConstant && value.name.find("running_") == std::string::npos)
      count += value.type.shape.num_elements();
  }
  return count;
}

// Multiply-adds of convolutions and matmuls.
int64_t MultiplyAdds(const Graph& graph) {
  int64_t count = 0;
  for (const Node& node : graph.nodes) {
    const Shape& out = graph[node.outputs[0]].type.shape;
    if (node.op == Op::kConv) {
      const Shape& w = graph[node.inputs[1]].type.shape;
      count += out.num_elements() * (w.num_elements() / w[0]);
    } else if (node.op == Op::kMatmul) {
      const Shape& a = graph[node.inputs[0]].type.shape;
      count += out.num_elements() * a[a.rank() - 1];
    }
  }
  return count;
}

Graph Build(std::string_view name, const CatalogOptions& options = {}) {
  StatusOr<Graph> graph = BuildCatalogModel(name, options);
  EXPECT_TRUE(graph.ok()) << name << ": " << graph.status();
  return graph.ok() ? *graph : Graph();
}

TEST(CatalogTest, SizesAreThePublishedOnes) {
  EXPECT_EQ(Parameters(Build("mlp")), 1024 * 1024 * 2 + 1024 * 512 + 512 * 10 + 1024 * 2 + 512 + 10);
  EXPECT_EQ(Parameters(Build("mobilenet_v1")), 4231976);  // Keras' 4,253,864 less 21,888 statistics
  EXPECT_EQ(Parameters(Build("mobilenet_v2")), 3504872);  // torchvision
  EXPECT_EQ(Parameters(Build("resnet18")), 11689512);     // torchvision
  // 12 layers of 7,087,872 and the first LayerNorm, of BERT-base's 110 million.
  EXPECT_EQ(Parameters(Build("bert_base", {.parameters = {{"layers", 2}}})), 2 * 7087872 + 2 * 768 + 2);
  EXPECT_NEAR(static_cast<double>(MultiplyAdds(Build("mobilenet_v1"))), 569e6, 1e6);
  EXPECT_NEAR(static_cast<double>(MultiplyAdds(Build("resnet18"))), 1814e6, 2e6);
}

TEST(CatalogTest, EveryNetworkRunsAndItsOutputsAreOfAnEarthlySize) {
  const std::map<std::string_view, std::map<std::string, int64_t, std::less<>>> small = {
      {"mlp", {}},
      {"mobilenet_v1", {{"size", 32}, {"width", 25}, {"classes", 10}}},
      {"mobilenet_v2", {{"size", 32}, {"width", 25}, {"classes", 10}}},
      {"resnet18", {{"size", 32}, {"width", 25}, {"classes", 10}}},
      {"bert_base", {{"layers", 3}, {"hidden", 32}, {"heads", 4}, {"inner", 64}, {"seq", 7}}},
      {"minilm", {{"layers", 3}, {"hidden", 48}, {"heads", 12}, {"inner", 64}, {"seq", 9}}}};
  Random random(5);
  for (const CatalogNetwork& network : CatalogNetworks()) {
    ASSERT_EQ(small.count(network.name), 1u) << network.name << ": give it small parameters above";
    const Graph graph = Build(network.name, {.batch = 2, .parameters = small.at(network.name)});
    ASSERT_EQ(graph.inputs.size(), 1u);
    const Tensor input = RandomTensor(random, graph[graph.inputs[0]].type);
    StatusOr<std::vector<RefTensor>> outputs = Interpret(graph, std::vector<Tensor>{input});
    ASSERT_TRUE(outputs.ok()) << network.name << ": " << outputs.status();
    double squares = 0;
    for (double value : (*outputs)[0].f) squares += value * value;
    const double size = std::sqrt(squares / static_cast<double>((*outputs)[0].f.size()));
    EXPECT_TRUE(size > 0.05 && size < 20) << network.name << ": root mean square " << size;
  }
}

TEST(CatalogTest, WeightsDependOnSeedAndNameOnly) {
  const auto weight = [](const Graph& graph) { return graph[graph.FindValue("layer0.inner.weight")].constant; };
  const std::map<std::string, int64_t, std::less<>> one = {{"layers", 1}, {"seq", 8}},
                                                    two = {{"layers", 2}, {"seq", 4}};
  const Tensor first = weight(Build("minilm", {.parameters = one}));
  EXPECT_EQ(first, weight(Build("minilm", {.batch = 3, .parameters = two})));
  EXPECT_FALSE(first == weight(Build("minilm", {.seed = 2, .parameters = one})));
}

TEST(CatalogTest, BadRequestsSayWhatThereIs) {
  const std::vector<std::pair<StatusOr<Graph>, std::string>> cases = {
      {BuildCatalogModel("vgg", {}), "it has mlp, mobilenet_v1"},
      {BuildCatalogModel("mlp", {.batch = 0}), "expected a batch"},
      {BuildCatalogModel("mlp", {.parameters = {{"size", 1}}}), "mlp has no parameter 'size'; it has none"},
      {BuildCatalogModel("minilm", {.parameters = {{"depth", 1}}}), "it has layers, hidden, heads, inner, seq"},
      {BuildCatalogModel("minilm", {.parameters = {{"seq", 0}}}), "expected seq from 1 to 4096, found 0"},
      {BuildCatalogModel("minilm", {.parameters = {{"heads", 7}}}), "not a multiple"}};
  for (const auto& [graph, text] : cases) {
    EXPECT_EQ(graph.status().code(), ErrorCode::kUsageInvalid);
    EXPECT_NE(graph.status().message().find(text), std::string::npos) << graph.status();
  }
}

}  // namespace
}  // namespace tessera
