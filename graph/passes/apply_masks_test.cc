#include "graph/passes/apply_masks.h"

#include "graph/interpreter.h"
#include "graph/passes/testing/keeps_meaning.h"
#include "graph/passes/testing/random_idioms.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// Random masks on inputs and on what nodes compute, several widths and all element types among them.
TEST(ApplyMasks, MaskedGraphsMeanTheSame) {
  int masks = 0, wheres = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    IdiomCase c = RandomIdioms(seed);
    Random random(seed);
    for (Value& value : c.graph.values) {
      if (value.kind == ValueKind::kConstant || value.type.shape.num_elements() == 0 || !random.Chance(0.2)) continue;
      const int width = static_cast<int>(random.Int(1, TypeInfo(value.type.dtype).bits));
      const Pattern pattern = random.Chance(0.5) || value.type.shape.rank() == 0
                                  ? Pattern::Scattered()
                                  : Pattern::Slices(static_cast<int>(random.Int(0, value.type.shape.rank() - 1)));
      value.tesa = RandomAttribute(random, value.type.shape, pattern, 0.6, width);
      masks += !value.tesa->keeps_all();
    }
    ASSERT_OK(Verify(c.graph));
    Graph after = c.graph;
    ASSERT_OK(ApplyMasks(after));
    ASSERT_OK(Verify(after)) << "seed " << seed;
    ASSERT_OK(SameMeaning(c.graph, after, seed)) << "seed " << seed << "\n" << PrintGraph(after, {.elide = true});
    for (const Value& value : after.values) {
      EXPECT_FALSE(value.kind != ValueKind::kConstant && value.tesa && !value.tesa->keeps_all()) << value.name;
    }
    wheres += static_cast<int>(after.nodes.size() - c.graph.nodes.size());
    const Graph once = after;
    ASSERT_OK(ApplyMasks(after));
    EXPECT_EQ(after, once);
  }
  EXPECT_GT(masks, 300);
  EXPECT_EQ(wheres, masks);
}

// Zero is zero also where the network makes NaN and infinity.
TEST(ApplyMasks, PrunedIsZeroWhateverWasComputed) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(R"(graph "g" {
  %x: f32[2] = input
  %y: f32[2] tesa(layers 32: grid[1] 2x02) = log(%x)
  return %y
})"));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto y, Interpret(graph, std::vector<Tensor>{Tensor::FromVector<float>({2}, {-1, 1})}));
    EXPECT_EQ(y[0].f, (std::vector<double>{0, 0}));
    EXPECT_EQ(graph[graph.outputs[0]].name, "y");
    ASSERT_OK(ApplyMasks(graph));
  }
}

// An input that is an output comes back as it came; who computes with it sees the mask.
TEST(ApplyMasks, InputsThatAreOutputs) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(R"(graph "g" {
  %x: f32[2] tesa(layers 32: grid[1] 2x02) = input
  %y: f32[2] = neg(%x)
  return %x, %y
})"));
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const auto y, Interpret(graph, std::vector<Tensor>{Tensor::FromVector<float>({2}, {3, 4})}));
    EXPECT_EQ(y[0].f, (std::vector<double>{3, 4}));
    EXPECT_EQ(y[1].f, (std::vector<double>{0, -4}));
    ASSERT_OK(ApplyMasks(graph));
  }
}

}  // namespace
}  // namespace tessera
