// Soundness, shown: 1,000 random graphs compute the same before and after propagation and shrinking.
//
// Graphs have 10 to 60 nodes (those that shrink to fewer by dead code count as they are), weights that lost channels,
// blocks or elements, residual sums, products, concatenations, grouped convolutions, attention and every op
// (graph/testing/prunable_graph.h). The masked model, run by the interpreter in double, is the reference; integer
// results must be equal, floats within 1e-5 of the largest element. It is counted that each op stood in enough
// graphs and that something shrank in at least four of five; and wrong facts are shown to be noticed. Seeds are split
// over the shards of the test. Prints its counts.
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <map>

#include "graph/interpreter.h"
#include "graph/op.h"
#include "graph/testing/prunable_graph.h"
#include "graph/testing/random_graph.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "propagate/propagate.h"
#include "propagate/rule_book.h"
#include "propagate/shrink.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr double kFloatError = 1e-5;
constexpr int kTests = 50;              // of gtest, which shards them
constexpr uint64_t kGraphsPerTest = 20;  // kTests * kGraphsPerTest >= 1,000

Graph GraphOf(uint64_t seed) {
  Random random(seed * 7919 + 1);
  return PrunableGraph(random);
}

// How far the results of b are from those of a, relative to the largest element of each; infinite where integers
// differ, or where one is a number and the other is not.
double Difference(const Graph& a, const Graph& b, uint64_t seed) {
  Random random(seed);
  double worst = 0;
  for (int trial = 0; trial < 2; ++trial) {
    const std::vector<Tensor> inputs = RandomInputs(random, a);
    const StatusOr<std::vector<RefTensor>> x = Interpret(a, inputs), y = Interpret(b, inputs);
    TES_CHECK(x.ok() && y.ok() && x->size() == y->size(), "interpreter");
    for (size_t o = 0; o < x->size(); ++o) {
      const RefTensor &p = (*x)[o], &q = (*y)[o];
      if (p.type != q.type) return INFINITY;
      double largest = 0, error = 0;
      for (int64_t k = 0; k < p.size(); ++k) {
        if (!p.is_float()) {
          if (p.i[k] != q.i[k]) return INFINITY;
          continue;
        }
        if (std::isnan(p.f[k]) != std::isnan(q.f[k])) return INFINITY;
        if (std::isnan(p.f[k]) || p.f[k] == q.f[k]) continue;
        largest = std::max(largest, std::abs(p.f[k]));
        error = std::max(error, std::abs(p.f[k] - q.f[k]));
      }
      if (error > 0) worst = std::max(worst, error / std::max(largest, 1e-30));
    }
  }
  return worst;
}

class Soundness : public testing::TestWithParam<int> {};

TEST_P(Soundness, ShrunkGraphsComputeTheSame) {
  RuleBook book(RuleMode::kExact);
  double worst = 0;
  int64_t nodes = 0, removed = 0;
  for (uint64_t k = 0; k < kGraphsPerTest; ++k) {
    const uint64_t seed = static_cast<uint64_t>(GetParam()) * kGraphsPerTest + k;
    const Graph before = GraphOf(seed);
    Graph after = before;
    const StatusOr<ShrinkReport> report = PropagateAndShrink(after, book, {.on_collapse = OnCollapse::kKeep});
    ASSERT_TRUE(report.ok()) << "seed " << seed << ": " << report.status() << "\n" << PrintGraph(before, {.elide = true});
    nodes += static_cast<int64_t>(before.nodes.size());
    removed += report->indices_removed;
    const double error = Difference(before, after, seed);
    ASSERT_LE(error, kFloatError) << "seed " << seed << "\n"
                                  << PrintGraph(before, {.elide = true}) << "\n=>\n"
                                  << PrintGraph(after, {.elide = true});
    worst = std::max(worst, error);
  }
  std::cout << kGraphsPerTest << " graphs, " << nodes << " nodes, " << removed << " indices removed, largest error "
            << worst << "\n";
}

INSTANTIATE_TEST_SUITE_P(Seeds, Soundness, testing::Range(0, kTests));

// That the graphs are what they are said to be.
TEST(SoundnessGraphs, AreLargeVariedAndShrink) {
  RuleBook book(RuleMode::kExact);
  std::map<Op, int> graphs_with;
  int shrunk = 0, small = 0, large = 0;
  const int count = kTests * static_cast<int>(kGraphsPerTest);
  for (int seed = 0; seed < count; ++seed) {
    Graph graph = GraphOf(static_cast<uint64_t>(seed));
    std::map<Op, int> ops;
    for (const Node& node : graph.nodes) ++ops[node.op];
    for (const auto& [op, times] : ops) ++graphs_with[op];
    small += graph.nodes.size() < 10;
    large += graph.nodes.size() > 70;
    const StatusOr<ShrinkReport> report = PropagateAndShrink(graph, book, {.on_collapse = OnCollapse::kKeep});
    ASSERT_TRUE(report.ok()) << report.status();
    shrunk += report->indices_removed > 0;
  }
  for (const OpDef& op : AllOps()) EXPECT_GE(graphs_with[op.op], 20) << op.name;
  EXPECT_GE(shrunk, count * 8 / 10);
  std::cout << count << " graphs, " << shrunk << " lost indices, " << small << " have fewer than 10 nodes, " << large
            << " more than 70\n";
}

TEST(SoundnessModes, LearnedRulesToo) {
  RuleBook book(RuleMode::kLearned);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const Graph before = GraphOf(seed);
    Graph after = before;
    const StatusOr<ShrinkReport> report = PropagateAndShrink(after, book, {.on_collapse = OnCollapse::kKeep});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_LE(Difference(before, after, seed), kFloatError) << "seed " << seed;
  }
}

// A wrong rule would be noticed: facts that claim more than is true make the comparison fail. One slice of one value
// that is live and unknown is called zero.
TEST(SoundnessMutation, WrongFactsAreNoticed) {
  RuleBook book(RuleMode::kExact);
  int tried = 0, noticed = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Graph before = GraphOf(seed);
    StatusOr<Facts> facts = Propagate(before, book, {.on_collapse = OnCollapse::kKeep});
    ASSERT_TRUE(facts.ok()) << facts.status();
    Random random(seed);
    Graph honest = before;
    const StatusOr<ShrinkReport> true_report = Shrink(honest, *facts, book);
    ASSERT_TRUE(true_report.ok());
    // Every value once, until a lie is acted upon.
    for (size_t v = 0; v < before.values.size(); ++v) {
      const Value& value = before.values[v];
      const Shape& shape = value.type.shape;
      if (value.kind != ValueKind::kComputed || !IsFloat(value.type.dtype) || shape.rank() == 0) continue;
      if (!facts->needed[v].all_live() || !facts->known[v].nothing_known()) continue;
      Facts lie = *facts;
      const int axis = shape.rank() > 1 ? 1 : 0;
      std::vector<uint8_t> kinds(static_cast<size_t>(shape.num_elements()), static_cast<uint8_t>(Certainty::kUnknown));
      const int64_t index = random.Int(0, shape[axis] - 1);
      size_t k = 0;
      ForEachIndex(shape, [&](const std::vector<int64_t>& at) {
        if (at[static_cast<size_t>(axis)] == index) kinds[k] = static_cast<uint8_t>(Certainty::kZero);
        ++k;
      });
      lie.known[v] = Known::FromElements(value.type, kinds, std::vector<double>(kinds.size(), 0));
      Graph after = before;
      const StatusOr<ShrinkReport> report = Shrink(after, lie, book);
      if (!report.ok()) continue;
      if (report->indices_removed == true_report->indices_removed) continue;  // nothing came of it
      ++tried;
      noticed += Difference(before, after, seed) > kFloatError;
      break;
    }
  }
  std::cout << tried << " wrong facts acted upon, " << noticed << " noticed\n";
  EXPECT_GE(tried, 20);
  // A slice that happens to be a zero after all (a relu of what is negative) is no lie.
  EXPECT_GE(noticed, tried * 9 / 10);
}

}  // namespace
}  // namespace tessera
