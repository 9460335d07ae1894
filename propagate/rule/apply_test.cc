// Tests that rules applied cell by cell say what they say element by element (testing/element_walk.h): on random rules
// of every form and random facts, on rules of real ops with the values of their constants; that the work grows with
// cells, not with elements; that the normal form of a rule means the same; why elements are dead.
#include "propagate/rule/apply.h"

#include <chrono>
#include <cmath>
#include <iostream>

#include "gtest/gtest.h"
#include "propagate/testing/element_walk.h"
#include "propagate/testing/random_rule.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

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

TEST(RuleText, RandomRulesReadBack) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Rule rule = Canonical(RandomRule(random));
    EXPECT_TRUE(Canonical(rule) == rule) << seed << "\n" << rule.ToString() << Canonical(rule).ToString();
    const StatusOr<Rule> again = ParseRule(rule.ToString());
    ASSERT_TRUE(again.ok()) << seed << "\n" << again.status() << "\n" << rule.ToString();
    EXPECT_TRUE(*again == rule) << seed << "\n" << rule.ToString() << again->ToString();
    if (HasFailure()) return;
  }
}

// y = x W + b + (column number), by stages.
Compute BiasedMatmul(int64_t m, int64_t n, int64_t k, bool numbered) {
  Compute compute;
  compute.inputs = {{DType::kF32, {m, k}}, {DType::kF32, {k, n}}, {DType::kF32, {n}}};
  compute.outputs = {{DType::kF32, {m, n}}};
  Stage stage;
  stage.name = "matmul";
  stage.extents = {m, n, k};
  stage.parallel_rank = 2;
  stage.reads = {{.buffer = {BufferKind::kInput, 0}, .view = {m, k}, .index = {Axis(0), Axis(2)}},
                 {.buffer = {BufferKind::kInput, 1}, .view = {k, n}, .index = {Axis(2), Axis(1)}}};
  BodyBuilder product;
  const Scalar x = product.Input(DType::kF32), w = product.Input(DType::kF32);
  stage.body = product.Finish(x * w);
  stage.combiner = Combiner::kAdd;
  stage.finish_reads = {{.buffer = {BufferKind::kInput, 2}, .view = {n}, .index = {Axis(1)}}};
  BodyBuilder finish;
  const Scalar sum = finish.Input(DType::kF32), bias = finish.Input(DType::kF32);
  stage.finish = finish.Finish(numbered ? sum + bias + finish.Cast(finish.Index(1), DType::kF32) : sum + bias);
  stage.write = Elementwise({BufferKind::kOutput, 0}, {m, n});
  compute.stages = {stage};
  return compute;
}

Rule RuleOfBiasedMatmul(int64_t m, int64_t n, int64_t k) {
  const std::string x = Shape{m, k}.ToString(), w = Shape{k, n}.ToString(), b = Shape{n}.ToString();
  return *ParseRule("rule mlp: f32" + x + ", f32" + w + ", f32" + b + " -> f32" + Shape{m, n}.ToString() +
                    "\n out0[a,b] <- in0[a,c] unless in1[c,b] = 0\n out0[a,b] <- in1[c,b] unless in0[a,c] = 0\n"
                    " out0[a,b] <- in2[b]\n");
}

TEST(ConstantValues, OfADescriptionAreThoseOfItsEvaluation) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    const int64_t m = random.Int(2, 5), n = random.Int(2, 6), k = random.Int(2, 5);
    const bool numbered = random.Chance(0.3);
    const Compute compute = BiasedMatmul(m, n, k, numbered);
    ASSERT_OK(compute.Verify());
    const Rule rule = RuleOfBiasedMatmul(m, n, k);
    const Facts facts = RandomFacts(random, rule);
    if (facts.inputs.back() == nullptr) continue;
    std::vector<RefTensor> filled;
    for (const Known& known : facts.known) {
      RefTensor& tensor = filled.emplace_back(known.type);
      int64_t element = 0;
      ForEachIndex(known.shape(), [&](const std::vector<int64_t>& index) {
        const bool unknown = known.at(index) == Certainty::kUnknown;
        tensor.f[element++] = unknown ? random.Uniform(1, 2) : known.ValueAt(index);
      });
    }
    const std::vector<const RefTensor*> pointers = {&filled[0], &filled[1], &filled[2]};
    std::vector<RefTensor> outputs;
    Evaluate(compute, pointers, outputs);
    const ConstantValues evaluated =
        ConstantValues::Get([&](std::span<const Known* const>, int output, std::span<const int64_t> elements,
                                std::span<ScalarValue> values) {
          for (size_t e = 0; e < elements.size(); ++e) values[e] = outputs[output].Get(elements[e]);
          return OkStatus();
        });
    ASSERT_OK_AND_ASSIGN(std::vector<Known> expected, ForwardByElements(rule, evaluated, facts.inputs));
    const RuleTransfer transfer(rule, ValuesOf(compute));
    ASSERT_OK_AND_ASSIGN(std::vector<Known> found, transfer.Forward(facts.inputs));
    found[0].range = expected[0].range;
    EXPECT_TRUE(found[0] == expected[0]) << "seed " << seed << "\n"
                                         << Describe(rule, facts) << found[0].ToString() << "\n"
                                         << expected[0].ToString();
  }
}

// 268 million elements in 262,144 blocks: nothing is done for each element.
TEST(RuleTransfer, CostsWhatCellsCostNotElements) {
  constexpr int64_t kSide = 16384, kBlocks = 512;
  Random random(7);
  Known w = Known::Unknown({DType::kF32, {kSide, kSide}});
  CellGrid grid{{kSide, kSide}, {Partition::Blocks(kSide, 32), Partition::Blocks(kSide, 32)}};
  std::vector<uint8_t> kinds(kBlocks * kBlocks);
  for (int64_t b = 0; b < kBlocks * kBlocks; ++b) {
    const bool dead = b / kBlocks % 8 == 3 || b % kBlocks % 16 == 5;  // rows and columns of blocks
    kinds[b] = static_cast<uint8_t>(dead || random.Chance(0.9) ? Certainty::kZero : Certainty::kConstant);
  }
  w.kind = Cells<uint8_t>(grid, kinds);
  w.values.assign(kinds.size(), 0);
  for (size_t b = 0; b < kinds.size(); ++b) w.values[b] = kinds[b] == static_cast<uint8_t>(Certainty::kConstant);
  const Known x = Known::Unknown({DType::kF32, {4, kSide}});
  const Known bias =
      Known::FromElements({DType::kF32, {kSide}}, std::vector<uint8_t>(kSide, 0), std::vector<double>(kSide, 0));
  const RuleTransfer transfer(RuleOfBiasedMatmul(4, kSide, kSide), ValuesOf(BiasedMatmul(4, kSide, kSide, false)));
  const std::vector<const Known*> inputs = {&x, &w, &bias};
  const Needed all = Needed::All({4, kSide});
  const Needed* outputs[] = {&all};
  const auto start = std::chrono::steady_clock::now();
  ASSERT_OK_AND_ASSIGN(const std::vector<Known> y, transfer.Forward(inputs));
  ASSERT_OK_AND_ASSIGN(const Needed dx, transfer.Backward(0, inputs, outputs));
  ASSERT_OK_AND_ASSIGN(const Needed dw, transfer.Backward(1, inputs, outputs));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_EQ(y[0].CountOf(Certainty::kZero), 4 * kSide / 16);
  EXPECT_EQ(dx.num_live(), 4 * kSide / 8 * 7);
  EXPECT_TRUE(dw.all_live());
  EXPECT_LE(transfer.visited(), 3 * kBlocks * kBlocks);
  RecordProperty("visited", std::to_string(transfer.visited()));
  std::cout << "three calls: " << seconds * 1e3 << " ms, " << transfer.visited() << " steps\n";
  EXPECT_LT(seconds, 0.5);
}

TEST(RuleTransfer, SaysWhySlicesAreDead) {
  const Rule rule = RuleOfBiasedMatmul(2, 3, 2);
  const RuleTransfer transfer(rule, Numbered());
  const Known x = Known::Unknown(rule.inputs[0]), b = Known::Unknown(rule.inputs[2]);
  const std::vector<uint8_t> kinds = {2, 2, 2, 0, 0, 0};
  const Known w = Known::FromElements(rule.inputs[1], kinds, std::vector<double>(6, 0));
  const Needed all = Needed::All({2, 3}), none = Needed::Nothing({2, 3});
  const std::vector<const Known*> inputs = {&x, &w, &b};
  const Needed *live[] = {&all}, *dead[] = {&none};
  EXPECT_EQ(transfer.WhyDead(0, 3, inputs, live), "in1[1,*] = 0");
  EXPECT_EQ(transfer.WhyDead(0, 2, inputs, live), "");
  EXPECT_EQ(transfer.WhyDead(0, 2, inputs, dead), "out0[1,*] is dead");
  EXPECT_EQ(transfer.WhyDead(2, 1, inputs, dead), "out0[*,1] is dead");
}

}  // namespace
}  // namespace tessera
