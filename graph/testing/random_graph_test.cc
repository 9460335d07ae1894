// Tests that random networks are valid, varied and numerically tame.
#include "graph/testing/random_graph.h"

#include <cmath>
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

TEST(RandomGraph, IsValidAndTame) {
  std::map<std::string_view, int> ops;
  int attributes = 0, epilogues = 0, quantised = 0, branches = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random);
    ASSERT_OK(Verify(graph)) << "seed " << seed << "\n" << graph;
    for (const Node& node : graph.nodes) {
      ++ops[OpName(node.op)];
      epilogues += node.epilogue.has_value();
    }
    for (const Value& value : graph.values) {
      attributes += value.tesa.has_value();
      quantised += value.quant.has_value();
    }
    for (const auto& readers : Uses(graph).readers) branches += readers.size() > 1;
    if (seed % 4 != 0) continue;
    ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> outputs, Interpret(graph, RandomInputs(random, graph)));
    for (const RefTensor& output : outputs) {
      for (double value : output.f) ASSERT_TRUE(std::fabs(value) < 1e6) << "seed " << seed << "\n" << graph;
    }
  }
  EXPECT_GE(ops.size(), 30u);
  EXPECT_GT(attributes, 100);
  EXPECT_GT(epilogues, 30);
  EXPECT_GT(quantised, 10);
  EXPECT_GT(branches, 100);
}

TEST(RandomGraph, IsTheSameForASeed) {
  Random a(7), b(7);
  EXPECT_TRUE(RandomGraph(a) == RandomGraph(b));
}

}  // namespace
}  // namespace tessera
