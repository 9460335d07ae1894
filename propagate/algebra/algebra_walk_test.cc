// For every op on random nodes and random facts the rule of the algebra says what an element-by-element walk over the
// compute finds: the same elements known forward, the same live backward. Where a rule cannot say it exactly (two
// tensors that only together annihilate) it says less, never more; those ops are listed. Liveness of elements that are
// known is not compared: their readers use the constant.
#include <algorithm>
#include <set>

#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/algebra/algebra.h"
#include "propagate/testing/abstract_walk.h"
#include "propagate/testing/rule_points.h"

namespace tessera {
namespace {

// Ops whose rule is wider than the walk, and why.
const std::set<Op>& Wider() {
  static const std::set<Op> ops = {
      Op::kArgMin,      // a known 0 at the first index of unsigned integers
      Op::kBatchNorm,   // scale, where x and mean are both 0
      Op::kDequantize,  // scale, where x and zero_point are both 0
      Op::kPrelu,       // slope, where x is a positive constant
      Op::kQuantize,    // zero_point, where x and scale are both 0: NaN whatever it is
      Op::kResize,      // the left element, where its share rounds to 0
  };
  return ops;
}

// The extent along which an op's integer operand indexes.
int64_t IndexExtent(const Graph& graph, const Node& node) {
  if (node.op != Op::kGather && node.op != Op::kGatherElements) return 0;
  return graph[node.inputs[0]].type.shape[static_cast<int>(node.attrs.Int("axis"))];
}

// How often the walk found more than the rule.
struct Gaps {
  int nodes = 0, wider = 0;
};

void Compare(const RandomCase& c, bool exact, std::mt19937_64& rng, Gaps& gaps) {
  const Compute compute = NodeCompute(c.graph, c.graph.nodes[0]);
  std::vector<std::string> widened;
  const Rule rule = RuleOf("op", compute, &widened);
  ASSERT_TRUE(rule.Verify().ok()) << rule.Verify() << compute.ToString();
  if (exact) {
    ASSERT_TRUE(widened.empty()) << widened[0];
  }
  ++gaps.nodes;
  bool wider = false;
  for (int trial = 0; trial < 8; ++trial) {
    const ElementFacts facts =
        RandomFacts(compute.inputs, rng, trial % 4 == 3 ? 0 : IndexExtent(c.graph, c.graph.nodes[0]));
    ElementSets live;
    for (const TensorType& type : compute.outputs) live.push_back(RandomSet(type.shape, rng));
    const AbstractWalk walk = WalkCompute(compute, facts, live);
    const ElementSets known = ForwardByPoints(rule, facts), needed = BackwardByPoints(rule, facts, live);
    ElementSets constant;
    for (const auto& input : facts.inputs) {
      constant.emplace_back();
      for (const auto& element : input) constant.back().push_back(element.has_value());
    }
    if (exact) {
      ASSERT_EQ(FirstDifference(known, walk.known_outputs), "") << rule.ToString() << compute.ToString();
      ASSERT_EQ(FirstDifference(needed, walk.live_inputs, constant), "") << rule.ToString() << compute.ToString();
      continue;
    }
    for (size_t t = 0; t < known.size(); ++t) {
      for (size_t k = 0; k < known[t].size(); ++k) {
        ASSERT_LE(known[t][k], walk.known_outputs[t][k]) << k << "\n" << rule.ToString() << compute.ToString();
        wider |= known[t][k] < walk.known_outputs[t][k];
      }
    }
    for (size_t t = 0; t < needed.size(); ++t) {
      for (size_t k = 0; k < needed[t].size(); ++k) {
        if (constant[t][k]) continue;
        ASSERT_GE(needed[t][k], walk.live_inputs[t][k]) << k << "\n" << rule.ToString() << compute.ToString();
        wider |= needed[t][k] > walk.live_inputs[t][k];
      }
    }
  }
  gaps.wider += wider;
}

// Brute force: only small nodes.
int64_t Points(const Compute& compute) {
  int64_t points = 0;
  for (const Stage& stage : compute.stages)
    points += stage.parallel_points() * std::max<int64_t>(1, stage.reduced_points());
  return points;
}

class AlgebraWalk : public testing::TestWithParam<Op> {};

TEST_P(AlgebraWalk, EqualsTheWalk) {
  std::mt19937_64 rng(static_cast<uint64_t>(GetParam()) + 101);
  Gaps gaps;
  for (int n = 0; n < 60 && gaps.nodes < 12; ++n) {
    const RandomCase c = RandomNode(GetParam(), rng);
    if (Points(NodeCompute(c.graph, c.graph.nodes[0])) > 4000) continue;
    // What lies outside of an image multiplies like what lies inside unless it is 0: a condition on the image would
    // have to hold inside only, which no rule can say.
    const bool padded = c.graph.nodes[0].attrs.Int("pad_value", 0) != 0;
    Compare(c, !Wider().contains(GetParam()) && !padded, rng, gaps);
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(gaps.nodes, 4);
}

// With epilogues, that add, multiply and select as they like, a rule may be wider; it is never narrower, and mostly it
// is the walk's.
TEST_P(AlgebraWalk, EpiloguesAreSound) {
  std::mt19937_64 rng(static_cast<uint64_t>(GetParam()) + 202);
  Gaps gaps;
  for (int n = 0; n < 60 && gaps.nodes < 8; ++n) {
    RandomCase c = RandomNode(GetParam(), rng);
    if (c.graph.nodes[0].outputs.size() != 1) return;
    AddRandomEpilogue(c, rng);
    if (Points(NodeCompute(c.graph, c.graph.nodes[0])) > 4000) continue;
    Compare(c, false, rng, gaps);
    if (HasFatalFailure()) return;
  }
  if (!Wider().contains(GetParam())) {
    EXPECT_LE(gaps.wider, gaps.nodes / 2) << "of " << gaps.nodes;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, AlgebraWalk, testing::ValuesIn([] {
                           std::vector<Op> ops;
                           for (const OpDef& def : AllOps()) ops.push_back(def.op);
                           return ops;
                         }()),
                         [](const testing::TestParamInfo<Op>& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace tessera
