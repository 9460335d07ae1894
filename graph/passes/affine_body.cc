#include "graph/passes/affine_body.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "graph/passes/coefficient.h"

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Integers below it are exact in f32, and so are their sums and products of a few.
constexpr double kExact = 1 << 22;

// min(max(sum of coefficient * base + constant, low), high), and, where it is rounded, to an integer, and that + after.
// Bounds of what is rounded are integers.
struct Form {
  struct Term {
    Scalar base;
    Coefficient coefficient;
  };
  std::vector<Term> terms;
  Coefficient constant = Number(0);
  double low = -kInfinity, high = kInfinity;
  bool rounded = false;
  double after = 0;

  bool clipped() const { return low != -kInfinity || high != kInfinity; }
  bool is_constant() const { return terms.empty() && !clipped() && !rounded; }
  // Costs nothing to be used again.
  bool is_plain() const {
    return !clipped() && !rounded &&
           ((terms.size() == 1 && terms[0].coefficient.is(1) && constant.is(0)) ||
            (terms.empty() && constant.is_number()));
  }
};

// What is known of an integer: the real that it is, and where it lies.
struct IntegerFact {
  Form real;
  double low = 0, high = 0;
};

class Rewriting {
 public:
  Rewriting(const Body& body, std::span<const AffineInput> inputs, bool exact, bool keep_first)
      : body_(body), inputs_(inputs), exact_(exact), position_of_(inputs.size(), -1) {
    if (keep_first) Position(0);
    forms_.resize(body.insts.size());
    scalars_.resize(body.insts.size());
    facts_.resize(body.insts.size());
    uses_.assign(body.insts.size(), 0);
    for (const ScalarInst& inst : body.insts) {
      for (int arg : inst.args) {
        if (arg >= 0) ++uses_[static_cast<size_t>(arg)];
      }
    }
  }

  AffineBody Run(DType stored) {
    for (size_t n = 0; n < body_.insts.size(); ++n) {
      const ScalarInst& inst = body_.insts[n];
      if (inst.type == DType::kF32) {
        forms_[n] = RealForm(inst);
        if (uses_[n] > 1 && !forms_[n]->is_plain() && !forms_[n]->is_constant()) forms_[n] = Plain(Write(*forms_[n]));
      } else {
        Integer(n, inst);
      }
    }
    AffineBody result;
    Scalar value = Value(body_.result);
    if (value.type() == DType::kI32 && IsInteger(stored) && TypeInfo(stored).bits < 32)
      value = b_.Narrow(value, stored);
    result.body = b_.Finish(value);
    result.operands = std::move(operands_);
    result.body.num_inputs = static_cast<int>(result.operands.size());
    return result;
  }

 private:
  // ---- operands ----

  int Position(int old) {
    int& position = position_of_[static_cast<size_t>(old)];
    if (position < 0) {
      position = static_cast<int>(operands_.size());
      operands_.push_back({.old = old, .constant = {}});
    }
    return position;
  }

  Scalar Read(int old) { return b_.InputAt(Position(old), inputs_[static_cast<size_t>(old)].dtype); }

  Scalar Constant(const Coefficient& c) {
    if (c.is_number()) return b_.Const(DType::kF32, static_cast<float>(c.number));
    Tensor tensor = c.ToTensor();
    for (size_t k = 0; k < operands_.size(); ++k) {
      if (operands_[k].old < 0 && operands_[k].constant == tensor) return b_.InputAt(static_cast<int>(k), DType::kF32);
    }
    operands_.push_back({.old = -1, .constant = std::move(tensor)});
    return b_.InputAt(static_cast<int>(operands_.size()) - 1, DType::kF32);
  }

  // ---- reals ----

  Scalar Rounded(Scalar x) { return exact_ ? b_.Narrow(x, DType::kF32) : x; }

  static Form Plain(Scalar base) {
    Form form;
    form.terms.push_back({base, Number(1)});
    return form;
  }

  // The instructions that compute a form.
  Scalar Write(const Form& form) {
    std::optional<Scalar> value;
    for (const Form::Term& term : form.terms) {
      const bool negated = term.coefficient.is(-1) && value;
      Scalar product = term.base;
      if (!term.coefficient.is(1) && !negated) product = Rounded(product * Constant(term.coefficient));
      value = !value ? product : Rounded(negated ? *value - product : *value + product);
    }
    if (!value) {
      value = Constant(form.constant);
    } else if (!form.constant.is(0)) {
      value = Rounded(*value + Constant(form.constant));
    }
    if (form.low != -kInfinity) value = Max(*value, static_cast<float>(form.low));
    if (form.high != kInfinity) value = Min(*value, static_cast<float>(form.high));
    if (form.rounded) value = RoundEven(*value);
    if (form.after != 0) {
      whole_.insert(value->id);
      value = Rounded(*value + form.after);
    }
    if (IsWhole(form)) whole_.insert(value->id);
    return *value;
  }

  // Is it an integer, whatever its bases are?
  bool IsWhole(const Form& form) const {
    const auto whole = [](double v) { return std::isinf(v) || v == std::trunc(v); };
    if (form.rounded) return true;
    if (!form.constant.is_number() || !whole(form.constant.number) || !whole(form.low) || !whole(form.high)) {
      return false;
    }
    return std::all_of(form.terms.begin(), form.terms.end(), [&](const Form::Term& t) {
      return (t.coefficient.is(1) || t.coefficient.is(-1)) && whole_.contains(t.base.id);
    });
  }

  // As a sum: bounds and rounding become part of a base.
  Form Unbounded(Form form) {
    if (!form.clipped() && !form.rounded) return form;
    const double after = std::exchange(form.after, 0);
    Form plain = Plain(Write(form));
    plain.constant = Number(after);
    return plain;
  }

  static std::optional<Form> Added(const Form& a, const Form& b, double sign) {
    Form sum = a;
    for (const Form::Term& term : b.terms) {
      const std::optional<Coefficient> coefficient = Product(term.coefficient, Number(sign));
      auto same = std::find_if(sum.terms.begin(), sum.terms.end(),
                               [&](const Form::Term& t) { return t.base.id == term.base.id; });
      if (same == sum.terms.end()) {
        sum.terms.push_back({term.base, *coefficient});
        continue;
      }
      const std::optional<Coefficient> joined = Sum(same->coefficient, *coefficient);
      if (!joined) return std::nullopt;
      same->coefficient = *joined;
    }
    std::erase_if(sum.terms, [](const Form::Term& t) { return t.coefficient.is(0); });
    const std::optional<Coefficient> shift = Product(b.constant, Number(sign));
    const std::optional<Coefficient> constant = Sum(sum.constant, *shift);
    if (!constant) return std::nullopt;
    sum.constant = *constant;
    return sum;
  }

  // a + sign * b
  Form Add(const Form& a, const Form& b, double sign) {
    if (a.is_constant() && !b.is_constant() && sign > 0) return Add(b, a, 1);
    // A number moves bounds along. What is rounded moves by what keeps ties where they are, and the rest comes after.
    if (b.is_constant() && b.constant.is_number() && (a.clipped() || a.rounded)) {
      const double shift = sign * b.constant.number;
      const double after = a.rounded ? std::fmod(a.after + shift, 2) : 0;
      const bool whole = !a.rounded || shift == std::trunc(shift);
      Form inner = {.terms = a.terms, .constant = a.constant};
      const double moves_by = a.after + shift - after;
      std::optional<Form> moved = Added(inner, {.terms = {}, .constant = Number(moves_by)}, 1);
      if (whole && moved) {
        moved->low = a.low + moves_by;
        moved->high = a.high + moves_by;
        moved->rounded = a.rounded;
        moved->after = after;
        return *moved;
      }
    }
    if (std::optional<Form> sum = Added(Unbounded(a), Unbounded(b), sign)) return *sum;
    const Scalar x = Write(a), y = Write(b);
    return Plain(Rounded(sign > 0 ? x + y : x - y));
  }

  // (f x) (g y) as (f g) (x y): the numbers may meet others later.
  Form ProductOfBoth(const Form& a, const Form& b) {
    double factor = 1;
    const auto without = [&](const Form& form) {
      if (form.terms.size() != 1 || form.clipped() || form.rounded || !form.constant.is(0) ||
          !form.terms[0].coefficient.is_number()) {
        return Write(form);
      }
      factor *= form.terms[0].coefficient.number;
      return form.terms[0].base;
    };
    const Scalar x = without(a), y = without(b);
    Form product = Plain(Rounded(x * y));
    product.terms[0].coefficient = Number(factor);
    return product;
  }

  Form Multiply(const Form& a, const Form& b) {
    if (a.is_constant() && !b.is_constant()) return Multiply(b, a);
    if (!b.is_constant() || !b.constant.is_normal()) return ProductOfBoth(a, b);
    const Coefficient& factor = b.constant;
    // max(x, 0) * s is max(x * s, 0) for every s > 0; other bounds are scaled by one number only.
    const bool only_zero = (a.low == 0 || a.low == -kInfinity) && a.high == kInfinity;
    const bool scales = !a.rounded && factor.all([](double v) { return v > 0; }) && (factor.is_number() || only_zero);
    const Form base = !a.clipped() || scales ? a : Unbounded(a);
    if (base.rounded) return Multiply(Unbounded(a), b);
    Form product = {.terms = {}, .constant = Number(0)};
    for (const Form::Term& term : base.terms) {
      const std::optional<Coefficient> c = Product(term.coefficient, factor);
      if (!c || !c->is_normal()) return Plain(Rounded(Write(a) * Write(b)));
      product.terms.push_back({term.base, *c});
    }
    const std::optional<Coefficient> constant = Product(base.constant, factor);
    if (!constant || !constant->all([](double v) { return std::abs(v) < 1e30; })) {
      return Plain(Rounded(Write(a) * Write(b)));
    }
    product.constant = *constant;
    if (base.clipped()) {
      const double f = factor.is_number() ? factor.number : 1;  // of 0 and infinity
      product.low = base.low * f;
      product.high = base.high * f;
    }
    return product;
  }

  Form Divide(const Form& a, const Form& b) {
    if (b.is_constant() && b.constant.all([](double v) { return v != 0; }) && b.constant.is_normal()) {
      Form inverse;
      inverse.constant = *Quotient(Number(1), b.constant);
      return Multiply(a, inverse);
    }
    return Plain(Rounded(Write(a) / Write(b)));
  }

  // max (sign 1) or min (sign -1) with a number.
  Form Bound(const Form& a, const Form& b, double sign) {
    if (a.is_constant() && !b.is_constant()) return Bound(b, a, sign);
    const bool number = b.is_constant() && b.constant.is_number() && !std::isnan(b.constant.number);
    if (!number) return Plain(sign > 0 ? Max(Write(a), Write(b)) : Min(Write(a), Write(b)));
    const double bound = b.constant.number - a.after;
    if (a.rounded && bound != std::trunc(bound)) return Bound(Unbounded(a), b, sign);
    Form form = a;
    const auto limit = [&](double v) { return sign > 0 ? std::max(v, bound) : std::min(v, bound); };
    form.low = sign > 0 ? limit(form.low) : (form.low == -kInfinity ? form.low : limit(form.low));
    form.high = sign < 0 ? limit(form.high) : (form.high == kInfinity ? form.high : limit(form.high));
    return form;
  }

  Form RealForm(const ScalarInst& inst) {
    const auto form = [&](int k) -> const Form& { return *forms_[static_cast<size_t>(inst.args[k])]; };
    switch (inst.op) {
      case ScalarOp::kInput: return InputForm(static_cast<int>(inst.imm_int));
      case ScalarOp::kConst: return {.terms = {}, .constant = Number(inst.imm)};
      case ScalarOp::kCast: {
        const size_t from = static_cast<size_t>(inst.args[0]);
        if (facts_[from]) return facts_[from]->real;
        return Plain(Rounded(b_.Cast(Value(inst.args[0]), DType::kF32)));
      }
      case ScalarOp::kNarrow:
        if (static_cast<DType>(inst.imm_int) == DType::kF32) return form(0);
        break;
      case ScalarOp::kAdd: return Add(form(0), form(1), 1);
      case ScalarOp::kSub: return Add(form(0), form(1), -1);
      case ScalarOp::kNeg: return Multiply(form(0), {.terms = {}, .constant = Number(-1)});
      case ScalarOp::kMul: return Multiply(form(0), form(1));
      case ScalarOp::kDiv: return Divide(form(0), form(1));
      case ScalarOp::kMax: return Bound(form(0), form(1), 1);
      case ScalarOp::kMin: return Bound(form(0), form(1), -1);
      case ScalarOp::kRoundEven: {
        Form rounded = form(0);
        if (rounded.rounded) return rounded;
        // Bounds that are no integers would round as well.
        const auto whole = [](double v) { return std::isinf(v) || v == std::trunc(v); };
        if (!whole(rounded.low) || !whole(rounded.high)) {
          rounded.low = std::nearbyint(rounded.low);
          rounded.high = std::nearbyint(rounded.high);
        }
        rounded.rounded = true;
        return rounded;
      }
      default: break;
    }
    return Plain(Rounded(Other(inst)));
  }

  Form InputForm(int old) {
    const Tensor* data = inputs_[static_cast<size_t>(old)].data;
    if (data == nullptr || data->num_elements() > Coefficient::kMaxElements) return Plain(Read(old));
    return {.terms = {}, .constant = CoefficientOf(*data)};
  }

  // ---- all else ----

  // The instruction as it was, on operands as they are now.
  Scalar Other(const ScalarInst& inst) {
    switch (inst.op) {
      case ScalarOp::kInput: {
        const Tensor* data = inputs_[static_cast<size_t>(inst.imm_int)].data;
        const bool number = data != nullptr && data->num_elements() == 1 && !IsFloat(inst.type);
        return number ? b_.ConstInt(inst.type, data->GetInt(0)) : Read(static_cast<int>(inst.imm_int));
      }
      case ScalarOp::kIndex: return b_.Index(static_cast<int>(inst.imm_int));
      case ScalarOp::kConst:
        return IsFloat(inst.type) ? b_.Const(inst.type, inst.imm) : b_.ConstInt(inst.type, inst.imm_int);
      case ScalarOp::kCast: return b_.Cast(Value(inst.args[0]), inst.type);
      case ScalarOp::kNarrow: return b_.Narrow(Value(inst.args[0]), static_cast<DType>(inst.imm_int));
      default: break;
    }
    const int arity = ScalarInfo(inst.op).arity;
    const Scalar x = Value(inst.args[0]);
    if (arity == 1) return b_.Op(inst.op, {x});
    const Scalar y = Value(inst.args[1]);
    return arity == 2 ? b_.Op(inst.op, {x, y}) : b_.Op(inst.op, {x, y, Value(inst.args[2])});
  }

  void Integer(size_t n, const ScalarInst& inst) {
    const auto fact = [&](int k) -> std::optional<IntegerFact>& { return facts_[static_cast<size_t>(inst.args[k])]; };
    if (inst.op == ScalarOp::kCast && inst.type == DType::kI32 &&
        body_.insts[static_cast<size_t>(inst.args[0])].type == DType::kF32) {
      const Form& form = *forms_[static_cast<size_t>(inst.args[0])];
      const Form real = form.rounded ? Unbounded(form) : Plain(Write(form));
      scalars_[n] = b_.Cast(Write(real), DType::kI32);
      const double low = form.low + form.after, high = form.high + form.after;
      if (IsWhole(form) && low >= -kExact && high <= kExact) facts_[n] = {real, low, high};
      return;
    }
    if (inst.op == ScalarOp::kNarrow && inst.type == DType::kI32 && fact(0)) {
      const DType storage = static_cast<DType>(inst.imm_int);
      if (fact(0)->low >= static_cast<double>(MinInt(storage)) &&
          fact(0)->high <= static_cast<double>(MaxInt(storage))) {
        facts_[n] = fact(0);
        scalars_[n] = Value(inst.args[0]);
        return;
      }
    }
    scalars_[n] = Other(inst);
    if (inst.type != DType::kI32) return;
    const auto number = [&](int64_t integer) {
      const double value = static_cast<double>(integer);
      if (std::abs(value) < kExact) facts_[n] = {{.terms = {}, .constant = Number(value)}, value, value};
    };
    if (inst.op == ScalarOp::kConst) {
      number(inst.imm_int);
    } else if (inst.op == ScalarOp::kInput) {
      const AffineInput& input = inputs_[static_cast<size_t>(inst.imm_int)];
      const DType stored = input.dtype;
      if (input.data != nullptr && input.data->num_elements() == 1) return number(input.data->GetInt(0));
      if (TypeInfo(stored).bits > 16) return;
      const Scalar real = b_.Cast(*scalars_[n], DType::kF32);
      whole_.insert(real.id);
      facts_[n] = {Plain(real), static_cast<double>(MinInt(stored)), static_cast<double>(MaxInt(stored))};
    } else if ((inst.op == ScalarOp::kAdd || inst.op == ScalarOp::kSub) && fact(0) && fact(1)) {
      const double sign = inst.op == ScalarOp::kAdd ? 1 : -1;
      const double a = sign * fact(1)->low, b = sign * fact(1)->high;
      const double low = fact(0)->low + std::min(a, b), high = fact(0)->high + std::max(a, b);
      if (low < -kExact || high > kExact) return;
      if (std::optional<Form> sum = Added(fact(0)->real, fact(1)->real, sign)) facts_[n] = {*sum, low, high};
    }
  }

  // The value of an instruction as an instruction.
  Scalar Value(int n) {
    const size_t at = static_cast<size_t>(n);
    if (!scalars_[at]) scalars_[at] = Write(*forms_[at]);
    return *scalars_[at];
  }

  const Body& body_;
  std::span<const AffineInput> inputs_;
  const bool exact_;
  BodyBuilder b_;
  std::vector<AffineOperand> operands_;
  std::vector<int> position_of_;                   // by old input
  std::vector<std::optional<Form>> forms_;         // by instruction, of f32 ones
  std::vector<std::optional<Scalar>> scalars_;     // by instruction, once written
  std::vector<std::optional<IntegerFact>> facts_;  // by instruction, of i32 ones
  std::vector<int> uses_;
  std::set<int> whole_;  // instructions of the new body that are integers
};

}  // namespace

AffineBody MakeAffine(const Body& body, std::span<const AffineInput> inputs, DType stored, bool exact,
                      bool keep_first) {
  return Rewriting(body, inputs, exact, keep_first).Run(stored);
}

}  // namespace tessera
