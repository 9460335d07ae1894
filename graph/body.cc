#include "graph/body.h"

#include <cmath>

#include "tesa/tensor.h"

namespace tessera {
namespace {

// The marker of scalar_ops.def for "not allowed on this class".
struct NotAllowed {};
constexpr NotAllowed NA{};
constexpr bool IsAllowed(NotAllowed) { return false; }
template <typename T>
constexpr bool IsAllowed(T) {
  return true;
}
template <typename T>
double AsDouble(T value) {
  return static_cast<double>(value);
}
double AsDouble(NotAllowed) { return 0; }
template <typename T>
int64_t AsInt(T value) {
  return static_cast<int64_t>(value);
}
int64_t AsInt(NotAllowed) { return 0; }

uint64_t UInt(int64_t a) { return static_cast<uint64_t>(a); }
int64_t Wrap(uint64_t a) { return static_cast<int64_t>(a); }
bool IntLess(int64_t a, int64_t b, bool is_unsigned) { return is_unsigned ? UInt(a) < UInt(b) : a < b; }
int64_t IntDiv(int64_t a, int64_t b, bool is_unsigned) {
  if (b == 0) return 0;
  if (is_unsigned) return Wrap(UInt(a) / UInt(b));
  return b == -1 ? Wrap(0 - UInt(a)) : a / b;
}
int64_t IntRem(int64_t a, int64_t b, bool is_unsigned) {
  if (b == 0) return 0;
  if (is_unsigned) return Wrap(UInt(a) % UInt(b));
  return b == -1 ? 0 : a % b;
}
int64_t IntPow(int64_t a, int64_t b, bool is_unsigned) {
  if (b < 0 && !is_unsigned) return a == 1 ? 1 : (a == -1 ? (b % 2 == 0 ? 1 : -1) : 0);
  uint64_t result = 1;
  for (uint64_t base = UInt(a), rest = UInt(b); rest > 0; rest >>= 1, base *= base) {
    if (rest & 1) result *= base;
  }
  return Wrap(result);
}
int64_t IntShl(int64_t a, int64_t b, int bits) { return UInt(b) >= UInt(bits) ? 0 : Wrap(UInt(a) << b); }
int64_t IntShr(int64_t a, int64_t b, int bits, bool is_unsigned) {
  if (UInt(b) >= UInt(bits)) return 0;
  return is_unsigned ? Wrap(UInt(a) >> b) : a >> b;
}
double NanMin(double a, double b) { return std::isnan(a) ? a : (std::isnan(b) ? b : (b < a ? b : a)); }
double NanMax(double a, double b) { return std::isnan(a) ? a : (std::isnan(b) ? b : (a < b ? b : a)); }

ScalarOpInfo MakeInfo(std::string_view name, int arity, ScalarOpInfo::Result result, bool on_float, bool on_int) {
  return {name, arity, result, on_float, on_int};
}

const std::vector<ScalarOpInfo>& Infos() {
  // The expressions of the table need names in scope only to be asked whether they are allowed.
  static const std::vector<ScalarOpInfo> infos = [] {
    [[maybe_unused]] const double fa = 0, fb = 0;
    std::vector<ScalarOpInfo> rows;
#define TES_SCALAR_OP(name, text, arity, result, on_double, on_int)        \
  rows.push_back(MakeInfo(                                                 \
      text, arity, ScalarOpInfo::Result::k##result,                        \
      [](double a, double b) {                                             \
        (void)a, (void)b;                                                  \
        return IsAllowed(on_double);                                       \
      }(0, 0),                                                             \
      [](int64_t a, int64_t b, bool is_unsigned, bool is_bool, int bits) { \
        (void)a, (void)b, (void)is_unsigned, (void)is_bool, (void)bits;    \
        return IsAllowed(on_int);                                          \
      }(0, 1, false, false, 32)));
#include "graph/scalar_ops.def"
#undef TES_SCALAR_OP
    for (ScalarOp op : {ScalarOp::kInput, ScalarOp::kConst, ScalarOp::kCast, ScalarOp::kNarrow, ScalarOp::kSelect}) {
      rows[static_cast<int>(op)].on_float = rows[static_cast<int>(op)].on_int = true;
    }
    rows[static_cast<int>(ScalarOp::kIndex)].on_int = true;
    return rows;
  }();
  return infos;
}

// Wraps a 64-bit result to `type`, keeping it sign- or zero-extended.
int64_t WrapTo(DType type, int64_t value) {
  const DTypeInfo& info = TypeInfo(type);
  if (info.kind == DTypeKind::kBool) return value != 0;
  if (info.bits == 64) return value;
  const uint64_t mask = (uint64_t{1} << info.bits) - 1;
  const uint64_t low = UInt(value) & mask;
  if (info.kind == DTypeKind::kUnsigned) return Wrap(low);
  const uint64_t sign = uint64_t{1} << (info.bits - 1);
  return Wrap((low ^ sign) - sign);
}

double IntToDouble(DType type, int64_t value) {
  return type == DType::kU64 ? static_cast<double>(UInt(value)) : static_cast<double>(value);
}

int64_t DoubleToInt(DType type, double value) {
  Tensor cell(type, Shape());
  cell.Set(0, value);
  return cell.GetInt(0);
}

ScalarValue EvaluateCast(const ScalarInst& inst, DType from, ScalarValue a) {
  ScalarValue out;
  if (IsFloat(inst.type)) {
    out.f = IsFloat(from) ? a.f : IntToDouble(from, a.i);
  } else if (IsBool(inst.type)) {
    out.i = IsFloat(from) ? a.f != 0 : a.i != 0;
  } else {
    out.i = IsFloat(from) ? DoubleToInt(inst.type, a.f) : WrapTo(inst.type, a.i);
  }
  return out;
}

ScalarValue EvaluateNarrow(const ScalarInst& inst, ScalarValue a) {
  const DType storage = static_cast<DType>(inst.imm_int);
  if (IsFloat(inst.type)) return {.f = RoundToFloat(storage, a.f)};
  return {.i = WrapTo(storage, a.i)};
}

}  // namespace

const ScalarOpInfo& ScalarInfo(ScalarOp op) { return Infos()[static_cast<int>(op)]; }

DType ComputeType(DType storage) {
  const DTypeInfo& info = TypeInfo(storage);
  switch (info.kind) {
    case DTypeKind::kFloat: return info.bits == 64 ? DType::kF64 : DType::kF32;
    case DTypeKind::kSigned: return info.bits == 64 ? DType::kI64 : DType::kI32;
    case DTypeKind::kUnsigned: return info.bits >= 32 ? storage : DType::kI32;
    case DTypeKind::kBool: return DType::kBool;
  }
  return storage;
}

DType Body::input_type(int k) const {
  for (const ScalarInst& inst : insts) {
    if (inst.op == ScalarOp::kInput && inst.imm_int == k) return inst.type;
  }
  return DType::kF32;
}

bool Body::uses_index() const {
  for (const ScalarInst& inst : insts) {
    if (inst.op == ScalarOp::kIndex) return true;
  }
  return false;
}

ScalarValue Body::Evaluate(std::span<const ScalarValue> inputs, std::span<const int64_t> index) const {
  constexpr int kInline = 32;
  ScalarValue inline_values[kInline];
  std::vector<ScalarValue> heap_values;
  ScalarValue* values = inline_values;
  if (insts.size() > kInline) {
    heap_values.resize(insts.size());
    values = heap_values.data();
  }
  for (size_t n = 0; n < insts.size(); ++n) {
    const ScalarInst& inst = insts[n];
    const auto arg = [&](int k) -> const ScalarValue& { return values[inst.args[k]]; };
    switch (inst.op) {
      case ScalarOp::kInput: values[n] = inputs[inst.imm_int]; continue;
      case ScalarOp::kIndex: values[n] = {.i = index[inst.imm_int]}; continue;
      case ScalarOp::kConst: values[n] = {.f = inst.imm, .i = inst.imm_int}; continue;
      case ScalarOp::kCast: values[n] = EvaluateCast(inst, insts[inst.args[0]].type, arg(0)); continue;
      case ScalarOp::kNarrow: values[n] = EvaluateNarrow(inst, arg(0)); continue;
      case ScalarOp::kSelect: values[n] = arg(0).i != 0 ? arg(1) : arg(2); continue;
      default: break;
    }
    const int arity = ScalarInfo(inst.op).arity;
    const DType operand = insts[inst.args[0]].type;
    ScalarValue out;
    if (IsFloat(operand)) {
      [[maybe_unused]] const double a = arg(0).f, b = arity > 1 ? arg(1).f : 0;
      double result = 0;
      switch (inst.op) {
#define TES_SCALAR_OP(name, text, arity, result_kind, on_double, on_int) \
  case ScalarOp::k##name: result = AsDouble(on_double); break;
#include "graph/scalar_ops.def"
#undef TES_SCALAR_OP
      }
      if (IsBool(inst.type)) {
        out.i = result != 0;
      } else {
        out.f = result;
      }
    } else {
      [[maybe_unused]] const int64_t a = arg(0).i, b = arity > 1 ? arg(1).i : 0;
      [[maybe_unused]] const bool is_unsigned = IsUnsigned(operand), is_bool = IsBool(operand);
      [[maybe_unused]] const int bits = is_bool ? 1 : TypeInfo(operand).bits;
      int64_t result = 0;
      switch (inst.op) {
#define TES_SCALAR_OP(name, text, arity, result_kind, on_double, on_int) \
  case ScalarOp::k##name: result = AsInt(on_int); break;
#include "graph/scalar_ops.def"
#undef TES_SCALAR_OP
      }
      out.i = WrapTo(inst.type, result);
    }
    values[n] = out;
  }
  return values[result];
}

Status Body::Verify(int num_axes) const {
  const auto fail = [](size_t n, std::string_view what) {
    return Error(ErrorCode::kGraphInvalid, "body: instruction ", n, ": ", what);
  };
  if (insts.empty() || result < 0 || result >= static_cast<int>(insts.size())) {
    return Error(ErrorCode::kGraphInvalid, "body: expected a result among its ", insts.size(), " instructions, found ",
                 result);
  }
  for (size_t n = 0; n < insts.size(); ++n) {
    const ScalarInst& inst = insts[n];
    const ScalarOpInfo& info = ScalarInfo(inst.op);
    if (ComputeType(inst.type) != inst.type) return fail(n, "its type is not a compute type");
    for (int k = 0; k < 3; ++k) {
      const bool used = k < info.arity;
      if (used && (inst.args[k] < 0 || inst.args[k] >= static_cast<int>(n))) return fail(n, "argument out of order");
      if (!used && inst.args[k] != -1) return fail(n, "too many arguments");
    }
    if (inst.op == ScalarOp::kInput) {
      if (inst.imm_int < 0 || inst.imm_int >= num_inputs) return fail(n, "no such input");
      if (inst.type != input_type(static_cast<int>(inst.imm_int))) return fail(n, "one input read as two types");
    }
    if (inst.op == ScalarOp::kIndex && (inst.type != DType::kI64 || inst.imm_int < 0 || inst.imm_int >= num_axes)) {
      return fail(n, "no such axis");
    }
    if (info.arity == 0) continue;
    DType operand = insts[inst.args[0]].type;
    if (inst.op == ScalarOp::kSelect) {
      if (!IsBool(operand)) return fail(n, "select needs a bool condition");
      operand = insts[inst.args[1]].type;
      if (insts[inst.args[2]].type != operand) return fail(n, "operands of two types");
    } else if (info.arity == 2 && insts[inst.args[1]].type != operand) {
      return fail(n, "operands of two types");
    }
    if (inst.op == ScalarOp::kNarrow && (inst.imm_int < 0 || inst.imm_int > static_cast<int64_t>(DType::kBool) ||
                                         ComputeType(static_cast<DType>(inst.imm_int)) != inst.type)) {
      return fail(n, "narrow to a storage type that does not widen to its type");
    }
    if (!(IsFloat(operand) ? info.on_float : info.on_int)) return fail(n, "operation not defined on this type");
    if (info.result == ScalarOpInfo::Result::kSame && inst.type != operand) return fail(n, "type is not its operands'");
    if (info.result == ScalarOpInfo::Result::kBool && !IsBool(inst.type)) return fail(n, "a comparison gives bool");
  }
  return OkStatus();
}

DType Scalar::type() const { return builder->insts_[id].type; }

Scalar BodyBuilder::Append(ScalarInst inst) {
  insts_.push_back(inst);
  return {this, static_cast<int>(insts_.size()) - 1};
}

Scalar BodyBuilder::Input(DType storage) { return InputAt(num_inputs_, storage); }

Scalar BodyBuilder::InputAt(int k, DType storage) {
  num_inputs_ = std::max(num_inputs_, k + 1);
  return Append({.op = ScalarOp::kInput, .type = ComputeType(storage), .imm_int = k});
}

Scalar BodyBuilder::Index(int axis) { return Append({.op = ScalarOp::kIndex, .type = DType::kI64, .imm_int = axis}); }

Scalar BodyBuilder::Const(DType type, double value) {
  type = ComputeType(type);
  ScalarInst inst = {.op = ScalarOp::kConst, .type = type};
  if (IsFloat(type)) {
    inst.imm = value;
  } else {
    inst.imm_int = IsBool(type) ? value != 0 : DoubleToInt(type, value);
  }
  return Append(inst);
}

Scalar BodyBuilder::ConstInt(DType type, int64_t value) {
  type = ComputeType(type);
  if (IsFloat(type)) return Const(type, static_cast<double>(value));
  return Append({.op = ScalarOp::kConst, .type = type, .imm_int = WrapTo(type, value)});
}

Scalar BodyBuilder::Op(ScalarOp op, std::initializer_list<Scalar> args) {
  const ScalarOpInfo& info = ScalarInfo(op);
  TES_CHECK(static_cast<int>(args.size()) == info.arity, info.name);
  ScalarInst inst = {.op = op};
  int k = 0;
  for (Scalar arg : args) {
    TES_CHECK(arg.builder == this, "operand of another builder");
    inst.args[k++] = arg.id;
  }
  const DType operand = insts_[inst.args[op == ScalarOp::kSelect ? 1 : 0]].type;
  inst.type = info.result == ScalarOpInfo::Result::kBool ? DType::kBool : operand;
  return Append(inst);
}

Scalar BodyBuilder::Cast(Scalar x, DType type) {
  const DType compute = ComputeType(type);
  if (x.type() != compute) x = Append({.op = ScalarOp::kCast, .type = compute, .args = {x.id, -1, -1}});
  return compute == type ? x : Narrow(x, type);
}

Scalar BodyBuilder::Narrow(Scalar x, DType storage) {
  return Append(
      {.op = ScalarOp::kNarrow, .type = x.type(), .args = {x.id, -1, -1}, .imm_int = static_cast<int64_t>(storage)});
}

Scalar BodyBuilder::Inline(const Body& body, std::span<const Scalar> inputs) {
  std::vector<int> renamed(body.insts.size());
  for (size_t n = 0; n < body.insts.size(); ++n) {
    ScalarInst inst = body.insts[n];
    if (inst.op == ScalarOp::kInput) {
      renamed[n] = inputs[inst.imm_int].id;
      continue;
    }
    for (int& arg : inst.args) {
      if (arg >= 0) arg = renamed[arg];
    }
    renamed[n] = Append(inst).id;
  }
  return {this, renamed[body.result]};
}

Body BodyBuilder::Finish(Scalar result) {
  Body body;
  body.num_inputs = num_inputs_;
  // Appends unless the same instruction already stands there. (Zeros of either sign compare equal and are not the
  // same.)
  const auto append = [&](const ScalarInst& inst) {
    for (size_t n = 0; n < body.insts.size(); ++n) {
      if (body.insts[n] == inst && std::signbit(body.insts[n].imm) == std::signbit(inst.imm))
        return static_cast<int>(n);
    }
    body.insts.push_back(inst);
    return static_cast<int>(body.insts.size()) - 1;
  };
  // Operands before operations, the first operand first, from the result back: the order in which a compiler evaluated
  // the calls that built this does not show.
  std::vector<int> order, pending = {result.id};
  std::vector<bool> seen(insts_.size(), false), placed(insts_.size(), false);
  while (!pending.empty()) {
    const int n = pending.back();
    if (!seen[n]) {
      seen[n] = true;
      for (int k = 2; k >= 0; --k) {
        const int arg = insts_[n].args[k];
        if (arg >= 0 && !seen[arg]) pending.push_back(arg);
      }
      continue;
    }
    pending.pop_back();
    if (!placed[n]) order.push_back(n);
    placed[n] = true;
  }
  // Inputs come first if they are read.
  std::vector<int> renamed(insts_.size(), -1);
  for (int k = 0; k < num_inputs_; ++k) {
    for (int n : order) {
      if (insts_[n].op == ScalarOp::kInput && insts_[n].imm_int == k) renamed[n] = append(insts_[n]);
    }
  }
  for (int n : order) {
    ScalarInst inst = insts_[n];
    if (inst.op == ScalarOp::kInput) continue;
    for (int& arg : inst.args) {
      if (arg >= 0) arg = renamed[arg];
    }
    renamed[n] = append(inst);
  }
  body.result = renamed[result.id];
  insts_.clear();
  return body;
}

Body IdentityBody(DType storage) {
  BodyBuilder b;
  return b.Finish(b.Input(storage));
}

Scalar operator+(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kAdd, {a, b}); }
Scalar operator-(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kSub, {a, b}); }
Scalar operator*(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kMul, {a, b}); }
Scalar operator/(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kDiv, {a, b}); }
Scalar operator-(Scalar a) { return Unary(ScalarOp::kNeg, a); }
Scalar operator+(Scalar a, double b) { return a + a.builder->Const(a.type(), b); }
Scalar operator-(Scalar a, double b) { return a - a.builder->Const(a.type(), b); }
Scalar operator*(Scalar a, double b) { return a * a.builder->Const(a.type(), b); }
Scalar operator/(Scalar a, double b) { return a / a.builder->Const(a.type(), b); }
Scalar operator+(double a, Scalar b) { return b.builder->Const(b.type(), a) + b; }
Scalar operator-(double a, Scalar b) { return b.builder->Const(b.type(), a) - b; }
Scalar operator*(double a, Scalar b) { return b.builder->Const(b.type(), a) * b; }
Scalar operator/(double a, Scalar b) { return b.builder->Const(b.type(), a) / b; }
Scalar Min(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kMin, {a, b}); }
Scalar Max(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kMax, {a, b}); }
Scalar Min(Scalar a, double b) { return Min(a, a.builder->Const(a.type(), b)); }
Scalar Max(Scalar a, double b) { return Max(a, a.builder->Const(a.type(), b)); }
Scalar Less(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kLt, {a, b}); }
Scalar LessEqual(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kLe, {a, b}); }
Scalar Equal(Scalar a, Scalar b) { return a.builder->Op(ScalarOp::kEq, {a, b}); }
Scalar Less(Scalar a, double b) { return Less(a, a.builder->Const(a.type(), b)); }
Scalar Less(double a, Scalar b) { return Less(b.builder->Const(b.type(), a), b); }
Scalar Select(Scalar condition, Scalar x, Scalar y) {
  return condition.builder->Op(ScalarOp::kSelect, {condition, x, y});
}

}  // namespace tessera
