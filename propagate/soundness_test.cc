// Soundness, shown: 1,000 random graphs compute the same before and after propagation and shrinking.
//
// Graphs have 10 to 60 nodes, weights that lost channels, blocks or elements, residual sums, products, concatenations,
// grouped convolutions, attention and every op (graph/testing/prunable_graph.h). The masked model, run by the
// interpreter in double, is the reference; integer results must be equal, floats within 1e-5 of the largest element. It
// is counted that each op stood in enough graphs and that something shrank in at least four of five; and wrong facts
// are shown to be noticed. Seeds are split over the shards of the test. Prints its counts.
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
#include "propagate/algebra/algebra.h"
#include "propagate/propagate.h"
#include "propagate/rule_book.h"
#include "propagate/shrink/shrink.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr double kFloatError = 1e-5;
constexpr int kTests = 50;               // of gtest, which shards them
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
    ASSERT_TRUE(report.ok()) << "seed " << seed << ": " << report.status() << "\n"
                             << PrintGraph(before, {.elide = true});
    ASSERT_TRUE(Verify(after).ok()) << "seed " << seed << ": " << Verify(after);
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
  int64_t elements = 0, numbers = 0, zeros = 0;  // of results
  const int count = kTests * static_cast<int>(kGraphsPerTest);
  for (int seed = 0; seed < count; ++seed) {
    Graph graph = GraphOf(static_cast<uint64_t>(seed));
    std::map<Op, int> ops;
    for (const Node& node : graph.nodes) ++ops[node.op];
    for (const auto& [op, times] : ops) ++graphs_with[op];
    Random random(static_cast<uint64_t>(seed));
    const StatusOr<std::vector<RefTensor>> results = Interpret(graph, RandomInputs(random, graph));
    ASSERT_TRUE(results.ok());
    for (const RefTensor& result : *results) {
      elements += result.size();
      for (int64_t k = 0; k < result.size(); ++k) {
        numbers += !result.is_float() || std::isfinite(result.f[k]);
        zeros += result.is_float() && result.f[k] == 0;
      }
    }
    small += graph.nodes.size() < 10;
    large += graph.nodes.size() > 70;
    const StatusOr<ShrinkReport> report = PropagateAndShrink(graph, book, {.on_collapse = OnCollapse::kKeep});
    ASSERT_TRUE(report.ok()) << report.status();
    shrunk += report->indices_removed > 0;
  }
  for (const OpDef& op : AllOps()) EXPECT_GE(graphs_with[op.op], 20) << op.name;
  EXPECT_GE(shrunk, count * 8 / 10);
  // Results are numbers, and most of them are something.
  EXPECT_GE(numbers, elements * 999 / 1000);
  EXPECT_LE(zeros, elements / 2);
  std::cout << count << " graphs, " << shrunk << " lost indices, " << small << " have fewer than 10 nodes, " << large
            << " more than 70; " << elements << " elements of results, " << numbers << " finite, " << zeros
            << " zero\n";
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

// ---- A wrong rule would be noticed ----

// The exact rule, spoilt.
struct Mutant {
  std::string what;
  Op op;
  void (*spoil)(Rule& rule);
};

// One clause that reads input 0 element by element; clauses of other inputs stay.
void OnlyTheSameElement(Rule& rule) {
  std::erase_if(rule.clauses, [](const Clause& clause) { return clause.input == 0; });
  const Shape& shape = rule.inputs[0].shape;
  rule.clauses.push_back({.extents = shape.dims(), .out = Straight(shape), .in = Straight(shape)});
}

// x + y is taken to be 0 wherever one of them is.
void AnnihilatesLikeAProduct(Rule& rule) {
  const std::vector<Clause> clauses = rule.clauses;
  for (Clause& clause : rule.clauses) {
    for (const Clause& other : clauses) {
      if (other.input == clause.input || other.extents != clause.extents || other.out != clause.out) continue;
      clause.unless.push_back({.input = other.input, .at = other.in});
    }
  }
}

// Windows of one element.
void OnlyTheFirstTap(Rule& rule) {
  for (Clause& clause : rule.clauses) {
    for (RuleIndex& index : clause.in.index) {
      if (index.terms.size() > 1) index.terms.resize(1);
    }
  }
}

// What annihilates is looked up one step away.
void AnnihilatorsAreOff(Rule& rule) {
  for (Clause& clause : rule.clauses) {
    for (Annihilator& annihilator : clause.unless) {
      for (RuleIndex& index : annihilator.at.index) {
        if (!index.terms.empty()) ++index.offset;
      }
    }
  }
}

void DependsOnNothing(Rule& rule) { rule.clauses.clear(); }

void ForgetsTheLastOperand(Rule& rule) {
  const int last = static_cast<int>(rule.inputs.size()) - 1;
  std::erase_if(rule.clauses, [&](const Clause& clause) { return clause.input == last; });
}

const Mutant kMutants[] = {
    {"add annihilates like mul", Op::kAdd, AnnihilatesLikeAProduct},
    {"max annihilates like mul", Op::kMax, AnnihilatesLikeAProduct},
    {"softmax element by element", Op::kSoftmax, OnlyTheSameElement},
    {"layer_norm element by element", Op::kLayerNorm, OnlyTheSameElement},
    {"max_pool sees its first tap only", Op::kMaxPool, OnlyTheFirstTap},
    {"conv sees its first tap only", Op::kConv, OnlyTheFirstTap},
    {"matmul looks one row away for zeros", Op::kMatmul, AnnihilatorsAreOff},
    {"mul looks one element away for zeros", Op::kMul, AnnihilatorsAreOff},
    {"relu is constant", Op::kRelu, DependsOnNothing},
    {"concat forgets its last operand", Op::kConcat, ForgetsTheLastOperand},
};

TEST(SoundnessMutation, WrongRulesAreNoticed) {
  for (const Mutant& mutant : kMutants) {
    RuleBook book(RuleMode::kExact);
    book.Register(mutant.op, [&](const Graph& graph, const Node& node) -> std::optional<Rule> {
      Rule rule = RuleOf(node.name, NodeCompute(graph, node));
      mutant.spoil(rule);
      return rule;
    });
    int with_op = 0, noticed = 0, errors = 0;
    for (uint64_t seed = 0; seed < 600 && with_op < 40 && noticed < 5; ++seed) {
      const Graph before = GraphOf(seed);
      const bool has =
          std::any_of(before.nodes.begin(), before.nodes.end(), [&](const Node& node) { return node.op == mutant.op; });
      if (!has) continue;
      ++with_op;
      Graph after = before;
      const StatusOr<ShrinkReport> report = PropagateAndShrink(after, book, {.on_collapse = OnCollapse::kKeep});
      if (!report.ok()) {
        ++errors;
      } else {
        noticed += Difference(before, after, seed) > kFloatError;
      }
    }
    std::cout << mutant.what << ": noticed in " << noticed << " of " << with_op << " graphs, refused in " << errors
              << "\n";
    EXPECT_GE(noticed, 1) << mutant.what;
  }
}

}  // namespace
}  // namespace tessera
