// Complete: on the published kinds of networks, with channels, blocks and attention heads pruned, learned rules find at
// least all that the exact algebra finds, weight by weight and activation by activation.
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "gtest/gtest.h"
#include "models/catalog/catalog.h"
#include "models/prune/prune.h"
#include "propagate/propagate.h"
#include "tesa/cells.h"

namespace tessera {
namespace {

StatusOr<Facts> FactsBy(const Graph& graph, RuleMode mode) {
  RuleBook book(mode);
  return Propagate(graph, book, {.on_collapse = OnCollapse::kKeep});
}

// How many elements of `value` the exact rules prune and the learned ones keep.
int64_t Missed(const Graph& graph, const Facts& exact, const Facts& learned, ValueId value) {
  const Cells<uint8_t> missed =
      Combine(BitCells(PrunedAttribute(graph, exact, value)), BitCells(PrunedAttribute(graph, learned, value)),
              [](uint8_t by_exact, uint8_t by_learned) { return uint8_t{by_exact == 0 && by_learned != 0}; });
  return missed.Count(1);
}

struct Found {
  int64_t weights = 0, activations = 0;  // elements that exact rules prune beyond what is declared
};

// Learned rules miss nothing of what exact rules find.
Found ExpectNothingMissed(const Graph& graph) {
  const StatusOr<Facts> exact = FactsBy(graph, RuleMode::kExact), learned = FactsBy(graph, RuleMode::kLearned);
  EXPECT_TRUE(exact.ok()) << exact.status();
  EXPECT_TRUE(learned.ok()) << learned.status();
  Found found;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const ValueId id = static_cast<ValueId>(v);
    const Value& value = graph.values[v];
    EXPECT_EQ(0, Missed(graph, *exact, *learned, id)) << value.name;
    const int64_t declared = value.tesa ? value.tesa->num_kept() : value.type.shape.num_elements();
    (value.kind == ValueKind::kConstant ? found.weights : found.activations) +=
        declared - PrunedAttribute(graph, *exact, id).num_kept();
  }
  return found;
}

struct Case {
  const char* network;
  std::map<std::string, int64_t, std::less<>> parameters;
  const char* prune;
};

class Completeness : public testing::TestWithParam<Case> {};

TEST_P(Completeness, LearnedFindsAllThatExactFinds) {
  StatusOr<Graph> graph = BuildCatalogModel(GetParam().network, {.parameters = GetParam().parameters});
  ASSERT_TRUE(graph.ok()) << graph.status();
  Prune(*graph, *ParsePruneSpec(GetParam().prune), 1);
  EXPECT_GT(ExpectNothingMissed(*graph).activations, 0);
}

INSTANTIATE_TEST_SUITE_P(Networks, Completeness,
                         testing::Values(Case{"mlp", {}, "60%:channels"}, Case{"mlp", {}, "80%:64x64"},
                                         Case{"mobilenet_v1", {{"size", 64}}, "60%:channels"},
                                         Case{"mobilenet_v1", {{"size", 64}}, "80%:32x32"},
                                         Case{"bert_base", {{"layers", 2}, {"seq", 32}}, "60%:channels"},
                                         Case{"bert_base", {{"layers", 2}, {"seq", 32}}, "90%:64x64"}));

// Heads 0 and 5 of each layer: the output projection does not read them, so nothing of their queries, keys and values
// is needed.
TEST(CompletenessOfHeads, PrunedHeadsDieUpToTheirProjections) {
  StatusOr<Graph> graph = BuildCatalogModel("bert_base", {.parameters = {{"layers", 2}, {"seq", 32}}});
  ASSERT_TRUE(graph.ok()) << graph.status();
  constexpr int64_t kHidden = 768, kDepth = 64;
  int layers = 0;
  for (const Node& node : graph->nodes) {
    if (node.op != Op::kMatmul || node.name.find("attention.output") == std::string::npos) continue;
    Value& weight = (*graph)[node.inputs[1]];
    ASSERT_EQ(Shape({kHidden, kHidden}), weight.type.shape);
    const bool transposed = node.attrs.Int("transpose_b", 0) != 0;
    std::vector<uint8_t> kept(static_cast<size_t>(kHidden * kHidden));
    for (int64_t i = 0; i < kHidden * kHidden; ++i) {
      const int64_t head = (transposed ? i % kHidden : i / kHidden) / kDepth;
      kept[static_cast<size_t>(i)] = head != 0 && head != 5;
    }
    weight.tesa = Attribute::FromKept(weight.type.shape, kept, 32);
    weight.constant = weight.tesa->ApplyTo(weight.constant);
    ++layers;
  }
  ASSERT_EQ(2, layers);
  // Two heads of 64 columns in each of three projections of each layer, and their biases.
  EXPECT_EQ(2 * 3 * 2 * kDepth * (kHidden + 1), ExpectNothingMissed(*graph).weights);
}

}  // namespace
}  // namespace tessera
