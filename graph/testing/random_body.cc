#include "graph/testing/random_body.h"

#include <vector>

namespace tessera {
namespace {

constexpr DType kComputeTypes[] = {DType::kF32, DType::kF64, DType::kI32, DType::kU32,
                                   DType::kI64, DType::kU64, DType::kBool};

// The operations that make sense of a truth value; arithmetic on bool is allowed and nobody writes it.
bool IsLogical(ScalarOp op) {
  switch (op) {
    case ScalarOp::kCast:
    case ScalarOp::kAnd:
    case ScalarOp::kOr:
    case ScalarOp::kXor:
    case ScalarOp::kNot:
    case ScalarOp::kEq:
    case ScalarOp::kNe:
    case ScalarOp::kSelect: return true;
    default: return false;
  }
}

// Grows a chain: each step applies one operation to the latest value, the chain's end is the result. The first value is
// input 0; other operands are any earlier values of the right type, or constants.
class BodyDrawer {
 public:
  BodyDrawer(std::span<const DType> inputs, const RandomBodyOptions& options, std::mt19937_64& rng)
      : options_(options), rng_(rng) {
    for (DType dtype : inputs) pool_.push_back(b_.Input(dtype));
  }

  Body Draw() {
    Scalar latest = pool_[0];
    const int64_t steps = Int(1, options_.max_ops);
    for (int64_t n = 0; n < steps; ++n) {
      latest = options_.continuous ? ContinuousStep(latest) : AnyStep(latest);
      pool_.push_back(latest);
    }
    return b_.Finish(latest);
  }

 private:
  int64_t Int(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng_); }
  double Real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(rng_); }
  bool Chance(double probability) { return Real(0, 1) < probability; }
  Scalar Operation(ScalarOp op, std::initializer_list<Scalar> args) { return b_.Op(op, args); }

  Scalar Constant(DType type) {
    if (IsFloat(type)) return b_.Const(type, Chance(0.5) ? static_cast<double>(Int(-6, 6)) / 2 : Real(-2, 2));
    return b_.ConstInt(type, IsBool(type) || IsUnsigned(type) ? Int(0, 7) : Int(-7, 7));
  }

  // An earlier value of this type, or a constant.
  Scalar Other(DType type) {
    std::vector<Scalar> candidates;
    for (Scalar x : pool_) {
      if (x.type() == type) candidates.push_back(x);
    }
    if (candidates.empty() || Chance(0.25)) return Constant(type);
    return candidates[Int(0, static_cast<int64_t>(candidates.size()) - 1)];
  }

  DType AnyComputeType() { return kComputeTypes[Int(0, std::size(kComputeTypes) - 1)]; }

  // Any operation that x's type has.
  Scalar AnyStep(Scalar x) {
    if (options_.num_axes > 0 && Chance(0.15)) {
      const Scalar index = b_.Index(static_cast<int>(Int(0, options_.num_axes - 1)));
      return b_.Op(ScalarOp::kAdd, {b_.Cast(x, DType::kI64), index});
    }
    while (true) {
      const ScalarOp op = static_cast<ScalarOp>(Int(0, static_cast<int64_t>(ScalarOp::kSelect)));
      const ScalarOpInfo& info = ScalarInfo(op);
      if (info.arity == 0 || !(IsFloat(x.type()) ? info.on_float : info.on_int)) continue;
      if (IsBool(x.type()) && !IsLogical(op)) continue;
      switch (op) {
        case ScalarOp::kCast: {
          const DType to = AnyComputeType();
          if (to == x.type()) continue;
          return b_.Cast(x, to);
        }
        case ScalarOp::kNarrow: return b_.Narrow(x, RandomStorage(x.type(), rng_));
        case ScalarOp::kSelect: return Select(Other(DType::kBool), x, Other(x.type()));
        default: return info.arity == 1 ? Unary(op, x) : b_.Op(op, {x, Other(x.type())});
      }
    }
  }

  Scalar ContinuousStep(Scalar x) {
    if (IsFloat(x.type())) return ContinuousFloatStep(x);
    if (IsBool(x.type())) return BoolStep(x);
    return IntegerStep(x);
  }

  // Slopes stay near 1 and values moderate, so that an error of the operand is an error of its size in the result.
  Scalar ContinuousFloatStep(Scalar x) {
    const auto other = [&] { return Other(x.type()); };
    switch (Int(0, 15)) {
      case 0: return x + other();
      case 1: return x - other();
      case 2: return x * Real(-1.5, 1.5);
      case 3: return x * Tanh(other());
      case 4: return Min(x, other());
      case 5: return Max(x, other());
      case 6: return -x;
      case 7: return Abs(x);
      case 8: return Tanh(x);
      case 9: return Erf(x);
      case 10: return 1.0 / (1.0 + Exp(-x));
      case 11: return Exp(Min(x, 2));
      case 12: return Unary(ScalarOp::kLog1p, Abs(x));
      case 13: return x / (1.0 + Abs(other()));
      case 14: return Select(Other(DType::kBool), x, other());
      default: {
        const Scalar y = other();
        return Select(Less(x, y), y, x);
      }
    }
  }

  Scalar IntegerStep(Scalar x) {
    const auto other = [&] { return Other(x.type()); };
    switch (Int(0, 15)) {
      case 0: return x + other();
      case 1: return x - other();
      case 2: return x * other();
      case 3: return x / other();
      case 4: return Operation(ScalarOp::kRem, {x, other()});
      case 5: return Min(x, other());
      case 6: return Max(x, other());
      case 7: return Operation(ScalarOp::kAnd, {x, other()});
      case 8: return Operation(ScalarOp::kXor, {x, other()});
      case 9: return Operation(ScalarOp::kShr, {x, b_.ConstInt(x.type(), Int(0, 7))});
      case 10: return -x;
      case 11: return Less(x, other());
      case 12: return Select(Equal(x, other()), other(), x);
      case 13: return b_.Narrow(x, RandomStorage(x.type(), rng_));
      default:
        // Few enough values that f32 holds them exactly.
        return b_.Cast(Operation(ScalarOp::kRem, {x, b_.ConstInt(x.type(), 13)}), DType::kF32);
    }
  }

  Scalar BoolStep(Scalar x) {
    switch (Int(0, 5)) {
      case 0: return Unary(ScalarOp::kNot, x);
      case 1: return Operation(ScalarOp::kOr, {x, Other(DType::kBool)});
      case 2: return b_.Cast(x, DType::kI32);
      case 3: return b_.Cast(x, DType::kF32);
      default: return Select(x, Other(DType::kF32), Other(DType::kF32));
    }
  }

  const RandomBodyOptions& options_;
  std::mt19937_64& rng_;
  BodyBuilder b_;
  std::vector<Scalar> pool_;
};

}  // namespace

Body RandomBody(std::span<const DType> inputs, const RandomBodyOptions& options, std::mt19937_64& rng) {
  return BodyDrawer(inputs, options, rng).Draw();
}

DType RandomStorage(DType compute, std::mt19937_64& rng) {
  std::vector<DType> choices;
  for (int k = 0; k <= static_cast<int>(DType::kBool); ++k) {
    if (ComputeType(static_cast<DType>(k)) == compute) choices.push_back(static_cast<DType>(k));
  }
  return choices[std::uniform_int_distribution<size_t>(0, choices.size() - 1)(rng)];
}

}  // namespace tessera
