// What the element-wise ops mean where it is easy to get wrong: families elementwise, activation and binary.
#include <cmath>
#include <limits>

#include "graph/op.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

Tensor Make(DType dtype, const std::vector<double>& values) {
  Tensor tensor(dtype, {static_cast<int64_t>(values.size())});
  for (size_t k = 0; k < values.size(); ++k) tensor.Set(static_cast<int64_t>(k), values[k]);
  return tensor;
}

Tensor MakeInts(DType dtype, const std::vector<int64_t>& values) {
  Tensor tensor(dtype, {static_cast<int64_t>(values.size())});
  for (size_t k = 0; k < values.size(); ++k) tensor.SetInt(static_cast<int64_t>(k), values[k]);
  return tensor;
}

// The result, by reference and compute alike. An error aborts with its message.
RefTensor Result(Op op, const std::vector<Tensor>& operands, const Attrs& attrs = {}) {
  return RunOp(op, attrs, {operands.begin(), operands.end()})->at(0);
}

std::vector<double> Floats(Op op, const std::vector<double>& x, const Attrs& attrs = {}) {
  return Result(op, {Make(DType::kF64, x)}, attrs).f;
}

using Doubles = std::vector<double>;
using Ints = std::vector<int64_t>;

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

ErrorCode CodeOf(Op op, const std::vector<Tensor>& operands, const Attrs& attrs = {}) {
  return RunOp(op, attrs, {operands.begin(), operands.end()}).status().code();
}

TEST(ElementwiseTest, RoundGoesToTheEvenNeighbour) {
  EXPECT_EQ(Floats(Op::kRound, {0.5, 1.5, 2.5, -0.5, -1.5, 2.4, -2.6, 1e300}), (Doubles{0, 2, 2, 0, -2, 2, -3, 1e300}));
  EXPECT_TRUE(std::signbit(Floats(Op::kRound, {-0.25})[0]));
}

TEST(ElementwiseTest, SignKeepsZerosAndNan) {
  const Doubles sign = Floats(Op::kSign, {-3, 0, 7, -kInfinity, kNan});
  ExpectNear(sign, {-1, 0, 1, -1, kNan});
  EXPECT_EQ(Result(Op::kSign, {MakeInts(DType::kU8, {0, 255})}).i, (Ints{0, 1}));
  EXPECT_EQ(Result(Op::kSign, {MakeInts(DType::kI64, {-5, 0, 5})}).i, (Ints{-1, 0, 1}));
}

TEST(ElementwiseTest, TheLowestIntegerNegatesToItself) {
  EXPECT_EQ(Result(Op::kNeg, {MakeInts(DType::kI8, {-128, 127, 0})}).i, (Ints{-128, -127, 0}));
  EXPECT_EQ(Result(Op::kAbs, {MakeInts(DType::kI8, {-128, -1})}).i, (Ints{-128, 1}));
  EXPECT_EQ(Result(Op::kAbs, {MakeInts(DType::kI32, {INT32_MIN})}).i, (Ints{INT32_MIN}));
  EXPECT_EQ(Result(Op::kNeg, {MakeInts(DType::kU8, {1})}).i, (Ints{255}));
}

TEST(ElementwiseTest, NotIsLogicalOnBoolAndBitwiseOnIntegers) {
  EXPECT_EQ(Result(Op::kNot, {MakeInts(DType::kBool, {0, 1})}).i, (Ints{1, 0}));
  EXPECT_EQ(Result(Op::kNot, {MakeInts(DType::kU8, {0, 15})}).i, (Ints{255, 240}));
  EXPECT_EQ(Result(Op::kNot, {MakeInts(DType::kI32, {0, 5})}).i, (Ints{-1, -6}));
}

TEST(ElementwiseTest, IsInfKnowsSides) {
  const Tensor x = Make(DType::kF32, {kInfinity, -kInfinity, kNan, 1e30, 0});
  EXPECT_EQ(Result(Op::kIsInf, {x}).i, (Ints{1, 1, 0, 0, 0}));
  EXPECT_EQ(Result(Op::kIsInf, {x}, MakeAttrs({{"negative", 0}})).i, (Ints{1, 0, 0, 0, 0}));
  EXPECT_EQ(Result(Op::kIsInf, {x}, MakeAttrs({{"positive", 0}})).i, (Ints{0, 1, 0, 0, 0}));
  EXPECT_EQ(Result(Op::kIsInf, {x}, MakeAttrs({{"positive", 0}, {"negative", 0}})).i, (Ints{0, 0, 0, 0, 0}));
  EXPECT_EQ(Result(Op::kIsNan, {x}).i, (Ints{0, 0, 1, 0, 0}));
}

TEST(CastTest, FloatsTruncateAndSaturate) {
  const Tensor x = Make(DType::kF32, {2.9, -2.9, 300, -300, 1e20, -kInfinity, kNan});
  const auto to = [&](DType dtype) { return Result(Op::kCast, {x}, MakeAttrs({{"to", dtype}})).i; };
  EXPECT_EQ(to(DType::kI8), (Ints{2, -2, 127, -128, 127, -128, 0}));
  EXPECT_EQ(to(DType::kU8), (Ints{2, 0, 255, 0, 255, 0, 0}));
  EXPECT_EQ(to(DType::kI4), (Ints{2, -2, 7, -8, 7, -8, 0}));
  EXPECT_EQ(to(DType::kI32), (Ints{2, -2, 300, -300, INT32_MAX, INT32_MIN, 0}));
  EXPECT_EQ(to(DType::kI64)[5], INT64_MIN);
  EXPECT_EQ(to(DType::kBool), (Ints{1, 1, 1, 1, 1, 1, 1}));
}

TEST(CastTest, IntegersWrapAndFloatsRound) {
  const auto cast = [](const Tensor& x, DType dtype) { return Result(Op::kCast, {x}, MakeAttrs({{"to", dtype}})); };
  EXPECT_EQ(cast(MakeInts(DType::kI64, {300, -1, 1 << 16}), DType::kU8).i, (Ints{44, 255, 0}));
  EXPECT_EQ(cast(MakeInts(DType::kU64, {-1}), DType::kF64).f, (Doubles{18446744073709551616.0}));
  EXPECT_EQ(cast(MakeInts(DType::kU32, {0xffffffff}), DType::kI32).i, (Ints{-1}));
  EXPECT_EQ(cast(Make(DType::kF32, {1 + 1.0 / 4096, 70000}), DType::kF16).f, (Doubles{1, kInfinity}));
  EXPECT_EQ(cast(Make(DType::kF32, {1000}), DType::kF8E4M3).f, (Doubles{448}));
  EXPECT_EQ(cast(MakeInts(DType::kBool, {0, 1}), DType::kF16).f, (Doubles{0, 1}));
  EXPECT_EQ(cast(Make(DType::kF32, {0, -0.0, 0.25}), DType::kBool).i, (Ints{0, 0, 1}));
}

TEST(ActivationTest, ReluAndClipPassNanOn) {
  ExpectNear(Floats(Op::kRelu, {-1, 0, 2, kNan, kInfinity}), {0, 0, 2, kNan, kInfinity});
  const Attrs bounds = MakeAttrs({{"min", 0.0}, {"max", 6.0}});
  ExpectNear(Floats(Op::kClip, {-1, 3, 9, kNan, -kInfinity}, bounds), {0, 3, 6, kNan, 0});
  EXPECT_EQ(Floats(Op::kClip, {-1e30, 5}), (Doubles{-1e30, 5}));
  // Bounds the wrong way round: the upper one wins, as in NumPy.
  EXPECT_EQ(Floats(Op::kClip, {-9, 0, 9}, MakeAttrs({{"min", 2.0}, {"max", 1.0}})), (Doubles{1, 1, 1}));
}

TEST(ActivationTest, ClipSaturatesItsBoundsToIntegers) {
  const Attrs bounds = MakeAttrs({{"min", -1000.0}, {"max", 3.0}});
  EXPECT_EQ(Result(Op::kClip, {MakeInts(DType::kI8, {-128, 0, 127})}, bounds).i, (Ints{-128, 0, 3}));
  EXPECT_EQ(Result(Op::kClip, {MakeInts(DType::kU8, {0, 255})}, bounds).i, (Ints{0, 3}));
  EXPECT_EQ(Result(Op::kClip, {MakeInts(DType::kI8, {5})}, MakeAttrs({{"min", 1000.0}})).i, (Ints{127}));
  EXPECT_EQ(CodeOf(Op::kClip, {MakeInts(DType::kI8, {5})}, MakeAttrs({{"min", 0.5}})), ErrorCode::kAttributeInvalid);
  EXPECT_EQ(CodeOf(Op::kClip, {Make(DType::kF32, {5})}, MakeAttrs({{"max", kNan}})), ErrorCode::kAttributeInvalid);
}

TEST(ActivationTest, ExponentialsStayTameAtTheEnds) {
  ExpectNear(Floats(Op::kSigmoid, {-1000, -40, 0, 40, 1000}), {0, 4.248354255291589e-18, 0.5, 1, 1}, 1e-15);
  ExpectNear(Floats(Op::kSilu, {-1000, 0, 1000}), {0, 0, 1000});
  ExpectNear(Floats(Op::kSoftplus, {-1000, -40, 0, 1000}), {0, 4.248354255291589e-18, std::log(2.0), 1000}, 1e-15);
  ExpectNear(Floats(Op::kElu, {-1000, -1e-20, 3}, MakeAttrs({{"alpha", 2.0}})), {-2, 0, 3});
  ExpectNear(Floats(Op::kSelu, {-1, 1}), {-1.1113307378125625, 1.0507009873554805}, 1e-7);
  ExpectNear(Floats(Op::kTanh, {-1000, 1000}), {-1, 1});
}

TEST(ActivationTest, KnownValues) {
  ExpectNear(Floats(Op::kGelu, {-1, 0, 1}), {-0.15865525393145707, 0, 0.8413447460685429});
  ExpectNear(Floats(Op::kGelu, {-1, 1}, MakeAttrs({{"approximate", "tanh"}})),
             {-0.15880800939172324, 0.8411919906082768});
  ExpectNear(Floats(Op::kHardSwish, {-4, -3, 0, 1, 3, 4}), {0, 0, 0, 2.0 / 3, 3, 4});
  ExpectNear(Floats(Op::kHardSigmoid, {-9, 0, 1, 9}), {0, 0.5, 0.7, 1});
  ExpectNear(Floats(Op::kLeakyRelu, {-2, 3}), {-0.02, 3});
  ExpectNear(Floats(Op::kSoftsign, {-3, 0, 1}), {-0.75, 0, 0.5});
  EXPECT_EQ(CodeOf(Op::kGelu, {Make(DType::kF32, {1})}, MakeAttrs({{"approximate", "erf"}})),
            ErrorCode::kAttributeInvalid);
}

TEST(ActivationTest, PreluSlopeBroadcastsOneWayOnly) {
  const Tensor x = Make(DType::kF32, {-1, -2, 3, -4}).Reshaped({2, 2});
  EXPECT_EQ(Result(Op::kPrelu, {x, Make(DType::kF32, {10, 100})}).f, (Doubles{-10, -200, 3, -400}));
  EXPECT_EQ(CodeOf(Op::kPrelu, {Make(DType::kF32, {10, 100}), x}), ErrorCode::kShapeMismatch);
}

TEST(BinaryTest, IntegerDivisionTruncatesAndNeverTraps) {
  const auto div = [](DType dtype, const Ints& a, const Ints& b) {
    return Result(Op::kDiv, {MakeInts(dtype, a), MakeInts(dtype, b)}).i;
  };
  EXPECT_EQ(div(DType::kI32, {-7, 7, 5, INT32_MIN}, {2, -2, 0, -1}), (Ints{-3, -3, 0, INT32_MIN}));
  EXPECT_EQ(div(DType::kI8, {-128}, {-1}), (Ints{-128}));
  EXPECT_EQ(div(DType::kI64, {INT64_MIN}, {-1}), (Ints{INT64_MIN}));
  EXPECT_EQ(div(DType::kU64, {-1}, {2}), (Ints{INT64_MAX}));
  ExpectNear(Result(Op::kDiv, {Make(DType::kF32, {1, -1, 0}), Make(DType::kF32, {0, 0, 0})}).f,
             {kInfinity, -kInfinity, kNan});
}

TEST(BinaryTest, ModHasTheSignOfTheDivisorOrOfTheDividend) {
  const Tensor a = MakeInts(DType::kI32, {-7, 7, -7, 7, 6, 5}), b = MakeInts(DType::kI32, {3, -3, -3, 3, 3, 0});
  EXPECT_EQ(Result(Op::kMod, {a, b}).i, (Ints{2, -2, -1, 1, 0, 0}));
  EXPECT_EQ(Result(Op::kMod, {a, b}, MakeAttrs({{"fmod", 1}})).i, (Ints{-1, 1, -1, 1, 0, 0}));
  EXPECT_EQ(Result(Op::kMod, {MakeInts(DType::kI8, {-128}), MakeInts(DType::kI8, {127})}).i, (Ints{126}));
  EXPECT_EQ(Result(Op::kMod, {MakeInts(DType::kI64, {INT64_MIN}), MakeInts(DType::kI64, {-1})}).i, (Ints{0}));
  EXPECT_EQ(Result(Op::kMod, {MakeInts(DType::kU64, {-1}), MakeInts(DType::kU64, {10})}).i, (Ints{5}));
  ExpectNear(Result(Op::kMod, {Make(DType::kF64, {-7.5, 7.5}), Make(DType::kF64, {2, -2})}, MakeAttrs({{"fmod", 1}})).f,
             {-1.5, 1.5});
  EXPECT_EQ(CodeOf(Op::kMod, {Make(DType::kF32, {1}), Make(DType::kF32, {1})}), ErrorCode::kAttributeInvalid);
}

TEST(BinaryTest, IntegerPowersWrap) {
  const auto pow = [](DType dtype, const Ints& a, const Ints& b) {
    return Result(Op::kPow, {MakeInts(dtype, a), MakeInts(dtype, b)}).i;
  };
  EXPECT_EQ(pow(DType::kI32, {2, -2, 3, 0, 1, -1, 2}, {31, 3, 0, 0, -5, -5, -1}),
            (Ints{INT32_MIN, -8, 1, 1, 1, -1, 0}));
  EXPECT_EQ(pow(DType::kI8, {3}, {5}), (Ints{-13}));
  EXPECT_EQ(pow(DType::kI64, {3}, {40}), (Ints{static_cast<int64_t>(12157665459056928801u)}));
  ExpectNear(Result(Op::kPow, {Make(DType::kF64, {-8, -8, 0, 2}), Make(DType::kF64, {2, 0.5, 0, -1})}).f,
             {64, kNan, 1, 0.5});
}

TEST(BinaryTest, MinAndMaxPassNanOnAndKnowSigns) {
  for (Op op : {Op::kMin, Op::kMax}) {
    ExpectNear(Result(op, {Make(DType::kF32, {kNan, 1}), Make(DType::kF32, {1, kNan})}).f, {kNan, kNan});
  }
  EXPECT_EQ(Result(Op::kMax, {MakeInts(DType::kU64, {-1}), MakeInts(DType::kU64, {1})}).i, (Ints{-1}));
  EXPECT_EQ(Result(Op::kMax, {MakeInts(DType::kI64, {-1}), MakeInts(DType::kI64, {1})}).i, (Ints{1}));
  EXPECT_EQ(Result(Op::kMin, {MakeInts(DType::kU8, {200}), MakeInts(DType::kU8, {100})}).i, (Ints{100}));
}

TEST(BinaryTest, ComparisonsOfNanAreFalse) {
  const Tensor a = Make(DType::kF32, {1, kNan, kNan, 2}), b = Make(DType::kF32, {1, 1, kNan, 3});
  EXPECT_EQ(Result(Op::kEqual, {a, b}).i, (Ints{1, 0, 0, 0}));
  EXPECT_EQ(Result(Op::kLess, {a, b}).i, (Ints{0, 0, 0, 1}));
  EXPECT_EQ(Result(Op::kLessEqual, {a, b}).i, (Ints{1, 0, 0, 1}));
  EXPECT_EQ(Result(Op::kEqual, {MakeInts(DType::kBool, {0, 1}), MakeInts(DType::kBool, {0, 0})}).i, (Ints{1, 0}));
  EXPECT_EQ(Result(Op::kLess, {MakeInts(DType::kU64, {-1}), MakeInts(DType::kU64, {1})}).i, (Ints{0}));
}

TEST(BinaryTest, OperandsBroadcastBothWays) {
  const Tensor column = Make(DType::kF32, {1, 2}).Reshaped({2, 1}), row = Make(DType::kF32, {10, 20, 30});
  const RefTensor sum = Result(Op::kAdd, {column, row});
  EXPECT_EQ(sum.type.shape, (Shape{2, 3}));
  EXPECT_EQ(sum.f, (Doubles{11, 21, 31, 12, 22, 32}));
  const RefTensor picked =
      Result(Op::kWhere, {MakeInts(DType::kBool, {1, 0, 1}), column, Tensor::Full(DType::kF32, {}, 9)});
  EXPECT_EQ(picked.f, (Doubles{1, 9, 1, 2, 9, 2}));
  // An extent of 0 against 1 is empty.
  EXPECT_EQ(Result(Op::kAdd, {Tensor(DType::kF32, {0}), Tensor(DType::kF32, {1})}).type.shape, (Shape{0}));
}

TEST(BinaryTest, WhereTakesNothingFromTheOtherSide) {
  const Tensor c = MakeInts(DType::kBool, {1, 0}), a = Make(DType::kF32, {1, kNan}), b = Make(DType::kF32, {kNan, 2});
  EXPECT_EQ(Result(Op::kWhere, {c, a, b}).f, (Doubles{1, 2}));
}

TEST(ElementwiseTest, InferRejectsTypesAndShapesThatDoNotFit) {
  const Tensor f = Make(DType::kF32, {1, 2}), h = Make(DType::kF16, {1, 2}), i = MakeInts(DType::kI32, {1, 2});
  const Tensor flag = MakeInts(DType::kBool, {1, 0}), three = Make(DType::kF32, {1, 2, 3});
  EXPECT_EQ(CodeOf(Op::kAdd, {f, h}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kAdd, {f, i}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kAdd, {flag, flag}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kAdd, {f, three}), ErrorCode::kShapeMismatch);
  EXPECT_EQ(CodeOf(Op::kAnd, {f, f}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kLess, {flag, flag}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kWhere, {i, f, f}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kWhere, {flag, f, h}), ErrorCode::kTypeMismatch);
  EXPECT_EQ(CodeOf(Op::kNot, {f}), ErrorCode::kTypeMismatch);
  for (Op op : {Op::kExp, Op::kTanh, Op::kSigmoid, Op::kGelu, Op::kFloor, Op::kIsNan, Op::kElu, Op::kSqrt}) {
    EXPECT_EQ(CodeOf(op, {i}), ErrorCode::kTypeMismatch) << Name(op);
  }
  EXPECT_EQ(CodeOf(Op::kAdd, {f}), ErrorCode::kGraphInvalid);
  EXPECT_EQ(CodeOf(Op::kCast, {f}), ErrorCode::kAttributeInvalid);
}

}  // namespace
}  // namespace tessera
