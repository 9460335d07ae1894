// Learned rule == algebra, for every op of ops.def, on random nodes with all extents >= 2 and distinct operands: equal
// text, or else an equal relation and equal results, forward and backward, on scattered and structured facts. Both lie
// within what scrambling of the very instance finds. The exceptions are listed with their reasons: testing/fallback.def
// (no relation is learned), testing/differs.def (other annihilators) and testing/beyond.def (the instance finds more);
// any other disagreement fails.
#include <algorithm>
#include <map>
#include <string_view>

#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/algebra/algebra.h"
#include "propagate/learn/scramble.h"
#include "propagate/rule_book.h"
#include "propagate/testing/rule_points.h"

namespace tessera {
namespace {

constexpr int kNodes = 3, kFacts = 24, kInstanceFacts = 4;

std::string_view ReasonIn(Op op, std::initializer_list<std::pair<Op, std::string_view>> list) {
  for (const auto& [listed, reason] : list) {
    if (listed == op) return reason;
  }
  return {};
}

std::string_view Fallback(Op op) {
  return ReasonIn(op, {
#define TES_FALLBACK(name, reason) {Op::k##name, reason},
#include "propagate/testing/fallback.def"
#undef TES_FALLBACK
                      });
}

std::string_view Beyond(Op op) {
  return ReasonIn(op, {
#define TES_BEYOND(name, reason) {Op::k##name, reason},
#include "propagate/testing/beyond.def"
#undef TES_BEYOND
                      });
}

std::string_view Differs(Op op) {
  return ReasonIn(op, {
#define TES_DIFFERS(name, reason) {Op::k##name, reason},
#include "propagate/testing/differs.def"
#undef TES_DIFFERS
                      });
}

// A node for which the comparison is meant: all extents at least 2, not large.
std::optional<RandomCase> PlainNode(Op op, std::mt19937_64& rng) {
  for (int n = 0; n < 3000; ++n) {
    RandomCase c = RandomNode(op, rng);
    const Node& node = c.graph.nodes[0];
    bool plain = node.outputs.size() == 1;
    std::vector<ValueId> ids = node.inputs;
    ids.insert(ids.end(), node.outputs.begin(), node.outputs.end());
    for (ValueId id : ids) {
      if (id == ValueId::kNone) continue;
      const Shape& shape = c.graph[id].type.shape;
      plain &= shape.num_elements() <= 200;
      for (int64_t extent : shape.dims()) plain &= extent >= 2;
    }
    // Something to relate.
    plain &= c.graph[node.outputs[0]].type.shape.rank() > 0 || op >= Op::kReduceSum;
    if (plain) return c;
  }
  return std::nullopt;
}

int64_t IndexExtent(const Graph& graph, const Node& node) {
  if (node.op != Op::kGather && node.op != Op::kGatherElements) return 0;
  return graph[node.inputs[0]].type.shape[static_cast<int>(node.attrs.Int("axis"))];
}

// A known divisor or scale is not 0.
void AvoidZeroDivisors(Op op, const Rule& rule, ElementFacts& facts) {
  if (op != Op::kDiv && op != Op::kMod && op != Op::kQuantize) return;
  if (!IsFloat(rule.inputs[1].dtype)) return;
  for (std::optional<ScalarValue>& value : facts.inputs[1]) {
    if (value && value->f == 0) value->f = 1.5;
  }
}

std::vector<Known> KnownOf(std::span<const TensorType> types, const ElementFacts& facts) {
  std::vector<Known> known;
  for (size_t t = 0; t < types.size(); ++t) {
    std::vector<uint8_t> kinds;
    std::vector<double> values;
    for (const std::optional<ScalarValue>& element : facts.inputs[t]) {
      const double value = !element ? 0 : (IsFloat(types[t].dtype) ? element->f : static_cast<double>(element->i));
      kinds.push_back(static_cast<uint8_t>(!element     ? Certainty::kUnknown
                                           : value == 0 ? Certainty::kZero
                                                        : Certainty::kConstant));
      values.push_back(value);
    }
    known.push_back(Known::FromElements(types[t], kinds, values));
  }
  return known;
}

class Agreement : public testing::TestWithParam<Op> {
 protected:
  // Equal results on random facts, scattered and structured.
  void ExpectEqualBehaviour(const Rule& learned, const Rule& exact, int64_t index_extent, std::mt19937_64& rng) {
    for (int trial = 0; trial < kFacts; ++trial) {
      ElementFacts facts = RandomFacts(exact.inputs, rng, index_extent);
      AvoidZeroDivisors(GetParam(), exact, facts);
      ElementSets live, constant;
      for (const TensorType& type : exact.outputs) live.push_back(RandomSet(type.shape, rng));
      for (const auto& input : facts.inputs) {
        constant.emplace_back();
        for (const auto& element : input) constant.back().push_back(element.has_value());
      }
      ASSERT_EQ(FirstDifference(ForwardByPoints(learned, facts), ForwardByPoints(exact, facts)), "")
          << "forward, learned and exact:\n"
          << learned.ToString() << exact.ToString();
      ASSERT_EQ(FirstDifference(BackwardByPoints(learned, facts, live), BackwardByPoints(exact, facts, live), constant),
                "")
          << "backward, learned and exact:\n"
          << learned.ToString() << exact.ToString();
    }
  }

  // What the rule finds the instance finds too; more only where that is listed.
  void ExpectWithinInstance(const Rule& exact, const BlackBox& box, int64_t index_extent, std::mt19937_64& rng) {
    const InstanceTransfer instance(box, {.seed = 3, .max_error = 1e-6});
    for (int trial = 0; trial < kInstanceFacts; ++trial) {
      ElementFacts facts = RandomFacts(exact.inputs, rng, index_extent);
      AvoidZeroDivisors(GetParam(), exact, facts);
      const std::vector<Known> known = KnownOf(exact.inputs, facts);
      std::vector<const Known*> operands;
      for (size_t k = 0; k < known.size(); ++k) operands.push_back(box.inputs[k] ? &known[k] : nullptr);
      const StatusOr<std::vector<Known>> found = instance.Forward(operands);
      ASSERT_TRUE(found.ok()) << found.status();
      const ElementSets by_rule = ForwardByPoints(exact, facts);
      for (size_t out = 0; out < by_rule.size(); ++out) {
        const std::vector<uint8_t> kinds = (*found)[out].kind.Elements();
        for (size_t k = 0; k < kinds.size(); ++k) {
          const bool is_known = kinds[k] != static_cast<uint8_t>(Certainty::kUnknown);
          ASSERT_TRUE(!by_rule[out][k] || is_known || !Differs(GetParam()).empty())
              << "forward: the rule knows element " << k << ", the instance does not\n"
              << exact.ToString();
          ASSERT_TRUE(!is_known || by_rule[out][k] || !Beyond(GetParam()).empty())
              << "forward: the instance knows element " << k << ", and that is not listed\n"
              << exact.ToString();
        }
      }
      ElementSets live;
      std::vector<Needed> needed;
      for (const TensorType& type : exact.outputs) {
        live.push_back(RandomSet(type.shape, rng));
        needed.push_back(Needed::FromElements(type.shape, live.back()));
      }
      std::vector<const Needed*> outputs;
      for (const Needed& n : needed) outputs.push_back(&n);
      const ElementSets live_by_rule = BackwardByPoints(exact, facts, live);
      for (size_t input = 0; input < exact.inputs.size(); ++input) {
        if (!box.inputs[input]) continue;
        const StatusOr<Needed> needs = instance.Backward(static_cast<int>(input), operands, outputs);
        ASSERT_TRUE(needs.ok()) << needs.status();
        const std::vector<uint8_t> found_live = needs->live.Elements();
        for (size_t k = 0; k < found_live.size(); ++k) {
          if (facts.inputs[input][k]) continue;
          ASSERT_TRUE(!found_live[k] || live_by_rule[input][k] || !Differs(GetParam()).empty())
              << "backward: the rule calls in" << input << " element " << k << " dead, the instance does not\n"
              << exact.ToString();
          ASSERT_TRUE(found_live[k] || !live_by_rule[input][k] || !Beyond(GetParam()).empty())
              << "backward: the instance calls in" << input << " element " << k << " dead, and that is not listed\n"
              << exact.ToString();
        }
      }
    }
  }
};

TEST_P(Agreement, LearnedIsExact) {
  const Op op = GetParam();
  std::mt19937_64 rng(static_cast<uint64_t>(op) + 31);
  int nodes = 0, equal_text = 0;
  for (; nodes < kNodes; ++nodes) {
    const std::optional<RandomCase> c = PlainNode(op, rng);
    if (!c) break;
    const Node& node = c->graph.nodes[0];
    const Rule exact = RuleOf(std::string(Name(op)), NodeCompute(c->graph, node));
    const BlackBox box = BlackBoxOf(c->graph, node);
    const StatusOr<Rule> learned = LearnRule(box, {.seed = 7});
    if (!learned.ok()) {
      ASSERT_EQ(learned.status().code(), ErrorCode::kRuleNotLearned) << learned.status();
      // Where a padded tap reads something else than 0, a zero of x makes some uses of a weight vanish and not others:
      // no rule of the form that is learned says so.
      const bool pads_with_values = op == Op::kConv && node.attrs.Int("pad_value", 0) != 0;
      EXPECT_TRUE(pads_with_values || !Fallback(op).empty())
          << Name(op) << " is not listed: " << learned.status() << "\n"
          << exact.ToString();
    } else {
      Rule renamed = *learned;
      renamed.name = exact.name;
      if (renamed.ToString() == exact.ToString()) {
        ++equal_text;
      } else {
        renamed.inputs = exact.inputs;  // absent operands have placeholders there
        ASSERT_EQ(RelationOf(renamed), RelationOf(exact)) << renamed.ToString() << exact.ToString();
        if (Differs(op).empty()) ExpectEqualBehaviour(renamed, exact, IndexExtent(c->graph, node), rng);
      }
    }
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(nodes, 0) << "no node with extents of 2 or more";
  std::printf("%s: %d of %d with equal text\n", std::string(Name(op)).c_str(), equal_text, nodes);
}

TEST_P(Agreement, WithinTheInstance) {
  const Op op = GetParam();
  std::mt19937_64 rng(static_cast<uint64_t>(op) + 37);
  for (int n = 0; n < 2; ++n) {
    const std::optional<RandomCase> c = PlainNode(op, rng);
    if (!c) break;
    const Node& node = c->graph.nodes[0];
    const Rule exact = RuleOf(std::string(Name(op)), NodeCompute(c->graph, node));
    ExpectWithinInstance(exact, BlackBoxOf(c->graph, node), IndexExtent(c->graph, node), rng);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Agreement, testing::ValuesIn([] {
                           std::vector<Op> ops;
                           for (const OpDef& def : AllOps()) ops.push_back(def.op);
                           return ops;
                         }()),
                         [](const testing::TestParamInfo<Op>& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace tessera
