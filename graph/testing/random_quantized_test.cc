// Tests that random quantised networks are valid and varied, and that exact ones are: f32 holds every value.
#include "graph/testing/random_quantized.h"

#include <map>
#include <string>

#include "graph/interpreter.h"
#include "graph/op_names.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

TEST(RandomQuantized, IsValidAndVaried) {
  std::map<std::string_view, int> ops;
  int integers = 0, pruned = 0;
  for (uint64_t seed = 0; seed < 250; ++seed) {
    const QuantizedCase c = RandomQuantized(seed, {.exact = seed % 2 == 0});
    ASSERT_OK(Verify(c.graph)) << "seed " << seed << "\n" << c.graph;
    ASSERT_OK(Interpret(c.graph, c.inputs).status()) << "seed " << seed;
    for (const Node& node : c.graph.nodes) ++ops[OpName(node.op)];
    for (ValueId id : c.graph.inputs) integers += IsInteger(c.graph[id].type.dtype);
    for (const Value& value : c.graph.values) pruned += value.tesa.has_value();
  }
  for (const char* op : {"conv", "matmul", "quantize", "dequantize", "avg_pool", "max_pool", "concat", "reduce_mean"}) {
    EXPECT_GT(ops[op], 20) << op;
  }
  EXPECT_GT(integers, 50);
  EXPECT_GT(pruned, 50);
}

TEST(RandomQuantized, ExactOnesLoseNothingInF32) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const QuantizedCase c = RandomQuantized(seed, {.exact = true});
    ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> all, InterpretAll(c.graph, c.inputs));
    for (size_t v = 0; v < all.size(); ++v) {
      for (double value : all[v].f) {
        ASSERT_EQ(value, static_cast<float>(value)) << "seed " << seed << " " << c.graph.values[v].name;
      }
    }
  }
}

}  // namespace
}  // namespace tessera
