#include "propagate/algebra/partial_body.h"

#include <algorithm>
#include <cmath>

namespace tessera {
namespace {

// All values that `type` holds, except for u64, whose do not fit.
void SetRange(DType type, PartialValue& value) {
  value.ranged = !IsFloat(type) && type != DType::kU64;
  if (!value.ranged) return;
  value.low = IsBool(type) ? 0 : MinInt(type);
  value.high = IsBool(type) ? 1 : MaxInt(type);
}

PartialValue Known(ScalarValue value) {
  PartialValue result;
  result.known = value;
  return result;
}

// The range of a value that may be known. False if it has none.
bool RangeOf(const PartialValue& value, DType type, int64_t& low, int64_t& high) {
  if (IsFloat(type) || type == DType::kU64) return false;
  if (value.known) {
    low = high = value.known->i;
    return true;
  }
  low = value.low;
  high = value.high;
  return value.ranged;
}

bool IsZero(const PartialValue& value, DType type) {
  return value.known && (IsFloat(type) ? value.known->f == 0 : value.known->i == 0);
}

ScalarValue Number(DType type, int64_t value) {
  return IsFloat(type) ? ScalarValue{.f = static_cast<double>(value)} : ScalarValue{.i = value};
}

// The instruction on known operands.
ScalarValue Fold(const ScalarInst& inst, std::span<const DType> types, std::span<const PartialValue* const> args) {
  Body body;
  ScalarInst alone = inst;
  for (size_t k = 0; k < args.size(); ++k) {
    body.insts.push_back(
        {.op = ScalarOp::kConst, .type = types[k], .imm = args[k]->known->f, .imm_int = args[k]->known->i});
    alone.args[k] = static_cast<int>(k);
  }
  body.insts.push_back(alone);
  body.result = static_cast<int>(args.size());
  return body.Evaluate({}, {});
}

// What is known of a comparison or an extreme of two integers by their ranges.
std::optional<PartialValue> ByRange(const ScalarInst& inst, DType type, const PartialValue& a, const PartialValue& b) {
  int64_t a_low, a_high, b_low, b_high;
  if (type == DType::kU64) {
    // No range but the lowest value, 0.
    const bool a_zero = IsZero(a, type), b_zero = IsZero(b, type);
    if (inst.op == ScalarOp::kMin && (a_zero || b_zero)) return Known({.i = 0});
    if (inst.op == ScalarOp::kMax && a_zero) return b;
    if (inst.op == ScalarOp::kMax && b_zero) return a;
    if (inst.op == ScalarOp::kLt && b_zero) return Known({.i = 0});
    if (inst.op == ScalarOp::kLe && a_zero) return Known({.i = 1});
    return std::nullopt;
  }
  if (!RangeOf(a, type, a_low, a_high) || !RangeOf(b, type, b_low, b_high)) return std::nullopt;
  switch (inst.op) {
    case ScalarOp::kMin:
      if (a_high <= b_low) return a;
      if (b_high <= a_low) return b;
      return std::nullopt;
    case ScalarOp::kMax:
      if (a_low >= b_high) return a;
      if (b_low >= a_high) return b;
      return std::nullopt;
    case ScalarOp::kLt:
      if (a_high < b_low) return Known({.i = 1});
      if (a_low >= b_high) return Known({.i = 0});
      return std::nullopt;
    case ScalarOp::kLe:
      if (a_high <= b_low) return Known({.i = 1});
      if (a_low > b_high) return Known({.i = 0});
      return std::nullopt;
    case ScalarOp::kEq:
    case ScalarOp::kNe:
      if (a_high < b_low || b_high < a_low) return Known({.i = inst.op == ScalarOp::kNe});
      return std::nullopt;
    default: return std::nullopt;
  }
}

bool PassesNan(ScalarOp op) {
  switch (op) {
    case ScalarOp::kAdd:
    case ScalarOp::kSub:
    case ScalarOp::kMul:
    case ScalarOp::kDiv:
    case ScalarOp::kRem:
    case ScalarOp::kMin:
    case ScalarOp::kMax: return true;
    default: return false;
  }
}

// Two operands, at least one of them unknown; nullopt when the result may be anything.
std::optional<PartialValue> Absorbed(const ScalarInst& inst, DType type, const PartialValue& a, const PartialValue& b) {
  const bool a_zero = IsZero(a, type), b_zero = IsZero(b, type), is_float = IsFloat(type);
  const PartialValue zero = Known(Number(type, 0));
  if (is_float && PassesNan(inst.op)) {
    for (const PartialValue* operand : {&a, &b}) {
      if (operand->known && std::isnan(operand->known->f)) return *operand;
    }
  }
  switch (inst.op) {
    case ScalarOp::kMul:
    case ScalarOp::kAnd:
      if (a_zero || b_zero) return zero;
      return std::nullopt;
    case ScalarOp::kDiv:
    case ScalarOp::kRem:
      if (a_zero || (b_zero && !is_float)) return zero;
      return std::nullopt;
    case ScalarOp::kPow:
      if (b_zero) return Known(Number(type, 1));
      return std::nullopt;
    case ScalarOp::kShl:
    case ScalarOp::kShr:
      if (a_zero) return zero;
      return std::nullopt;
    case ScalarOp::kOr:
      if (IsBool(type) && ((a.known && a.known->i != 0) || (b.known && b.known->i != 0))) return Known({.i = 1});
      return std::nullopt;
    default: return is_float ? std::nullopt : ByRange(inst, type, a, b);
  }
}

// The range of what an unknown result may be; the type's own where nothing better is known.
void SetResultRange(const ScalarInst& inst, DType type, std::span<const PartialValue* const> args,
                    PartialValue& value) {
  SetRange(inst.type, value);
  if (!value.ranged || args.empty()) return;
  int64_t a_low = 0, a_high = 0, b_low = 0, b_high = 0, low = 0, high = 0;
  const DType first = inst.op == ScalarOp::kSelect ? inst.type : type;
  const PartialValue& a = *args[inst.op == ScalarOp::kSelect ? 1 : 0];
  if (!RangeOf(a, first, a_low, a_high)) return;
  if (args.size() > 1 && !RangeOf(*args[inst.op == ScalarOp::kSelect ? 2 : 1], first, b_low, b_high)) return;
  switch (inst.op) {
    case ScalarOp::kCast:
    case ScalarOp::kNarrow: {
      PartialValue target;
      SetRange(inst.op == ScalarOp::kNarrow ? static_cast<DType>(inst.imm_int) : inst.type, target);
      if (!target.ranged) return;
      // Wraps otherwise.
      const bool fits = a_low >= target.low && a_high <= target.high;
      low = fits ? a_low : target.low;
      high = fits ? a_high : target.high;
      break;
    }
    case ScalarOp::kMin: low = std::min(a_low, b_low), high = std::min(a_high, b_high); break;
    case ScalarOp::kMax: low = std::max(a_low, b_low), high = std::max(a_high, b_high); break;
    case ScalarOp::kSelect: low = std::min(a_low, b_low), high = std::max(a_high, b_high); break;
    case ScalarOp::kAdd:
      if (__builtin_add_overflow(a_low, b_low, &low) || __builtin_add_overflow(a_high, b_high, &high)) return;
      break;
    case ScalarOp::kSub:
      if (__builtin_sub_overflow(a_low, b_high, &low) || __builtin_sub_overflow(a_high, b_low, &high)) return;
      break;
    default: return;
  }
  if (low < value.low || high > value.high) return;  // wraps
  value.low = low;
  value.high = high;
}

}  // namespace

PartialValue EvaluatePartially(const Body& body, std::span<const std::optional<ScalarValue>> inputs,
                               std::span<const DType> stored) {
  std::vector<PartialValue> values(body.insts.size());
  for (size_t n = 0; n < body.insts.size(); ++n) {
    const ScalarInst& inst = body.insts[n];
    PartialValue& value = values[n];
    const size_t k = static_cast<size_t>(inst.imm_int);
    if (inst.op == ScalarOp::kInput) {
      if (inputs[k]) {
        value.known = inputs[k];
        continue;
      }
      value.inputs.set(k < kMaxPartialInputs ? k : 0);
      SetRange(k < stored.size() ? stored[k] : inst.type, value);
      continue;
    }
    if (inst.op == ScalarOp::kConst) {
      value.known = ScalarValue{.f = inst.imm, .i = inst.imm_int};
      continue;
    }
    if (inst.op == ScalarOp::kIndex) {
      SetRange(inst.type, value);
      value.low = 0;
      continue;
    }
    const int arity = ScalarInfo(inst.op).arity;
    std::vector<const PartialValue*> args;
    std::vector<DType> types;
    bool all_known = true;
    for (int a = 0; a < arity; ++a) {
      args.push_back(&values[inst.args[a]]);
      types.push_back(body.insts[inst.args[a]].type);
      all_known &= args.back()->known.has_value();
    }
    if (all_known) {
      value.known = Fold(inst, types, args);
      continue;
    }
    if (inst.op == ScalarOp::kSelect && args[0]->known) {
      value = *args[args[0]->known->i != 0 ? 1 : 2];
      continue;
    }
    if (arity == 2) {
      if (const std::optional<PartialValue> absorbed = Absorbed(inst, types[0], *args[0], *args[1])) {
        value = *absorbed;
        continue;
      }
    }
    for (const PartialValue* arg : args) value.inputs |= arg->inputs;
    SetResultRange(inst, types[0], args, value);
  }
  PartialValue result = values[body.result];
  if (body.num_inputs > kMaxPartialInputs && !result.known) result.inputs.set();
  return result;
}

}  // namespace tessera
