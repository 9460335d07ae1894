// A wrong rule would be caught: exact rules of every op are made wrong in small ways (a clause dropped, a window one
// tap short, a term lost, an offset shifted by one, an annihilator too many or too few), and the check that the rules
// pass, comparison with the element-by-element walk on random facts, finds each. A mutant that says the same as the
// rule (a tap that only ever meets padding) is no mutant.
#include <algorithm>
#include <map>
#include <set>

#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/algebra/algebra.h"
#include "propagate/testing/abstract_walk.h"
#include "propagate/testing/rule_points.h"

namespace tessera {
namespace {

constexpr int kTrials = 60;

struct Mutant {
  std::string what;
  Rule rule;
};

// No element can change another in one of them only.
bool SaysTheSame(const Rule& a, const Rule& b) { return RelationOf(a) == RelationOf(b); }

std::vector<Mutant> MutantsOf(const Rule& rule) {
  std::vector<Mutant> mutants;
  const auto add = [&](const char* what, Rule mutant, bool relation) {
    if (!mutant.Verify().ok() || (relation && SaysTheSame(rule, mutant))) return;
    mutants.push_back({what, std::move(mutant)});
  };
  for (size_t n = 0; n < rule.clauses.size(); ++n) {
    const Clause& clause = rule.clauses[n];
    Rule dropped = rule;
    dropped.clauses.erase(dropped.clauses.begin() + static_cast<int64_t>(n));
    add("a clause dropped", std::move(dropped), true);
    for (size_t v = 0; v < clause.extents.size(); ++v) {
      if (clause.extents[v] < 2 || !clause.links.empty()) continue;
      Rule shorter = rule;
      --shorter.clauses[n].extents[v];
      add("a variable one short", std::move(shorter), true);
    }
    for (size_t d = 0; d < clause.in.index.size(); ++d) {
      Rule shifted = rule;
      ++shifted.clauses[n].in.index[d].offset;
      add("an offset shifted", std::move(shifted), true);
      if (clause.in.index[d].terms.size() < 2) continue;
      for (size_t t = 0; t < clause.in.index[d].terms.size(); ++t) {
        Rule lost = rule;
        auto& terms = lost.clauses[n].in.index[d].terms;
        terms.erase(terms.begin() + static_cast<int64_t>(t));
        add("a term lost", std::move(lost), true);
      }
    }
    for (size_t a = 0; a < clause.unless.size(); ++a) {
      Rule fewer = rule;
      auto& unless = fewer.clauses[n].unless;
      unless.erase(unless.begin() + static_cast<int64_t>(a));
      add("an annihilator lost", std::move(fewer), false);
    }
    // One element of another operand that has nothing to do with it.
    for (size_t input = 0; input < rule.inputs.size(); ++input) {
      const Shape& shape = rule.inputs[input].shape;
      const bool met = std::any_of(clause.unless.begin(), clause.unless.end(), [&](const Annihilator& annihilator) {
        return annihilator.input == static_cast<int>(input);
      });
      if (static_cast<int>(input) == clause.input || shape.num_elements() == 0 || met) continue;
      Rule stopped = rule;
      Annihilator annihilator;
      annihilator.input = static_cast<int>(input);
      annihilator.at.view = shape;
      annihilator.at.index.resize(shape.rank());
      stopped.clauses[n].unless.push_back(std::move(annihilator));
      add("an annihilator invented", std::move(stopped), false);
    }
  }
  return mutants;
}

int64_t IndexExtent(const Graph& graph, const Node& node) {
  if (node.op != Op::kGather && node.op != Op::kGatherElements) return 0;
  return graph[node.inputs[0]].type.shape[static_cast<int>(node.attrs.Int("axis"))];
}

// Facts with what the walk says of them.
struct Witness {
  ElementFacts facts;
  ElementSets live, constant;
  AbstractWalk walk;

  bool Catches(const Rule& rule) const {
    return !FirstDifference(ForwardByPoints(rule, facts), walk.known_outputs).empty() ||
           !FirstDifference(BackwardByPoints(rule, facts, live), walk.live_inputs, constant).empty();
  }
};

Witness MakeWitness(const Compute& compute, ElementFacts facts, ElementSets live) {
  Witness w = {.facts = std::move(facts), .live = std::move(live), .constant = {}, .walk = {}};
  for (const auto& input : w.facts.inputs) {
    w.constant.emplace_back();
    for (const auto& element : input) w.constant.back().push_back(element.has_value());
  }
  w.walk = WalkCompute(compute, w.facts, w.live);
  return w;
}

std::vector<Witness> WitnessesOf(const Compute& compute, int64_t index_extent, std::mt19937_64& rng) {
  std::vector<Witness> witnesses;
  for (int trial = 0; trial < kTrials; ++trial) {
    ElementSets live;
    for (const TensorType& type : compute.outputs) live.push_back(RandomSet(type.shape, rng));
    witnesses.push_back(MakeWitness(compute, RandomFacts(compute.inputs, rng, index_extent), std::move(live)));
  }
  return witnesses;
}

// Nothing known and one element of the results live, each in turn.
bool CaughtByOneElement(const Compute& compute, const Rule& rule) {
  ElementFacts nothing;
  ElementSets dead;
  for (const TensorType& type : compute.inputs) nothing.inputs.emplace_back(type.shape.num_elements());
  for (const TensorType& type : compute.outputs) dead.emplace_back(type.shape.num_elements(), 0);
  for (size_t out = 0; out < dead.size(); ++out) {
    for (size_t k = 0; k < dead[out].size(); ++k) {
      ElementSets live = dead;
      live[out][k] = 1;
      if (MakeWitness(compute, nothing, std::move(live)).Catches(rule)) return true;
    }
  }
  return false;
}

int64_t Points(const Compute& compute) {
  int64_t points = 0;
  for (const Stage& stage : compute.stages)
    points += stage.parallel_points() * std::max<int64_t>(1, stage.reduced_points());
  return points;
}

// Ops whose exact rule equals the walk always (algebra_walk_test.cc), so that a difference is a fault.
const std::set<Op> kWider = {Op::kArgMin, Op::kBatchNorm, Op::kQuantize, Op::kDequantize, Op::kPrelu, Op::kResize};

TEST(MutationTest, EachWrongRuleIsCaught) {
  std::map<std::string, int> caught;
  int escaped = 0;
  for (const OpDef& def : AllOps()) {
    if (kWider.contains(def.op)) continue;
    std::mt19937_64 rng(static_cast<uint64_t>(def.op) + 17);
    for (int n = 0, done = 0; n < 40 && done < 4; ++n) {
      const RandomCase c = RandomNode(def.op, rng);
      const Compute compute = NodeCompute(c.graph, c.graph.nodes[0]);
      if (Points(compute) > 600) continue;
      // A norm over one known element is 0 whatever its scale: more than a rule says.
      if (def.op == Op::kLayerNorm && compute.temps[0].shape == compute.inputs[0].shape) continue;
      ++done;
      const Rule rule = RuleOf(std::string(def.name), compute);
      const std::vector<Witness> witnesses = WitnessesOf(compute, IndexExtent(c.graph, c.graph.nodes[0]), rng);
      for (const Witness& w : witnesses) ASSERT_FALSE(w.Catches(rule)) << rule.ToString();
      for (const Mutant& mutant : MutantsOf(rule)) {
        const bool found =
            std::any_of(witnesses.begin(), witnesses.end(), [&](const Witness& w) { return w.Catches(mutant.rule); }) ||
            CaughtByOneElement(compute, mutant.rule);
        caught[mutant.what] += found;
        escaped += !found;
        EXPECT_TRUE(found) << mutant.what << "\n" << rule.ToString() << mutant.rule.ToString();
      }
    }
  }
  EXPECT_EQ(escaped, 0);
  int total = 0;
  for (const auto& [what, count] : caught) {
    std::printf("%4d caught: %s\n", count, what.c_str());
    EXPECT_GE(count, 5) << what;
    total += count;
  }
  std::printf("%4d caught, %d escaped\n", total, escaped);
}

}  // namespace
}  // namespace tessera
