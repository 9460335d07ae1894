// What reductions, normalisations and quantisation mean where it is easy to get wrong.
#include <cmath>
#include <limits>

#include "graph/op.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

using Doubles = std::vector<double>;
using Ints = std::vector<int64_t>;

Tensor Make(DType dtype, const Shape& shape, const std::vector<double>& values) {
  Tensor tensor(dtype, shape);
  TES_CHECK(tensor.num_elements() == static_cast<int64_t>(values.size()));
  for (size_t k = 0; k < values.size(); ++k) tensor.Set(static_cast<int64_t>(k), values[k]);
  return tensor;
}

// The result, by reference and compute alike. An error aborts with its message.
RefTensor Result(Op op, const std::vector<std::optional<Tensor>>& operands, const Attrs& attrs) {
  return RunOp(op, attrs, operands)->at(0);
}

ErrorCode CodeOf(Op op, const std::vector<std::optional<Tensor>>& operands, const Attrs& attrs) {
  return RunOp(op, attrs, operands).status().code();
}

void ExpectNear(const Doubles& found, const Doubles& expected, double bound = 1e-12) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t k = 0; k < found.size(); ++k) {
    if (std::isnan(expected[k])) {
      EXPECT_TRUE(std::isnan(found[k])) << "element " << k << ": " << found[k];
    } else if (std::isinf(expected[k])) {
      EXPECT_EQ(found[k], expected[k]) << "element " << k;
    } else {
      EXPECT_NEAR(found[k], expected[k], bound) << "element " << k;
    }
  }
}

Attrs Axes(Ints axes, int64_t keepdims = 1) { return MakeAttrs({{"axes", std::move(axes)}, {"keepdims", keepdims}}); }
Attrs Axis1(int64_t axis) { return MakeAttrs({{"axis", axis}}); }

const Tensor kMatrix = Make(DType::kF64, {2, 3}, {1, -2, 3, 4, 5, -6});

TEST(ReduceTest, AxesAndKeepdims) {
  const RefTensor rows = Result(Op::kReduceSum, {kMatrix}, Axes({1}));
  EXPECT_EQ(rows.type.shape, (Shape{2, 1}));
  EXPECT_EQ(rows.f, (Doubles{2, 3}));
  const RefTensor columns = Result(Op::kReduceSum, {kMatrix}, Axes({0}, 0));
  EXPECT_EQ(columns.type.shape, (Shape{3}));
  EXPECT_EQ(columns.f, (Doubles{5, 3, -3}));
  EXPECT_EQ(Result(Op::kReduceSum, {kMatrix}, Axes({0, 1}, 0)).type.shape, Shape());
  EXPECT_EQ(Result(Op::kReduceSum, {kMatrix}, Axes({})).f, (Doubles{1, -2, 3, 4, 5, -6}));
}

TEST(ReduceTest, EachKind) {
  const auto rows = [](Op op) { return Result(op, {kMatrix}, Axes({1}, 0)).f; };
  ExpectNear(rows(Op::kReduceMean), {2.0 / 3, 1});
  EXPECT_EQ(rows(Op::kReduceMax), (Doubles{3, 5}));
  EXPECT_EQ(rows(Op::kReduceMin), (Doubles{-2, -6}));
  EXPECT_EQ(rows(Op::kReduceProd), (Doubles{-6, -120}));
  EXPECT_EQ(rows(Op::kReduceL1), (Doubles{6, 15}));
  ExpectNear(rows(Op::kReduceL2), {std::sqrt(14.0), std::sqrt(77.0)});
  EXPECT_EQ(rows(Op::kReduceSumSquare), (Doubles{14, 77}));
  ExpectNear(rows(Op::kReduceLogSumExp),
             {std::log(std::exp(1) + std::exp(-2) + std::exp(3)), std::log(std::exp(4) + std::exp(5) + std::exp(-6))});
}

TEST(ReduceTest, LogSumExpOfExtremes) {
  const auto of = [](const Doubles& x) {
    return Result(Op::kReduceLogSumExp, {Make(DType::kF32, {1, static_cast<int64_t>(x.size())}, x)}, Axes({1}, 0)).f;
  };
  ExpectNear(of({1000, 1000}), {1000 + std::log(2.0)});
  ExpectNear(of({-1000, -1000}), {-1000 + std::log(2.0)});
  ExpectNear(of({-kInfinity, -kInfinity}), {-kInfinity});
  ExpectNear(of({-kInfinity, 3}), {3});
  ExpectNear(of({kInfinity, 3}), {kInfinity});
  ExpectNear(of({kNan, 3}), {kNan});
}

TEST(ReduceTest, IntegersWrapToTheirType) {
  const Tensor x = Make(DType::kI8, {3}, {100, 100, -1});
  EXPECT_EQ(Result(Op::kReduceSum, {x}, Axes({0}, 0)).i, (Ints{-57}));
  EXPECT_EQ(Result(Op::kReduceProd, {x}, Axes({0}, 0)).i, (Ints{-16}));
  EXPECT_EQ(Result(Op::kReduceL1, {x}, Axes({0}, 0)).i, (Ints{-55}));
  EXPECT_EQ(CodeOf(Op::kReduceMean, {x}, Axes({0})), ErrorCode::kTypeMismatch);
}

TEST(ReduceTest, SumsOfNarrowIntegersCanBeI32) {
  Attrs attrs = Axes({0}, 0);
  attrs.Set("dtype", DType::kI32);
  EXPECT_EQ(Result(Op::kReduceSum, {Make(DType::kI8, {3}, {100, 100, -1})}, attrs).i, (Ints{199}));
  EXPECT_EQ(Result(Op::kReduceSum, {Make(DType::kU8, {2}, {255, 255})}, attrs).i, (Ints{510}));
  EXPECT_EQ(CodeOf(Op::kReduceSum, {Make(DType::kF32, {2}, {1, 2})}, attrs), ErrorCode::kAttributeInvalid);
  attrs.Set("dtype", DType::kI64);
  EXPECT_EQ(CodeOf(Op::kReduceSum, {Make(DType::kU8, {2}, {255, 255})}, attrs), ErrorCode::kAttributeInvalid);
}

TEST(ReduceTest, NothingGivesTheIdentity) {
  const auto of = [](Op op, DType dtype) { return Result(op, {Tensor(dtype, {2, 0})}, Axes({1}, 0)); };
  EXPECT_EQ(of(Op::kReduceSum, DType::kF32).f, (Doubles{0, 0}));
  EXPECT_EQ(of(Op::kReduceProd, DType::kF32).f, (Doubles{1, 1}));
  EXPECT_EQ(of(Op::kReduceMax, DType::kF32).f, (Doubles{-kInfinity, -kInfinity}));
  EXPECT_EQ(of(Op::kReduceMin, DType::kF32).f, (Doubles{kInfinity, kInfinity}));
  EXPECT_EQ(of(Op::kReduceMax, DType::kI8).i, (Ints{-128, -128}));
  EXPECT_EQ(of(Op::kReduceMin, DType::kI8).i, (Ints{127, 127}));
  EXPECT_EQ(of(Op::kReduceMin, DType::kU8).i, (Ints{255, 255}));
  EXPECT_EQ(of(Op::kReduceMax, DType::kI64).i, (Ints{INT64_MIN, INT64_MIN}));
  EXPECT_EQ(of(Op::kReduceMin, DType::kU64).i, (Ints{-1, -1}));
  EXPECT_EQ(of(Op::kReduceMax, DType::kBool).i, (Ints{0, 0}));
  EXPECT_EQ(of(Op::kReduceMin, DType::kBool).i, (Ints{1, 1}));
  EXPECT_TRUE(std::isnan(of(Op::kReduceMean, DType::kF32).f[0]));
  EXPECT_EQ(of(Op::kReduceLogSumExp, DType::kF32).f, (Doubles{-kInfinity, -kInfinity}));
}

TEST(ReduceTest, MaxAndMinPassNanOn) {
  const Tensor x = Make(DType::kF32, {2, 3}, {1, kNan, 3, -kInfinity, 0, kInfinity});
  ExpectNear(Result(Op::kReduceMax, {x}, Axes({1}, 0)).f, {kNan, kInfinity});
  ExpectNear(Result(Op::kReduceMin, {x}, Axes({1}, 0)).f, {kNan, -kInfinity});
}

TEST(ReduceTest, AxesMustBeInRangeAscendingAndOnce) {
  for (const Ints& axes : {Ints{2}, Ints{-1}, Ints{1, 0}, Ints{1, 1}}) {
    EXPECT_EQ(CodeOf(Op::kReduceSum, {kMatrix}, Axes(axes)), ErrorCode::kAttributeInvalid);
  }
  EXPECT_EQ(CodeOf(Op::kSoftmax, {kMatrix}, Axis1(2)), ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kArgMax, {kMatrix}, Axis1(-1)), ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kArgMax, {Tensor(DType::kF32, {2, 0})}, Axis1(1)), ErrorCode::kShapeMismatch);
}

TEST(ArgTest, TiesGoToTheFirstOrTheLast) {
  const Tensor x = Make(DType::kF32, {2, 4}, {1, 5, 5, 2, -3, 7, -3, 0});
  const Attrs last = MakeAttrs({{"axis", 1}, {"keepdims", 0}, {"select_last", 1}});
  EXPECT_EQ(Result(Op::kArgMax, {x}, MakeAttrs({{"axis", 1}, {"keepdims", 0}})).i, (Ints{1, 1}));
  EXPECT_EQ(Result(Op::kArgMax, {x}, last).i, (Ints{2, 1}));
  EXPECT_EQ(Result(Op::kArgMin, {x}, MakeAttrs({{"axis", 1}, {"keepdims", 0}})).i, (Ints{0, 0}));
  EXPECT_EQ(Result(Op::kArgMin, {x}, last).i, (Ints{0, 2}));
  const RefTensor kept = Result(Op::kArgMax, {x}, Axis1(0));
  EXPECT_EQ(kept.type, (TensorType{DType::kI64, {1, 4}}));
  EXPECT_EQ(kept.i, (Ints{0, 1, 0, 0}));
}

TEST(ArgTest, NanAndInfinityGiveAnIndexInRange) {
  const Tensor x =
      Make(DType::kF32, {3, 3}, {1, kNan, kNan, -kInfinity, -kInfinity, -kInfinity, kInfinity, 0, kInfinity});
  for (Op op : {Op::kArgMax, Op::kArgMin}) {
    EXPECT_EQ(Result(op, {x}, Axis1(1)).i[0], 1) << Name(op);
    EXPECT_EQ(Result(op, {x}, Axis1(1)).i[1], 0) << Name(op);
    const Attrs last = MakeAttrs({{"axis", 1}, {"select_last", 1}});
    EXPECT_EQ(Result(op, {x}, last).i[0], 2) << Name(op);
    EXPECT_EQ(Result(op, {x}, last).i[1], 2) << Name(op);
  }
  EXPECT_EQ(Result(Op::kArgMax, {Make(DType::kU8, {3}, {3, 255, 255})}, Axis1(0)).i, (Ints{1}));
}

TEST(SoftmaxTest, LargeInputsNeitherOverflowNorVanish) {
  const Tensor x = Make(DType::kF32, {1, 3}, {1000, 1001, -1000});
  const double e = std::exp(1.0);
  ExpectNear(Result(Op::kSoftmax, {x}, Axis1(1)).f, {1 / (1 + e), e / (1 + e), 0});
  ExpectNear(Result(Op::kLogSoftmax, {x}, Axis1(1)).f,
             {-std::log(1 + e), 1 - std::log(1 + e), -2000 - std::log(1 + e)});
  // Along the other axis each element is alone.
  EXPECT_EQ(Result(Op::kSoftmax, {x}, Axis1(0)).f, (Doubles{1, 1, 1}));
}

TEST(SoftmaxTest, MaskedElementsAreZeroAndAFullyMaskedRowIsNan) {
  const Tensor x = Make(DType::kF32, {2, 2}, {-kInfinity, 3, -kInfinity, -kInfinity});
  ExpectNear(Result(Op::kSoftmax, {x}, Axis1(1)).f, {0, 1, kNan, kNan});
  EXPECT_EQ(CodeOf(Op::kSoftmax, {Make(DType::kI32, {2}, {1, 2})}, Axis1(0)), ErrorCode::kTypeMismatch);
}

TEST(NormalizationTest, LayerNormOverTheInnerDimensions) {
  const Tensor x = Make(DType::kF64, {2, 2, 2}, {1, 2, 3, 4, 10, 10, 10, 10});
  const Attrs attrs = MakeAttrs({{"axis", 1}, {"epsilon", 0.0}});
  const double d = std::sqrt(1.25);
  ExpectNear(Result(Op::kLayerNorm, {x}, attrs).f, {-1.5 / d, -0.5 / d, 0.5 / d, 1.5 / d, kNan, kNan, kNan, kNan});
  const Tensor scale = Make(DType::kF64, {2, 2}, {1, 2, 3, 4}), bias = Make(DType::kF64, {2, 2}, {10, 20, 30, 40});
  const Attrs eps = MakeAttrs({{"axis", 1}, {"epsilon", 1e-5}});
  const double de = std::sqrt(1.25001);
  ExpectNear(Result(Op::kLayerNorm, {x, std::nullopt, bias}, eps).f,
             {10 - 1.5 / de, 20 - 0.5 / de, 30 + 0.5 / de, 40 + 1.5 / de, 10, 20, 30, 40});
  EXPECT_NEAR(Result(Op::kLayerNorm, {x, scale}, attrs).f[3], 6 / d, 1e-12);
  EXPECT_EQ(CodeOf(Op::kLayerNorm, {x, Make(DType::kF64, {2}, {1, 2})}, attrs), ErrorCode::kShapeMismatch);
  EXPECT_EQ(CodeOf(Op::kLayerNorm, {x, Make(DType::kF32, {2, 2}, {1, 2, 3, 4})}, attrs), ErrorCode::kTypeMismatch);
}

// A mean that is large against the deviation: one pass (mean of squares minus square of mean) would cancel in f32.
TEST(NormalizationTest, VarianceDoesNotCancelInF32) {
  const Tensor x = Make(DType::kF32, {1, 4}, {10000, 10001, 10002, 10003});
  const Attrs attrs = MakeAttrs({{"axis", 1}, {"epsilon", 1e-5}});
  const StatusOr<std::vector<RefTensor>> expected = RunOp(Op::kLayerNorm, attrs, {x});
  ASSERT_TRUE(expected.ok());
  OpContext c = {.attrs = attrs, .inputs = {x.type()}, .outputs = {x.type()}};
  const Compute compute = RoundedToF32(GetOp(Op::kLayerNorm).compute(c));
  const RefTensor input = RefTensor::From(x);
  const RefTensor* inputs[] = {&input};
  std::vector<RefTensor> actual;
  Evaluate(compute, inputs, actual);
  EXPECT_TRUE(CompareRefs(expected->at(0), actual[0], {.relative = 1e-6}).ok());
}

TEST(NormalizationTest, BatchNormPerChannel) {
  const Tensor x = Make(DType::kF64, {1, 2, 2}, {1, 2, 3, 4});
  const auto channel = [](double a, double b) { return Make(DType::kF64, {2}, {a, b}); };
  const std::vector<std::optional<Tensor>> operands = {x, channel(2, 3), channel(10, 20), channel(1, 0), channel(4, 9)};
  ExpectNear(Result(Op::kBatchNorm, operands, MakeAttrs({{"epsilon", 0.0}})).f, {10, 11, 23, 24});
  ExpectNear(Result(Op::kBatchNorm, operands, MakeAttrs({{"epsilon", 0.0}, {"axis", 2}})).f, {10, 22, 12, 24});
  EXPECT_EQ(CodeOf(Op::kBatchNorm, operands, MakeAttrs({{"epsilon", 0.0}, {"axis", 0}})), ErrorCode::kShapeMismatch);
}

Attrs To(DType dtype) { return MakeAttrs({{"dtype", dtype}}); }

TEST(QuantizeTest, RoundsHalfToEvenThenAddsTheZeroPoint) {
  const Tensor x = Make(DType::kF32, {6}, {0.5, 1.5, 2.5, -0.5, -1.5, 0.75});
  const Tensor one = Make(DType::kF32, {}, {1});
  EXPECT_EQ(Result(Op::kQuantize, {x, one}, To(DType::kI8)).i, (Ints{0, 2, 2, 0, -2, 1}));
  // The quotient rounds alone: 0.5 + 1 would round to 2 together.
  EXPECT_EQ(Result(Op::kQuantize, {x, one, Make(DType::kI8, {}, {1})}, To(DType::kI8)).i, (Ints{1, 3, 3, 1, -1, 2}));
}

TEST(QuantizeTest, Saturates) {
  const Tensor x = Make(DType::kF32, {6}, {1000, -1000, kInfinity, -kInfinity, kNan, 12});
  const Tensor scale = Make(DType::kF32, {1}, {1});
  EXPECT_EQ(Result(Op::kQuantize, {x, scale}, To(DType::kI8)).i, (Ints{127, -128, 127, -128, 0, 12}));
  EXPECT_EQ(Result(Op::kQuantize, {x, scale, Make(DType::kU8, {1}, {128})}, To(DType::kU8)).i,
            (Ints{255, 0, 255, 0, 0, 140}));
  EXPECT_EQ(Result(Op::kQuantize, {x, scale}, To(DType::kI4)).i, (Ints{7, -8, 7, -8, 0, 7}));
  EXPECT_EQ(Result(Op::kQuantize, {x, scale, Make(DType::kU16, {1}, {65535})}, To(DType::kU16)).i,
            (Ints{65535, 64535, 65535, 0, 0, 65535}));
}

TEST(QuantizeTest, HalfPrecisionScalesAreUsedAsStored) {
  // 0.1 in f16 is 0.0999755859375, so 0.75 / 0.1 rounds to 8 (7.502), not to an exact tie at 7.5.
  const Tensor x = Make(DType::kF16, {2}, {0.75, 0.25}), scale = Make(DType::kF16, {}, {0.1});
  EXPECT_EQ(Result(Op::kQuantize, {x, scale}, To(DType::kI8)).i, (Ints{8, 3}));
  const RefTensor back = Result(Op::kDequantize, {Make(DType::kI8, {1}, {8}), scale}, {});
  EXPECT_EQ(back.type.dtype, DType::kF16);
  EXPECT_EQ(back.f, (Doubles{8 * 0.0999755859375}));
}

TEST(QuantizeTest, PerAxisAndBlocked) {
  const Tensor x = Make(DType::kF32, {2, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  EXPECT_EQ(
      Result(Op::kQuantize, {x, Make(DType::kF32, {2}, {1, 2})}, MakeAttrs({{"dtype", DType::kI8}, {"axis", 0}})).i,
      (Ints{1, 2, 3, 4, 5, 3, 4, 4, 4, 5}));
  const Attrs blocked = MakeAttrs({{"dtype", DType::kI8}, {"axis", 1}, {"block_size", 2}});
  const Tensor scales = Make(DType::kF32, {2, 3}, {1, 0.5, 0.25, 1, 2, 0.5});
  EXPECT_EQ(Result(Op::kQuantize, {x, scales}, blocked).i, (Ints{1, 2, 6, 8, 20, 6, 7, 4, 4, 20}));
  const Tensor zeros = Make(DType::kI8, {2, 3}, {0, 10, 20, 0, 1, 2});
  EXPECT_EQ(Result(Op::kQuantize, {x, scales, zeros}, blocked).i, (Ints{1, 2, 16, 18, 40, 6, 7, 5, 5, 22}));
  const Attrs along_rows = MakeAttrs({{"axis", 0}, {"block_size", 5}});
  EXPECT_EQ(
      Result(Op::kDequantize, {Make(DType::kI8, {2, 2}, {1, 2, 3, 4}), Make(DType::kF32, {1, 2}, {1, 10})}, along_rows)
          .f,
      (Doubles{1, 20, 3, 40}));
}

TEST(QuantizeTest, WideIntegersDoNotOverflowBeforeTheyAreScaled) {
  const Tensor x = Make(DType::kI32, {2}, {2147483647, -2147483648.0}), zero = Make(DType::kI32, {1}, {-1});
  EXPECT_EQ(Result(Op::kDequantize, {x, Make(DType::kF64, {1}, {1}), zero}, {}).f,
            (Doubles{2147483648.0, -2147483647.0}));
}

TEST(QuantizeTest, InferRejectsWhatDoesNotFit) {
  const Tensor x = Make(DType::kF32, {2, 4}, Doubles(8, 1)), one = Make(DType::kF32, {}, {1});
  const Tensor four = Make(DType::kF32, {4}, Doubles(4, 1));
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, one}, To(DType::kF16)), ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, one}, To(DType::kI32)), ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, four}, To(DType::kI8)), ErrorCode::kShapeMismatch);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, four}, MakeAttrs({{"dtype", DType::kI8}, {"axis", 0}})),
            ErrorCode::kShapeMismatch);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, four}, MakeAttrs({{"dtype", DType::kI8}, {"axis", 2}})),
            ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, four}, MakeAttrs({{"dtype", DType::kI8}, {"block_size", 2}})),
            ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, one}, MakeAttrs({{"dtype", DType::kI8}, {"axis", 1}, {"block_size", -1}})),
            ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, one, Make(DType::kU8, {}, {0})}, To(DType::kI8)), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, one, Make(DType::kI8, {1}, {0})}, To(DType::kI8)), ErrorCode::kShapeMismatch);
  EXPECT_EQ(CodeOf(Op::kQuantize, {x, Make(DType::kF64, {}, {1})}, To(DType::kI8)), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kDequantize, {x, one}, {}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kDequantize, {Make(DType::kI64, {1}, {1}), one}, {}), ErrorCode::kTypeMismatch);
}

}  // namespace
}  // namespace tessera
