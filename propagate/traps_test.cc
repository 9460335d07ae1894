// The traps into which published mask inference falls, each tried with learned rules, scrambled instances and the
// algebra: a softmax's gradient of ones is 0; an element that never happened to be the largest looks dead; ReLU6 cuts
// off; tiny weights vanish under an absolute threshold; zeros that are legitimate look pruned; half precision; shapes
// that a mask cannot resize, and a batch assumed in dimension 0.
#include <functional>

#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "propagate/learn/scramble.h"
#include "propagate/rule_book.h"

namespace tessera {
namespace {

using Ints = std::vector<int64_t>;

// One node and what is known of its operands; unknown unless said otherwise.
struct Case {
  RandomCase random;
  std::vector<Known> known;

  const Node& node() const { return random.graph.nodes[0]; }
  const Graph& graph() const { return random.graph; }
};

Case MakeCase(Op op, const std::vector<TensorType>& inputs, const Attrs& attrs = {}) {
  std::mt19937_64 rng(1);
  CaseBuilder builder(op, rng);
  builder.attrs = attrs;
  Case c;
  for (const TensorType& type : inputs) {
    builder.Input(type.dtype, type.shape);
    c.known.push_back(Known::Unknown(type));
  }
  c.random = builder.Finish();
  return c;
}

TensorType F32(Shape shape) { return {DType::kF32, std::move(shape)}; }

// A tensor whose elements are all known.
Known Constant(const TensorType& type, const std::function<double(int64_t)>& value) {
  Tensor tensor(type.dtype, type.shape);
  for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, value(k));
  return Known::OfConstant(tensor);
}

struct Found {
  std::vector<Known> outputs;
  std::vector<Needed> inputs;
};

class Traps : public testing::TestWithParam<RuleMode> {
 protected:
  Found Find(const Case& c, const std::vector<Needed>& needed = {}, uint64_t seed = 1) {
    RuleBook book(GetParam(), {.seed = seed});
    const StatusOr<const Transfer*> transfer = book.For(c.graph(), c.node());
    TES_CHECK(transfer.ok(), transfer.status());
    std::vector<const Known*> operands;
    for (const Known& known : c.known) operands.push_back(&known);
    std::vector<Needed> live = needed;
    if (live.empty()) {
      for (ValueId id : c.node().outputs) live.push_back(Needed::All(c.graph()[id].type.shape));
    }
    std::vector<const Needed*> outputs;
    for (const Needed& n : live) outputs.push_back(&n);
    Found found;
    StatusOr<std::vector<Known>> forward = (*transfer)->Forward(operands);
    TES_CHECK(forward.ok(), forward.status());
    found.outputs = *std::move(forward);
    for (size_t k = 0; k < operands.size(); ++k) {
      StatusOr<Needed> backward = (*transfer)->Backward(static_cast<int>(k), operands, outputs);
      TES_CHECK(backward.ok(), backward.status());
      found.inputs.push_back(*std::move(backward));
    }
    return found;
  }

  // Nothing of the result is constant, nothing of the first operand dead.
  void ExpectAllMatters(const Case& c, uint64_t seed = 1) {
    const Found found = Find(c, {}, seed);
    EXPECT_TRUE(found.outputs[0].nothing_known()) << found.outputs[0].ToString();
    EXPECT_TRUE(found.inputs[0].all_live()) << found.inputs[0].ToString();
  }
};

Attrs Pool(int64_t kernel, int64_t stride) {
  return MakeAttrs({{"kernel", Ints{kernel, kernel}},
                    {"strides", Ints{stride, stride}},
                    {"dilations", Ints{1, 1}},
                    {"pads", Ints{0, 0, 0, 0}},
                    {"layout", std::string("nchw")}});
}

// 1. The product of a gradient of ones with the Jacobian of a softmax, or of a norm that subtracts the mean, is 0.
TEST_P(Traps, RowsThatSumToAConstant) {
  ExpectAllMatters(MakeCase(Op::kSoftmax, {F32({3, 5})}, MakeAttrs({{"axis", int64_t{1}}})));
  ExpectAllMatters(MakeCase(Op::kLogSoftmax, {F32({3, 5})}, MakeAttrs({{"axis", int64_t{1}}})));
  ExpectAllMatters(MakeCase(Op::kLayerNorm, {F32({3, 5}), F32({5}), F32({5})},
                            MakeAttrs({{"axis", int64_t{1}}, {"epsilon", 1e-5}})));
}

// One live row keeps its own row alive and no other.
TEST_P(Traps, OnlyTheLiveRow) {
  const Case c = MakeCase(Op::kSoftmax, {F32({3, 4})}, MakeAttrs({{"axis", int64_t{1}}}));
  const Found found = Find(c, {Needed::FromElements({3, 4}, std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0})});
  EXPECT_EQ(found.inputs[0], Needed::FromElements({3, 4}, std::vector<uint8_t>{0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0}))
      << found.inputs[0].ToString();
}

// 2. An element of a window is the largest in one trial of four, or of nine: with eight trials 10 % and 39 % of the
// elements would look dead.
TEST_P(Traps, MaxPoolWindows) {
  const int seeds = GetParam() == RuleMode::kInstance ? 1000 : (GetParam() == RuleMode::kLearned ? 50 : 1);
  for (int seed = 1; seed <= seeds && !HasFailure(); ++seed) {
    ExpectAllMatters(MakeCase(Op::kMaxPool, {F32({1, 1, 4, 4})}, Pool(2, 2)), static_cast<uint64_t>(seed));
    ExpectAllMatters(MakeCase(Op::kMaxPool, {F32({1, 1, 3, 3})}, Pool(3, 1)), static_cast<uint64_t>(seed));
  }
}

TEST_P(Traps, ReductionsThatSelect) {
  const Attrs all = MakeAttrs({{"axes", Ints{0}}, {"keepdims", int64_t{0}}});
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    ExpectAllMatters(MakeCase(Op::kReduceMax, {F32({17})}, all), seed);
    ExpectAllMatters(MakeCase(Op::kReduceMin, {F32({17})}, all), seed);
  }
}

// 3. ReLU and ReLU6 cut off what is negative, and what is above 6.
TEST_P(Traps, Relu6) {
  ExpectAllMatters(MakeCase(Op::kRelu, {F32({4, 3})}));
  ExpectAllMatters(MakeCase(Op::kClip, {F32({4, 3})}, MakeAttrs({{"min", 0.0}, {"max", 6.0}})));
  ExpectAllMatters(MakeCase(Op::kHardSwish, {F32({4, 3})}));
}

// 4. Weights of 1e-12 summed over 512 terms: below any absolute threshold, and yet they count.
TEST_P(Traps, TinyWeightsOverManyTerms) {
  Case c = MakeCase(Op::kMatmul, {F32({2, 512}), F32({512, 3})});
  c.known[1] = Constant(F32({512, 3}), [](int64_t k) { return k % 2 == 0 ? 1e-12 : -3e-13; });
  ExpectAllMatters(c);
  // Beside terms of 1e4 too.
  c.known[1] = Constant(F32({512, 3}), [](int64_t k) { return k < 3 ? 1e4 : 1e-9; });
  ExpectAllMatters(c);
}

// 5. Parameters that are 0, or all equal, as they are when a network is initialised: nothing becomes constant by them.
// A constant that is not 0 is not taken for pruned.
TEST_P(Traps, LegitimateZeros) {
  const auto zero = [](int64_t) { return 0.0; };
  const auto one = [](int64_t) { return 1.0; };
  Case norm =
      MakeCase(Op::kLayerNorm, {F32({3, 5}), F32({5}), F32({5})}, MakeAttrs({{"axis", int64_t{1}}, {"epsilon", 1e-5}}));
  norm.known[1] = Constant(F32({5}), one);
  norm.known[2] = Constant(F32({5}), zero);
  ExpectAllMatters(norm);
  Case batch_norm = MakeCase(Op::kBatchNorm, {F32({2, 3, 4}), F32({3}), F32({3}), F32({3}), F32({3})},
                             MakeAttrs({{"epsilon", 1e-5}}));
  batch_norm.known[1] = Constant(F32({3}), one);
  batch_norm.known[2] = Constant(F32({3}), zero);
  batch_norm.known[3] = Constant(F32({3}), zero);
  batch_norm.known[4] = Constant(F32({3}), one);
  ExpectAllMatters(batch_norm);
  Case bias = MakeCase(Op::kAdd, {F32({3, 5}), F32({5})});
  bias.known[1] = Constant(F32({5}), zero);
  ExpectAllMatters(bias);

  // A pruned channel plus a bias is the bias, not 0.
  Case shifted = MakeCase(Op::kAdd, {F32({3}), F32({3})});
  shifted.known[0] = Constant(F32({3}), zero);
  shifted.known[1] = Constant(F32({3}), [](int64_t k) { return k == 1 ? 0.0 : 2.5; });
  const Found found = Find(shifted);
  EXPECT_EQ(found.outputs[0].at(Ints{0}), Certainty::kConstant);
  EXPECT_EQ(found.outputs[0].ValueAt(Ints{0}), 2.5);
  EXPECT_EQ(found.outputs[0].at(Ints{1}), Certainty::kZero);
}

// 6. Half precision: differences that double sees and f16 would not.
TEST_P(Traps, HalfPrecision) {
  for (DType type : {DType::kF16, DType::kBF16}) {
    Case product = MakeCase(Op::kMatmul, {{type, {2, 64}}, {type, {64, 3}}});
    product.known[1] = Constant({type, {64, 3}}, [](int64_t k) { return k < 3 ? 1000.0 : 1.0 / 4096; });
    ExpectAllMatters(product);
    ExpectAllMatters(MakeCase(Op::kSoftmax, {{type, {2, 6}}}, MakeAttrs({{"axis", int64_t{1}}})));
    ExpectAllMatters(MakeCase(Op::kReduceMean, {{type, {2, 64}}}, MakeAttrs({{"axes", Ints{1}}})));
  }
}

// 7a. A reshape with literal sizes: facts go through element by element, whatever the mask looks like.
TEST_P(Traps, ReshapeOfAMaskedTensor) {
  Case c = MakeCase(Op::kReshape, {F32({4, 6})}, MakeAttrs({{"shape", Ints{3, 8}}}));
  std::vector<uint8_t> kinds(24, static_cast<uint8_t>(Certainty::kUnknown)), live(24, 1);
  for (int64_t k : {2, 8, 14, 20, 21}) kinds[k] = static_cast<uint8_t>(Certainty::kZero);
  for (int64_t k : {0, 7, 8, 23}) live[k] = 0;
  c.known[0] = Known::FromElements(F32({4, 6}), kinds, std::vector<double>(24, 0));
  const Found found = Find(c, {Needed::FromElements({3, 8}, live)});
  EXPECT_EQ(found.outputs[0].kind.Elements(), kinds);
  const std::vector<uint8_t> found_live = found.inputs[0].live.Elements();
  for (size_t k = 0; k < 24; ++k) {
    // What is known is read as the constant, live or not.
    if (kinds[k] == static_cast<uint8_t>(Certainty::kUnknown)) {
      EXPECT_EQ(found_live[k], live[k]) << k;
    }
  }
}

// 7b. Dimension 0 need not be a batch, and operands need not share one.
TEST_P(Traps, NoBatchDimension) {
  // Columns that mix.
  const Case softmax = MakeCase(Op::kSoftmax, {F32({3, 2})}, MakeAttrs({{"axis", int64_t{0}}}));
  const Found column = Find(softmax, {Needed::FromElements({3, 2}, std::vector<uint8_t>{1, 0, 0, 0, 0, 0})});
  EXPECT_EQ(column.inputs[0], Needed::FromElements({3, 2}, std::vector<uint8_t>{1, 0, 1, 0, 1, 0}))
      << column.inputs[0].ToString();
  // The contraction runs along dimension 0 of both; a zero row of one kills the other's.
  Case product = MakeCase(Op::kMatmul, {F32({5, 2}), F32({5, 3})}, MakeAttrs({{"transpose_a", int64_t{1}}}));
  product.known[1] = Known::FromElements(F32({5, 3}), std::vector<uint8_t>{2, 2, 2, 0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 0},
                                         std::vector<double>(15, 0));
  EXPECT_EQ(Find(product).inputs[0], Needed::FromElements({5, 2}, std::vector<uint8_t>{1, 1, 0, 0, 1, 1, 1, 1, 0, 0}));
  // Dimension 0 of one operand follows that of the other.
  Case concat = MakeCase(Op::kConcat, {F32({2, 3}), F32({1, 3})}, MakeAttrs({{"axis", int64_t{0}}}));
  concat.known[1] = Constant(F32({1, 3}), [](int64_t k) { return static_cast<double>(k); });
  const Found found = Find(concat, {Needed::FromElements({3, 3}, std::vector<uint8_t>{0, 1, 1, 1, 1, 1, 1, 1, 1})});
  EXPECT_EQ(found.outputs[0].kind.Elements(), (std::vector<uint8_t>{2, 2, 2, 2, 2, 2, 0, 1, 1}));
  EXPECT_EQ(found.inputs[0], Needed::FromElements({2, 3}, std::vector<uint8_t>{0, 1, 1, 1, 1, 1}));
}

INSTANTIATE_TEST_SUITE_P(Every, Traps, testing::Values(RuleMode::kLearned, RuleMode::kInstance, RuleMode::kExact),
                         [](const testing::TestParamInfo<RuleMode>& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace tessera
