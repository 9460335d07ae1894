#include "graph/passes/testing/keeps_integers.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "graph/interpreter.h"
#include "graph/testing/random_quantized.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// No scale of random_quantized.h is larger.
constexpr double kLargestStep = 0.0625;
// Of all elements of integer outputs, those that may lie on the other side of a middle.
constexpr double kFew = 2e-3;

// TESSERA_SEED=n runs that seed alone.
template <typename Check>
void ForEachSeed(int num_graphs, Check check) {
  const char* only = std::getenv("TESSERA_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t last = only != nullptr ? first : static_cast<uint64_t>(num_graphs);
  int changed = 0;
  for (uint64_t seed = first; seed <= last && !testing::Test::HasFailure(); ++seed) changed += check(seed);
  if (only == nullptr && !testing::Test::HasFailure()) {
    EXPECT_GT(changed, num_graphs / 20) << "the pass has nothing to do on the random graphs";
  }
}

}  // namespace

void ExpectKeepsExactNetworks(PassFunction pass, int num_graphs) {
  ForEachSeed(num_graphs, [&](uint64_t seed) {
    const QuantizedCase c = RandomQuantized(seed, {.exact = true});
    Graph after = c.graph;
    const auto graphs = [&] {
      return "seed " + std::to_string(seed) + "\nbefore: " + PrintGraph(c.graph) + "\nafter: " + PrintGraph(after);
    };
    EXPECT_OK(pass(after)) << graphs();
    EXPECT_OK(Verify(after)) << graphs();
    const StatusOr<std::vector<RefTensor>> expected = Interpret(c.graph, c.inputs);
    for (Interpretation how : {Interpretation::kReference, Interpretation::kCompute}) {
      const StatusOr<std::vector<RefTensor>> actual = Interpret(after, c.inputs, how);
      if (!expected.ok() || !actual.ok()) {
        ADD_FAILURE() << expected.status() << actual.status() << graphs();
        return false;
      }
      for (size_t k = 0; k < expected->size(); ++k) {
        EXPECT_OK(CompareRefs((*expected)[k], (*actual)[k], {0, 0}))
            << "output '" << c.graph[c.graph.outputs[k]].name << "' "
            << (how == Interpretation::kCompute ? "by computes" : "") << graphs();
      }
    }
    return !(after == c.graph);
  });
}

void ExpectStaysWithinAStep(PassFunction pass, int num_graphs) {
  int64_t elements = 0, different = 0;
  ForEachSeed(num_graphs, [&](uint64_t seed) {
    const QuantizedCase c = RandomQuantized(seed, {.pieces = 1, .integer_inputs = true});
    Graph after = c.graph;
    const auto graphs = [&] {
      return "seed " + std::to_string(seed) + "\nbefore: " + PrintGraph(c.graph) + "\nafter: " + PrintGraph(after);
    };
    EXPECT_OK(pass(after)) << graphs();
    const StatusOr<std::vector<RefTensor>> expected = Interpret(c.graph, c.inputs), actual = Interpret(after, c.inputs);
    if (!expected.ok() || !actual.ok()) {
      ADD_FAILURE() << expected.status() << actual.status() << graphs();
      return false;
    }
    for (size_t k = 0; k < expected->size(); ++k) {
      const RefTensor &e = (*expected)[k], &a = (*actual)[k];
      double largest = 0;
      for (double v : e.f) largest = std::max(largest, std::abs(v));
      for (int64_t i = 0; i < e.size() && !testing::Test::HasFailure(); ++i) {
        if (!e.is_float()) {
          ++elements;
          different += e.i[i] != a.i[i];
          EXPECT_LE(std::abs(e.i[i] - a.i[i]), 1) << "element " << i << " of output " << k << ", " << graphs();
        } else {
          EXPECT_LE(std::abs(e.f[i] - a.f[i]), kLargestStep + 1e-5 * largest)
              << "element " << i << " of output " << k << ", " << graphs();
        }
      }
    }
    return !(after == c.graph);
  });
  EXPECT_LE(static_cast<double>(different), kFew * static_cast<double>(elements));
  std::printf("%lld of %lld integers differ\n", static_cast<long long>(different), static_cast<long long>(elements));
}

}  // namespace tessera
