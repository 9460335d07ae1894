// Tests that rules applied cell by cell say what they say element by element (testing/element_walk.h): on random rules
// of every form and random facts, on rules of real ops with the values of their constants; that the work grows with
// cells, not with elements; that the normal form of a rule means the same; why elements are dead.
#include "propagate/apply.h"

#include <chrono>
#include <cmath>

#include "gtest/gtest.h"
#include "propagate/testing/element_walk.h"
#include "propagate/testing/random_rule.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// Any function of the element: no two elements are alike for it.
ConstantValues Numbered() {
  return ConstantValues::Get(
      [](std::span<const Known* const>, int output, std::span<const int64_t> elements, std::span<ScalarValue> values) {
        for (size_t k = 0; k < elements.size(); ++k) {
          values[k].f = static_cast<double>((elements[k] * 7 + output) % 5);
          if (values[k].f == 4) values[k].f = std::nan("");
        }
        return OkStatus();
      });
}

struct Facts {
  std::vector<Known> known;
  std::vector<Needed> needed;
  std::vector<const Known*> inputs;
  std::vector<const Needed*> outputs;
};

Facts RandomFacts(Random& random, const Rule& rule) {
  Facts facts;
  for (const TensorType& type : rule.inputs) facts.known.push_back(RandomKnown(random, type));
  for (const TensorType& type : rule.outputs) facts.needed.push_back(RandomNeeded(random, type.shape));
  for (const Known& known : facts.known) facts.inputs.push_back(&known);
  for (const Needed& needed : facts.needed) facts.outputs.push_back(&needed);
  if (facts.inputs.size() > 1 && random.Chance(0.03)) facts.inputs.back() = nullptr;
  return facts;
}

std::string Describe(const Rule& rule, const Facts& facts) {
  std::string text = rule.ToString();
  for (const Known& known : facts.known) text += "known  " + known.ToString() + "\n";
  for (const Needed& needed : facts.needed) text += "needed " + needed.ToString() + "\n";
  return text;
}

// By cells and by elements.
void ExpectEqualToWalk(const Rule& rule, const Facts& facts) {
  const RuleTransfer transfer(rule, Numbered());
  ASSERT_OK_AND_ASSIGN(std::vector<Known> forward, transfer.Forward(facts.inputs));
  ASSERT_OK_AND_ASSIGN(const std::vector<Known> expected, ForwardByElements(rule, Numbered(), facts.inputs));
  for (size_t k = 0; k < forward.size(); ++k) {
    EXPECT_TRUE(forward[k].kind == expected[k].kind) << "forward " << k;
    forward[k].range = expected[k].range;  // left to ranges.h
    EXPECT_TRUE(forward[k] == expected[k]) << forward[k].ToString() << "\n" << expected[k].ToString();
  }
  for (int input = 0; input < static_cast<int>(rule.inputs.size()); ++input) {
    ASSERT_OK_AND_ASSIGN(const Needed needed, transfer.Backward(input, facts.inputs, facts.outputs));
    EXPECT_EQ(needed.live.Elements(), LiveElements(rule, input, facts.inputs, facts.outputs)) << "backward " << input;
    EXPECT_EQ(needed.bits, needed.none_live() ? 0 : 64);
    for (int64_t element = 0; element < rule.inputs[input].shape.num_elements(); element += 5) {
      std::vector<uint8_t> live = needed.live.Elements();
      EXPECT_EQ(transfer.WhyDead(input, element, facts.inputs, facts.outputs).empty(), live[element] != 0);
    }
  }
}

TEST(RuleTransfer, EqualsTheWalkOverElementsOnRandomRules) {
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Random random(seed);
    const Rule rule = RandomRule(random);
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Facts facts = RandomFacts(random, rule);
      SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + Describe(rule, facts));
      ExpectEqualToWalk(rule, facts);
      if (HasFailure()) return;
    }
  }
}

TEST(RuleCanonical, MeansTheSameAsTheRule) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    Random random(seed);
    const Rule rule = RandomRule(random), canonical = Canonical(rule);
    ASSERT_OK(canonical.Verify());
    for (int repeat = 0; repeat < 2; ++repeat) {
      const Facts facts = RandomFacts(random, rule);
      SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + Describe(rule, facts));
      for (int k = 0; k < static_cast<int>(rule.outputs.size()); ++k) {
        EXPECT_EQ(ChangedElements(canonical, k, facts.inputs), ChangedElements(rule, k, facts.inputs));
      }
      for (int k = 0; k < static_cast<int>(rule.inputs.size()); ++k) {
        EXPECT_EQ(LiveElements(canonical, k, facts.inputs, facts.outputs),
                  LiveElements(rule, k, facts.inputs, facts.outputs));
      }
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace tessera
