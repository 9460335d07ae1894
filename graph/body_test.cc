#include "graph/body.h"

#include <cmath>
#include <limits>
#include <random>

#include "graph/testing/random_body.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double OnFloats(ScalarOp op, double a, double b = 0, DType type = DType::kF32) {
  BodyBuilder builder;
  const Scalar x = builder.Input(type), y = builder.Input(type);
  const Body body = builder.Finish(ScalarInfo(op).arity == 1 ? Unary(op, x) : builder.Op(op, {x, y}));
  EXPECT_TRUE(body.Verify(0).ok()) << body.Verify(0);
  const ScalarValue values[] = {{.f = a}, {.f = b}};
  const ScalarValue result = body.Evaluate(values, {});
  return IsFloat(body.result_type()) ? result.f : static_cast<double>(result.i);
}

int64_t OnIntegers(ScalarOp op, DType type, int64_t a, int64_t b = 0) {
  BodyBuilder builder;
  const Scalar x = builder.Input(type), y = builder.Input(type);
  const Body body = builder.Finish(ScalarInfo(op).arity == 1 ? Unary(op, x) : builder.Op(op, {x, y}));
  EXPECT_TRUE(body.Verify(0).ok()) << body.Verify(0);
  const ScalarValue values[] = {{.i = a}, {.i = b}};
  return body.Evaluate(values, {}).i;
}

Body Parsed(std::string_view text) {
  StatusOr<Body> body = ParseBody(text);
  EXPECT_TRUE(body.ok()) << body.status();
  return body.ok() ? *body : Body();
}

// Every row of scalar_ops.def says what it needs to be printed, checked and evaluated.
TEST(ScalarOpsTest, EveryRowIsAllowedOnSomething) {
  int rows = 0;
#define TES_SCALAR_OP(Id, spelling, num_args, result_kind, on_double, on_integer)                      \
  EXPECT_EQ(ScalarInfo(ScalarOp::k##Id).name, spelling);                                               \
  EXPECT_EQ(ScalarInfo(ScalarOp::k##Id).arity, num_args);                                              \
  EXPECT_TRUE(ScalarInfo(ScalarOp::k##Id).on_float || ScalarInfo(ScalarOp::k##Id).on_int) << spelling; \
  ++rows;
#include "graph/scalar_ops.def"
#undef TES_SCALAR_OP
  EXPECT_GT(rows, 40);
  EXPECT_FALSE(ScalarInfo(ScalarOp::kExp).on_int);
  EXPECT_FALSE(ScalarInfo(ScalarOp::kAnd).on_float);
  EXPECT_TRUE(ScalarInfo(ScalarOp::kAdd).on_int && ScalarInfo(ScalarOp::kAdd).on_float);
}

TEST(ScalarOpsTest, FloatsFollowTheCLibraryAndPassNanOn) {
  EXPECT_EQ(OnFloats(ScalarOp::kRoundEven, 2.5), 2);
  EXPECT_EQ(OnFloats(ScalarOp::kRoundEven, -1.5), -2);
  EXPECT_EQ(OnFloats(ScalarOp::kRem, -7, 3), -1);
  EXPECT_EQ(OnFloats(ScalarOp::kPow, 2, 10), 1024);
  EXPECT_EQ(OnFloats(ScalarOp::kTrunc, -1.7), -1);
  EXPECT_DOUBLE_EQ(OnFloats(ScalarOp::kLog1p, 1e-20), 1e-20);
  EXPECT_DOUBLE_EQ(OnFloats(ScalarOp::kExpm1, 1e-20), 1e-20);
  for (ScalarOp op : {ScalarOp::kMin, ScalarOp::kMax}) {
    EXPECT_TRUE(std::isnan(OnFloats(op, std::nan(""), 1)));
    EXPECT_TRUE(std::isnan(OnFloats(op, 1, std::nan(""))));
    EXPECT_EQ(OnFloats(op, 3, 3), 3);
  }
  EXPECT_EQ(OnFloats(ScalarOp::kEq, std::nan(""), std::nan("")), 0);
  EXPECT_EQ(OnFloats(ScalarOp::kNe, std::nan(""), std::nan("")), 1);
  EXPECT_EQ(OnFloats(ScalarOp::kLe, 2, 2), 1);
  EXPECT_EQ(OnFloats(ScalarOp::kIsNan, std::nan("")), 1);
  EXPECT_EQ(OnFloats(ScalarOp::kIsInf, -kInfinity), 1);
  EXPECT_EQ(OnFloats(ScalarOp::kIsInf, 1e300), 0);
}

TEST(ScalarOpsTest, IntegersWrapAndNeverTrap) {
  constexpr int64_t kLowest32 = std::numeric_limits<int32_t>::min(), kHighest32 = std::numeric_limits<int32_t>::max();
  constexpr int64_t kLowest64 = std::numeric_limits<int64_t>::min();
  EXPECT_EQ(OnIntegers(ScalarOp::kAdd, DType::kI32, kHighest32, 1), kLowest32);
  EXPECT_EQ(OnIntegers(ScalarOp::kMul, DType::kI32, 1 << 20, 1 << 20), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kSub, DType::kU32, 0, 1), 0xffffffff);
  EXPECT_EQ(OnIntegers(ScalarOp::kDiv, DType::kI32, kLowest32, -1), kLowest32);
  EXPECT_EQ(OnIntegers(ScalarOp::kDiv, DType::kI64, kLowest64, -1), kLowest64);
  EXPECT_EQ(OnIntegers(ScalarOp::kRem, DType::kI64, kLowest64, -1), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kDiv, DType::kI32, -7, 2), -3);
  EXPECT_EQ(OnIntegers(ScalarOp::kRem, DType::kI32, -7, 2), -1);
  EXPECT_EQ(OnIntegers(ScalarOp::kDiv, DType::kI32, 5, 0), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kRem, DType::kI32, 5, 0), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kDiv, DType::kU64, -1, 2), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(OnIntegers(ScalarOp::kLt, DType::kU64, -1, 1), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kLt, DType::kI64, -1, 1), 1);
  EXPECT_EQ(OnIntegers(ScalarOp::kMax, DType::kU64, -1, 1), -1);
  EXPECT_EQ(OnIntegers(ScalarOp::kAbs, DType::kI32, kLowest32), kLowest32);
  EXPECT_EQ(OnIntegers(ScalarOp::kShl, DType::kI32, 1, 31), kLowest32);
  EXPECT_EQ(OnIntegers(ScalarOp::kShl, DType::kI32, 1, 32), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kShr, DType::kI32, -8, 1), -4);
  EXPECT_EQ(OnIntegers(ScalarOp::kShr, DType::kU32, 0x80000000, 31), 1);
  EXPECT_EQ(OnIntegers(ScalarOp::kNot, DType::kI32, 5), -6);
  EXPECT_EQ(OnIntegers(ScalarOp::kNot, DType::kBool, 1), 0);
}

TEST(ScalarOpsTest, IntegerPowers) {
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kI32, 3, 4), 81);
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kI32, 2, 32), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kI32, 2, -1), 0);
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kI32, -1, -3), -1);
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kI32, 1, -3), 1);
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kI64, 7, 0), 1);
  // An exponent of u64 above 2^63 is large, not negative.
  EXPECT_EQ(OnIntegers(ScalarOp::kPow, DType::kU64, 3, -1), static_cast<int64_t>(12297829382473034411u));
}

TEST(BodyTest, CastTruncatesSaturatesAndWraps) {
  const auto cast = [](DType from, DType to, ScalarValue value) {
    BodyBuilder b;
    const Scalar x = b.Input(from);
    return b.Finish(b.Cast(x, to)).Evaluate({&value, 1}, {});
  };
  EXPECT_EQ(cast(DType::kF32, DType::kI32, {.f = -2.9}).i, -2);
  EXPECT_EQ(cast(DType::kF32, DType::kI32, {.f = 1e20}).i, std::numeric_limits<int32_t>::max());
  EXPECT_EQ(cast(DType::kF32, DType::kI32, {.f = std::nan("")}).i, 0);
  EXPECT_EQ(cast(DType::kF32, DType::kU64, {.f = -5}).i, 0);
  EXPECT_EQ(cast(DType::kF32, DType::kU64, {.f = 1e30}).i, -1);
  EXPECT_EQ(cast(DType::kI64, DType::kI32, {.i = (int64_t{1} << 32) + 5}).i, 5);
  EXPECT_EQ(cast(DType::kI64, DType::kI8, {.i = 300}).i, 44);
  EXPECT_EQ(cast(DType::kI64, DType::kU8, {.i = -1}).i, 255);
  EXPECT_EQ(cast(DType::kF32, DType::kBool, {.f = 0.25}).i, 1);
  EXPECT_EQ(cast(DType::kU64, DType::kF64, {.i = -1}).f, 18446744073709551616.0);
  EXPECT_EQ(cast(DType::kF32, DType::kF16, {.f = 1 + 1.0 / 4096}).f, 1);
  EXPECT_EQ(cast(DType::kBool, DType::kF32, {.i = 1}).f, 1);
}

TEST(BodyTest, HeaderExampleReadsAsShown) {
  BodyBuilder b;
  const Scalar x = b.Input(DType::kF32), bias = b.Input(DType::kF32);
  const Body body = b.Finish(Max(x + bias, b.Const(DType::kF32, 0)));
  EXPECT_EQ(body.ToString(), "(a: f32, b: f32) { t2 = add(a, b); t3 = 0:f32; return max(t2, t3) }");
  const ScalarValue values[] = {{.f = 2}, {.f = -5}};
  EXPECT_EQ(body.Evaluate(values, {}).f, 0);
}

TEST(BodyTest, NarrowTypesComputeWide) {
  EXPECT_EQ(ComputeType(DType::kF16), DType::kF32);
  EXPECT_EQ(ComputeType(DType::kF8E4M3), DType::kF32);
  EXPECT_EQ(ComputeType(DType::kF64), DType::kF64);
  EXPECT_EQ(ComputeType(DType::kU8), DType::kI32);
  EXPECT_EQ(ComputeType(DType::kU32), DType::kU32);
  EXPECT_EQ(ComputeType(DType::kI64), DType::kI64);
  EXPECT_EQ(ComputeType(DType::kBool), DType::kBool);
}

TEST(BodyTest, FinishDropsWhatIsNotNeededAndKeepsTheCountOfInputs) {
  BodyBuilder b;
  const Scalar x = b.Input(DType::kF32);
  b.Input(DType::kI32);
  const Scalar z = b.InputAt(2, DType::kF32);
  Exp(x);  // dead
  const Body body = b.Finish(Tanh(z));
  EXPECT_EQ(body.num_inputs, 3);
  EXPECT_EQ(body.insts.size(), 2u);
  EXPECT_EQ(body.ToString(), "(a: f32, b: f32, c: f32) { return tanh(c) }");
  EXPECT_EQ(Parsed(body.ToString()), body);
}

TEST(BodyTest, FinishGivesOneFormToOneExpression) {
  BodyBuilder b, c;
  const Scalar x = b.Input(DType::kF32), y = b.Input(DType::kF32);
  const Scalar one = b.Const(DType::kF32, 1), product = x * y;
  const Body first = b.Finish((product + one) / (product - b.Const(DType::kF32, 1)));
  const Scalar v = c.InputAt(1, DType::kF32), u = c.InputAt(0, DType::kF32);
  const Scalar difference = u * v - 1.0, sum = u * v + 1.0;
  EXPECT_EQ(c.Finish(sum / difference), first);
  EXPECT_EQ(first.ToString(),
            "(a: f32, b: f32) { t2 = mul(a, b); t3 = 1:f32; t4 = add(t2, t3); t5 = sub(t2, t3); return div(t4, t5) }");
  BodyBuilder d;
  const Scalar zero = d.Const(DType::kF32, 0), minus_zero = d.Const(DType::kF32, -0.0);
  EXPECT_EQ(d.Finish(Min(zero, minus_zero)).insts.size(), 3u);
}

TEST(BodyTest, InlineFeedsOneBodyIntoAnother) {
  const Body inner = Parsed("(a: f32, b: f32) { return mul(a, b) }");
  BodyBuilder b;
  const Scalar x = b.Input(DType::kF32);
  const Scalar operands[] = {x, x + 1.0};
  const Body outer = b.Finish(b.Inline(inner, operands) - x);
  const ScalarValue value = {.f = 3};
  EXPECT_EQ(outer.Evaluate({&value, 1}, {}).f, 9);
}

TEST(BodyTest, IndexReadsTheIterationPoint) {
  BodyBuilder b;
  const Body body = b.Finish(b.Index(1) + b.Cast(b.Input(DType::kI8), DType::kI64));
  EXPECT_TRUE(body.uses_index());
  EXPECT_TRUE(body.Verify(2).ok());
  EXPECT_FALSE(body.Verify(1).ok());
  const ScalarValue value = {.i = 5};
  const int64_t at[] = {10, 20};
  EXPECT_EQ(body.Evaluate({&value, 1}, at).i, 25);
}

TEST(BodyTest, RandomBodiesVerifyPrintAndParse) {
  std::mt19937_64 rng(1);
  const std::vector<DType> types = {DType::kF32, DType::kF64, DType::kI8,   DType::kU32,
                                    DType::kI64, DType::kU64, DType::kBool, DType::kF16};
  for (int n = 0; n < 3000; ++n) {
    std::vector<DType> inputs;
    for (uint64_t k = 1 + rng() % 4; k > 0; --k) inputs.push_back(types[rng() % types.size()]);
    // Beyond 26 inputs names have two characters; beyond 32 instructions values are on the heap.
    if (n % 10 == 0) inputs.resize(30, DType::kF32);
    const Body body =
        RandomBody(inputs, {.num_axes = 2, .continuous = n % 2 == 0, .max_ops = n % 7 == 0 ? 60 : 12}, rng);
    ASSERT_TRUE(body.Verify(2).ok()) << body.Verify(2) << "\n" << body.ToString();
    const StatusOr<Body> parsed = ParseBody(body.ToString());
    ASSERT_TRUE(parsed.ok()) << parsed.status() << "\n" << body.ToString();
    ASSERT_EQ(*parsed, body) << body.ToString() << "\n" << parsed->ToString();

    std::vector<ScalarValue> values(inputs.size());
    for (size_t k = 0; k < inputs.size(); ++k) {
      values[k].f = static_cast<double>(rng() % 1000) / 250 - 2;
      values[k].i = IsBool(inputs[k]) ? static_cast<int64_t>(rng() % 2) : static_cast<int64_t>(rng() % 100);
    }
    const int64_t at[] = {3, 4};
    const ScalarValue a = body.Evaluate(values, at), b = parsed->Evaluate(values, at);
    if (IsFloat(body.result_type())) {
      EXPECT_TRUE(a.f == b.f || (std::isnan(a.f) && std::isnan(b.f)));
      EXPECT_TRUE(n % 2 != 0 || std::fabs(a.f) < 1e7) << a.f << " " << body.ToString();
    } else {
      EXPECT_EQ(a.i, b.i);
      // Results stay sign- or zero-extended from their type.
      if (body.result_type() != DType::kI64 && body.result_type() != DType::kU64) {
        EXPECT_GE(a.i, MinInt(body.result_type()));
        EXPECT_LE(a.i, MaxInt(body.result_type()));
      }
    }
  }
}

TEST(BodyTest, ConstantsKeepAllTheirDigits) {
  for (double value : {0.1, 1e-300, 12345678.90123, -0.0, kInfinity, -kInfinity}) {
    BodyBuilder b;
    const Body body = b.Finish(b.Const(DType::kF64, value));
    EXPECT_EQ(Parsed(body.ToString()), body) << body.ToString();
    EXPECT_EQ(std::signbit(Parsed(body.ToString()).insts[0].imm), std::signbit(value));
  }
  EXPECT_TRUE(std::isnan(Parsed("() { return nan:f32 }").insts[0].imm));
  EXPECT_EQ(Parsed("() { return -9223372036854775808:i64 }").insts[0].imm_int, std::numeric_limits<int64_t>::min());
}

TEST(BodyTest, ParseErrorsSayWhatWasExpected) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "'('"},
      {"(a: f32", "','"},
      {"(b: f32) { return b }", "input 'a'"},
      {"(a f32) { return a }", "':'"},
      {"(a: f33) { return a }", "a type instead of 'f33'"},
      {"(a: f32) return a }", "'{'"},
      {"(a: f32) { return add(a, c) }", "a name defined above instead of 'c'"},
      {"(a: f32) { return plus(a, a) }", "a scalar operation instead of 'plus'"},
      {"(a: f32) { return add(a) }", "','"},
      {"(a: f32) { return tanh(a, a) }", "')'"},
      {"(a: f32) { return cast(a) }", "':' and a type after 'cast'"},
      {"(a: f32) { return 12 }", "':' and a type after the constant '12'"},
      {"(a: f32) { return 1.5:i32 }", "a number instead of '1.5'"},
      {"(a: f32) { return 99999999999999999999:i64 }", "a number"},
      {"(a: f32) { return index first }", "an axis instead of 'first'"},
      {"(a: f32) { t1 = neg(a) return t1 }", "';'"},
      {"(a: f32) { t1 = neg(a); }", "a word"},
      {"(a: f32) { return a", "'}'"},
      {"(a: f32) { return a } more", "the end"},
  };
  for (const auto& [text, expected] : cases) {
    const StatusOr<Body> body = ParseBody(text);
    ASSERT_FALSE(body.ok()) << text;
    EXPECT_EQ(body.status().code(), ErrorCode::kTextInvalid);
    EXPECT_NE(body.status().message().find(expected), std::string::npos) << text << ": " << body.status();
  }
}

// Damaged text gives an error or a body, never a fault; what parses and verifies evaluates.
TEST(BodyTest, DamagedTextIsHarmless) {
  std::mt19937_64 rng(2);
  const DType inputs[] = {DType::kF32, DType::kI32, DType::kBool};
  const std::string_view alphabet = "abct0123456789(){}:;,=.-+_ iufndexl";
  int parsed = 0;
  for (int n = 0; n < 20000; ++n) {
    std::string text = RandomBody(inputs, {.num_axes = 1}, rng).ToString();
    for (uint64_t k = 1 + rng() % 3; k > 0; --k) {
      const size_t at = rng() % text.size();
      switch (rng() % 3) {
        case 0: text[at] = alphabet[rng() % alphabet.size()]; break;
        case 1: text.erase(at, 1 + rng() % 4); break;
        default: text.insert(at, 1, alphabet[rng() % alphabet.size()]);
      }
    }
    const StatusOr<Body> body = ParseBody(text);
    if (!body.ok() || !body->Verify(1).ok()) continue;
    ++parsed;
    const std::vector<ScalarValue> values(body->num_inputs);
    const int64_t at[] = {0};
    body->Evaluate(values, at);
  }
  EXPECT_GT(parsed, 100);
}

TEST(BodyTest, VerifyCatchesEachFault) {
  const Body good = Parsed("(a: f32, b: i32, c: bool) { t3 = cast:f32(b); t4 = add(a, t3); return select(c, t4, a) }");
  ASSERT_TRUE(good.Verify(0).ok()) << good.Verify(0);
  const auto message = [&](auto damage) {
    Body body = good;
    damage(body);
    return body.Verify(0).message();
  };
  const auto expect = [&](auto damage, std::string_view part) {
    EXPECT_NE(message(damage).find(part), std::string::npos) << "found: '" << message(damage) << "'";
  };
  expect([](Body& b) { b.result = 6; }, "expected a result among");
  expect([](Body& b) { b.insts.clear(); }, "expected a result among");
  expect([](Body& b) { b.insts[0].type = DType::kF16; }, "not a compute type");
  expect([](Body& b) { b.insts[4].args[0] = 4; }, "argument out of order");
  expect([](Body& b) { b.insts[4].args[1] = -1; }, "argument out of order");
  expect([](Body& b) { b.insts[4].args[2] = 0; }, "too many arguments");
  expect([](Body& b) { b.insts[0].imm_int = 3; }, "no such input");
  expect([](Body& b) { b.insts[1].imm_int = 0; }, "one input read as two types");
  expect([](Body& b) { b.insts[4].args[1] = 1; }, "operands of two types");
  expect([](Body& b) { b.insts[5].args[0] = 0; }, "select needs a bool condition");
  expect([](Body& b) { b.insts[5].args[2] = 1; }, "operands of two types");
  expect([](Body& b) { b.insts[4].op = ScalarOp::kAnd; }, "operation not defined on this type");
  expect([](Body& b) { b.insts[4].type = DType::kF64; }, "type is not its operands'");
  expect([](Body& b) { b.insts[4].op = ScalarOp::kLt; }, "a comparison gives bool");
  expect([](Body& b) { b.insts[3] = {.op = ScalarOp::kIndex, .type = DType::kI64, .imm_int = 0}; }, "no such axis");
  expect(
      [](Body& b) { b.insts[3] = {.op = ScalarOp::kNarrow, .type = DType::kI32, .args = {1, -1, -1}, .imm_int = 2}; },
      "narrow to a storage type");
}

}  // namespace
}  // namespace tessera
