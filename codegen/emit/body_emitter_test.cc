// Every scalar operation, compiled for several processor levels, against Body::Evaluate; and the stated error of each
// transcendental function over its whole range.
#include "codegen/emit/body_emitter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "codegen/llvm_module.h"
#include "codegen/target.h"
#include "runtime/library.h"
#include "tesa/tensor.h"

namespace tessera {
namespace {

constexpr const char* kTargets[] = {"host", "host:x86-64-v3", "host:x86-64"};
using Kernel = void (*)(void* const* args, int64_t begin, int64_t end, void* scratch);

bool Runs(const Target& target) {
  StatusOr<Target> host = MakeTarget("host");
  return host.ok() && target.vector_bits <= host->vector_bits;
}

// result[i] = body(inputs[0][i], …) over `lanes` at a time, tail masked; inputs in storage types.
std::vector<ScalarValue> RunBody(const Target& target, const Body& body, const std::vector<Tensor>& inputs, DType out,
                                 int lanes) {
  KernelSpec spec;
  spec.family = "body";
  spec.num_args = static_cast<int>(inputs.size()) + 1;
  const int64_t count = inputs[0].num_elements();
  spec.emit = [&](KernelBuilder& b) {
    b.For("i", b.begin(), b.end(), lanes, [&](IrValue i) {
      IrValue mask = b.MaskBelow(b.ir().CreateSub(b.end(), i), lanes);
      IrValues values;
      for (size_t k = 0; k < inputs.size(); ++k) {
        values.push_back(b.Load(b.arg(static_cast<int>(k)), i, inputs[k].dtype(), lanes, mask,
                                b.ConstantInt(ComputeType(inputs[k].dtype()), 1)));
      }
      b.Store(b.arg(static_cast<int>(inputs.size())), i, out, b.Splat(EmitBody(b, body, values), lanes), mask);
    });
  };
  const KernelSpec* specs[] = {&spec};
  const std::string symbols[] = {"body"};
  StatusOr<std::vector<std::byte>> object = CompileKernels(specs, symbols, target);
  EXPECT_TRUE(object.ok()) << object.status();
  if (!object.ok()) return {};
  StatusOr<KernelLibrary> library = KernelLibrary::Load(*object, "body");
  EXPECT_TRUE(library.ok()) << library.status();
  if (!library.ok()) return {};
  Tensor result(out, Shape({count}));
  std::vector<void*> args;
  for (const Tensor& input : inputs) args.push_back(const_cast<std::byte*>(input.bytes().data()));
  args.push_back(result.mutable_bytes().data());
  reinterpret_cast<Kernel>(library->Lookup("body"))(args.data(), 0, count, nullptr);
  std::vector<ScalarValue> values;
  for (int64_t i = 0; i < count; ++i) values.push_back({.f = result.Get(i), .i = result.GetInt(i)});
  return values;
}

Tensor RandomValues(DType type, int64_t count, std::mt19937_64& random) {
  Tensor tensor(type, Shape({count}));
  for (int64_t i = 0; i < count; ++i) {
    if (IsFloat(type)) {
      const double specials[] = {0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, INFINITY, -INFINITY, NAN, 1e-3, 100.25};
      std::normal_distribution<double> normal(0, 3);
      tensor.Set(i, i < 12 ? specials[i] : normal(random));
    } else if (IsBool(type)) {
      tensor.SetInt(i, static_cast<int64_t>(random() % 2));
    } else {
      const int64_t specials[] = {0, 1, -1, MinInt(type), MaxInt(type), 2, 31, 32, 63};
      tensor.SetInt(
          i, i < 9 ? specials[i]
                   : (random() % 3 == 0 ? static_cast<int64_t>(random()) : static_cast<int64_t>(random() % 41) - 20));
    }
  }
  return tensor;
}

// Pairs each operand's values with a shifted copy, so that specials meet each other.
Tensor Rotated(const Tensor& tensor, int64_t by) {
  Tensor out(tensor.dtype(), tensor.shape());
  const int64_t n = tensor.num_elements();
  for (int64_t i = 0; i < n; ++i) {
    if (IsFloat(tensor.dtype())) {
      out.Set(i, tensor.Get((i + by) % n));
    } else {
      out.SetInt(i, tensor.GetInt((i + by) % n));
    }
  }
  return out;
}

void ExpectSame(const ScalarValue& found, const ScalarValue& expected, DType type, double tolerance,
                const std::string& what) {
  if (!IsFloat(type)) {
    EXPECT_EQ(found.i, expected.i) << what;
    return;
  }
  const double want = type == DType::kF32 ? static_cast<float>(expected.f) : expected.f;
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(found.f)) << what << " found " << found.f;
  } else if (std::isinf(want) || want == 0) {
    if (want == 0 && std::fabs(found.f) < 1e-12) return;
    EXPECT_EQ(found.f, want) << what;
  } else {
    EXPECT_NEAR(found.f / want, 1.0, tolerance) << what << " found " << found.f << " expected " << want;
  }
}

class BodyEmitterTest : public testing::TestWithParam<const char*> {};

TEST_P(BodyEmitterTest, EveryScalarOpOnEveryType) {
  StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  if (!Runs(*target)) GTEST_SKIP() << "this processor cannot run " << GetParam();
  std::mt19937_64 random(7);
  const DType types[] = {DType::kF32, DType::kF64, DType::kI32, DType::kU32, DType::kI64, DType::kU64, DType::kBool};
  const int64_t count = 53;
  for (DType type : types) {
    for (int op_number = 0; op_number <= static_cast<int>(ScalarOp::kSelect); ++op_number) {
      const ScalarOp op = static_cast<ScalarOp>(op_number);
      const ScalarOpInfo& info = ScalarInfo(op);
      if (info.arity == 0 || op == ScalarOp::kCast || op == ScalarOp::kNarrow) continue;
      if (!(IsFloat(type) ? info.on_float : info.on_int)) continue;
      const Tensor a = RandomValues(type, count, random);
      const Tensor c = Rotated(a, 5);
      BodyBuilder builder;
      Scalar x = builder.Input(type), y = builder.Input(type);
      Scalar result = op == ScalarOp::kSelect ? Select(Less(x, y), x, y)
                      : info.arity == 1       ? builder.Op(op, {x})
                                              : builder.Op(op, {x, y});
      const Body body = builder.Finish(result);
      const DType out = body.result_type();
      const std::vector<ScalarValue> found = RunBody(*target, body, {a, c}, out, 16);
      ASSERT_EQ(found.size(), static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i) {
        const ScalarValue inputs[] = {{.f = a.Get(i), .i = a.GetInt(i)}, {.f = c.Get(i), .i = c.GetInt(i)}};
        // Stated in vector_math.h: without a fused multiply-add, 0 may stand for a remainder of almost |y|.
        if (op == ScalarOp::kRem && type == DType::kF64 && !target->has_fma && found[i].f == 0) continue;
        ExpectSame(found[i], body.Evaluate(inputs, {}), out, type == DType::kF64 ? 1e-12 : 2e-6,
                   internal::Join(GetParam(), " ", info.name, " ", type, "(", inputs[0].f, "|", inputs[0].i, ", ",
                                  inputs[1].f, "|", inputs[1].i, ")"));
      }
    }
  }
}

TEST_P(BodyEmitterTest, CastsBetweenAllTypes) {
  StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok());
  if (!Runs(*target)) GTEST_SKIP() << "this processor cannot run " << GetParam();
  std::mt19937_64 random(11);
  for (int from = 0; from <= static_cast<int>(DType::kBool); ++from) {
    for (int to = 0; to <= static_cast<int>(DType::kBool); ++to) {
      const DType source = static_cast<DType>(from), goal = static_cast<DType>(to);
      const Tensor a = RandomValues(source, 37, random);
      BodyBuilder builder;
      const Body body = builder.Finish(builder.Cast(builder.Input(source), goal));
      const std::vector<ScalarValue> found = RunBody(*target, body, {a}, goal, 8);
      ASSERT_EQ(found.size(), 37u);
      for (int64_t i = 0; i < 37; ++i) {
        const ScalarValue inputs[] = {{.f = a.Get(i), .i = a.GetInt(i)}};
        ScalarValue expected = body.Evaluate(inputs, {});
        Tensor cell(goal, Shape());
        if (IsFloat(goal)) {
          cell.Set(0, expected.f);
          expected.f = cell.Get(0);
          if (std::isnan(expected.f)) {
            EXPECT_TRUE(std::isnan(found[i].f)) << source << " to " << goal << " of " << a.Get(i);
          } else {
            EXPECT_EQ(found[i].f, expected.f) << GetParam() << ": " << source << " to " << goal << " of " << a.Get(i);
          }
        } else {
          cell.SetInt(0, expected.i);
          EXPECT_EQ(found[i].i, cell.GetInt(0)) << GetParam() << ": " << source << " to " << goal << " of " << a.Get(i);
        }
      }
    }
  }
}

// round(x * y) + z is no multiply-add where the body rounds the product to f32, whatever stands between them; code and
// body agree to the bit.
TEST_P(BodyEmitterTest, NarrowToF32IsNeverContracted) {
  StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok());
  if (!Runs(*target)) GTEST_SKIP() << "this processor cannot run " << GetParam();
  std::mt19937_64 random(23);
  constexpr int64_t kCount = 1000;
  std::vector<Tensor> inputs(3, Tensor(DType::kF32, Shape({kCount})));
  for (int64_t i = 0; i < kCount; ++i) {
    std::uniform_real_distribution<double> uniform(1, 2);
    inputs[0].Set(i, uniform(random));
    inputs[1].Set(i, uniform(random));
    // Cancels most of the product: what the rounding took off shows.
    inputs[2].Set(i, -static_cast<float>(inputs[0].Get(i) * inputs[1].Get(i)) * (1 + 1e-6));
  }
  const char* bodies[] = {
      "(a: f32, b: f32, c: f32) { t3 = mul(a, b); t4 = narrow:f32(t3); t5 = add(t4, c); return narrow:f32(t5) }",
      "(a: f32, b: f32, c: f32) { t3 = mul(a, b); t4 = neg(t3); t5 = narrow:f32(t4); t6 = sub(c, t5); return "
      "narrow:f32(t6) }",
      "(a: f32, b: f32, c: f32) { t3 = mul(a, b); t4 = narrow:f32(t3); t5 = neg(t4); t6 = sub(c, t5); return "
      "narrow:f32(t6) }",
  };
  for (const char* text : bodies) {
    const StatusOr<Body> body = ParseBody(text);
    ASSERT_TRUE(body.ok()) << body.status();
    int differ_from_fused = 0;
    const std::vector<ScalarValue> found = RunBody(*target, *body, inputs, DType::kF32, 16);
    ASSERT_EQ(found.size(), static_cast<size_t>(kCount));
    for (int64_t i = 0; i < kCount; ++i) {
      const ScalarValue values[] = {{.f = inputs[0].Get(i)}, {.f = inputs[1].Get(i)}, {.f = inputs[2].Get(i)}};
      ASSERT_EQ(found[i].f, body->Evaluate(values, {}).f) << GetParam() << " " << text << " element " << i;
      differ_from_fused += found[i].f != static_cast<float>(values[0].f * values[1].f + values[2].f);
    }
    EXPECT_GT(differ_from_fused, 0) << "the inputs do not tell the two apart";
  }
}

// Clamped numbers become integers by fewer instructions than others: NaN, infinities and numbers beyond i32 among them.
TEST_P(BodyEmitterTest, CastsOfClampedNumbers) {
  StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok());
  if (!Runs(*target)) GTEST_SKIP() << "this processor cannot run " << GetParam();
  std::mt19937_64 random(29);
  constexpr int64_t kCount = 300;
  Tensor input(DType::kF32, Shape({kCount}));
  const double specials[] = {0.0,  -0.0,  0.5, 1.5,  -0.5,  2.5,  254.5,    255.0,     255.5, 256.5, -128.5,
                             1e10, -1e10, 3e9, -3e9, 2.2e9, 1e38, INFINITY, -INFINITY, NAN,   127.5, -127.5};
  for (int64_t i = 0; i < kCount; ++i) {
    input.Set(i, i < 22 ? specials[i] : std::uniform_real_distribution<double>(-300, 300)(random));
  }
  struct Bounds {
    double low, high;
  };
  for (const DType to : {DType::kU8, DType::kI8, DType::kI32, DType::kI16}) {
    for (const Bounds& bounds : {Bounds{0, 255}, {-128, 127}, {0, 6}, {3, 250}, {-1e9, 1e9}}) {
      for (const bool rounds : {false, true}) {
        for (const bool max_first : {false, true}) {
          BodyBuilder b;
          Scalar x = b.Input(DType::kF32);
          x = max_first ? Min(Max(x, bounds.low), bounds.high) : Max(Min(x, bounds.high), bounds.low);
          const Body body = b.Finish(b.Cast(rounds ? RoundEven(x) : x, to));
          for (const int lanes : {1, 4, 8, 16}) {
            const std::vector<ScalarValue> found = RunBody(*target, body, {input}, to, lanes);
            ASSERT_EQ(found.size(), static_cast<size_t>(kCount));
            for (int64_t i = 0; i < kCount; ++i) {
              const ScalarValue value[] = {{.f = input.Get(i)}};
              ASSERT_EQ(found[i].i, body.Evaluate(value, {}).i)
                  << GetParam() << " lanes " << lanes << " " << body.ToString() << " of " << input.Get(i);
            }
          }
        }
      }
    }
  }
}

struct Function {
  ScalarOp op;
  double low, high;
  double error_f32, error_f64;  // as stated in vector_math.h
  double (*exact)(double);
};

TEST_P(BodyEmitterTest, TranscendentalsKeepTheirStatedError) {
  StatusOr<Target> target = MakeTarget(GetParam());
  ASSERT_TRUE(target.ok());
  if (!Runs(*target)) GTEST_SKIP() << "this processor cannot run " << GetParam();
  const Function functions[] = {
      {ScalarOp::kExp, -87, 88, 3e-7, 2e-15, std::exp},     {ScalarOp::kExpm1, -30, 80, 5e-7, 3e-15, std::expm1},
      {ScalarOp::kLog, 1e-30, 1e30, 3e-7, 2e-15, std::log}, {ScalarOp::kLog1p, -0.99, 1e6, 5e-7, 3e-15, std::log1p},
      {ScalarOp::kTanh, -12, 12, 6e-7, 3e-15, std::tanh},   {ScalarOp::kErf, -5, 5, 1e-6, 1e-14, std::erf},
      {ScalarOp::kSin, -1e3, 1e3, 3e-7, 1e-10, std::sin},   {ScalarOp::kCos, -1e3, 1e3, 3e-7, 1e-10, std::cos}};
  std::mt19937_64 random(3);
  for (const Function& function : functions) {
    for (DType type : {DType::kF32, DType::kF64}) {
      Tensor x(type, Shape({20000}));
      for (int64_t i = 0; i < x.num_elements(); ++i) {
        std::uniform_real_distribution<double> uniform(function.low, function.high);
        double value = uniform(random);
        if (i % 3 == 0) value = std::ldexp(value, -static_cast<int>(random() % 40));  // small ones, where digits cancel
        if (function.low > 0) value = std::max(value, function.low);
        if (function.op == ScalarOp::kLog1p) value = std::max(value, -0.99);
        x.Set(i, value);
      }
      BodyBuilder builder;
      const Body body = builder.Finish(Unary(function.op, builder.Input(type)));
      const std::vector<ScalarValue> found = RunBody(*target, body, {x}, type, 16);
      ASSERT_EQ(found.size(), 20000u);
      double worst = 0, worst_at = 0;
      for (int64_t i = 0; i < x.num_elements(); ++i) {
        const double exact = function.exact(x.Get(i));
        if (exact == 0) continue;
        const double error = std::fabs(found[i].f - exact) / std::fabs(exact);
        if (error > worst) worst = error, worst_at = x.Get(i);
      }
      EXPECT_LE(worst, type == DType::kF32 ? function.error_f32 : function.error_f64)
          << GetParam() << " " << ScalarInfo(function.op).name << " " << type << " at " << worst_at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, BodyEmitterTest, testing::ValuesIn(kTargets));

}  // namespace
}  // namespace tessera
