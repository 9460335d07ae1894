#include "propagate/ranges.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "graph/op.h"

namespace tessera {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
// Outward for one operation of f32, whose relative error is 2^-24: with room for the libraries' last bits.
constexpr double kSlack = 0x1p-21;

// NaN ends, as inf - inf gives, say nothing.
Interval Make(double low, double high) {
  return {.low = std::isnan(low) ? -kInf : low, .high = std::isnan(high) ? kInf : high};
}

Interval Hull(const Interval& a, const Interval& b) { return {std::min(a.low, b.low), std::max(a.high, b.high)}; }

Interval Intersect(const Interval& a, const Interval& b) {
  const Interval both = {std::max(a.low, b.low), std::min(a.high, b.high)};
  return both.low <= both.high ? both : a;
}

// Moves the ends outward by what `operations` roundings of numbers up to `magnitude` may come to.
Interval Loosened(Interval range, double magnitude, double operations = 1) {
  const double by = magnitude * kSlack * operations;
  if (std::isfinite(by)) range = Make(range.low - by, range.high + by);
  return range;
}
double Magnitude(const Interval& a) { return std::max(std::fabs(a.low), std::fabs(a.high)); }
Interval Loosened(const Interval& range) { return Loosened(range, Magnitude(range)); }

// 0 · inf is 0 here: an end at infinity stands for numbers as large as one likes, never for infinity itself; an
// infinite value that meets a zero gives NaN, which no interval has to hold.
double Product(double a, double b) { return a == 0 || b == 0 ? 0 : a * b; }

Interval Mul(const Interval& a, const Interval& b) {
  const double ends[] = {Product(a.low, b.low), Product(a.low, b.high), Product(a.high, b.low),
                         Product(a.high, b.high)};
  return {*std::min_element(ends, ends + 4), *std::max_element(ends, ends + 4)};
}

Interval Div(const Interval& a, const Interval& b, bool is_float) {
  if (b.low <= 0 && b.high >= 0) {
    // An integer's quotient is never larger than the dividend, except that the lowest one has no counterpart; a zero
    // divisor gives 0.
    if (!is_float) return {-Magnitude(a), Magnitude(a)};
    if (b.low == 0 && b.high > 0 && a.low >= 0) return {a.low / b.high >= 0 ? a.low / b.high : 0, kInf};
    return {};
  }
  const double ends[] = {a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high};
  Interval result = {kInf, -kInf};
  for (double end : ends) {
    if (std::isnan(end)) return {};  // inf / inf
    result = {std::min(result.low, end), std::max(result.high, end)};
  }
  if (!is_float) result = {std::trunc(result.low), std::trunc(result.high)};
  return result;
}

template <typename F>
Interval Monotone(const Interval& a, F f) {
  return Loosened(Make(f(a.low), f(a.high)));
}

Interval TypeRange(DType type) {
  if (IsFloat(type)) return {};
  if (IsBool(type)) return {0, 1};
  // u64's largest is beyond int64.
  const double high = type == DType::kU64 ? 0x1p64 : static_cast<double>(MaxInt(type));
  return {static_cast<double>(MinInt(type)), high};
}

// One instruction on intervals; `wide`: the result before it is fitted into its type.
Interval Apply(const ScalarInst& inst, DType operand, const Interval& a, const Interval& b, const Interval& c) {
  const bool is_float = IsFloat(operand);
  const auto inexact = [&](const Interval& range) { return is_float ? Loosened(range) : range; };
  switch (inst.op) {
    case ScalarOp::kCast: {
      if (IsBool(inst.type)) return {0, 1};
      if (IsFloat(inst.type)) return is_float ? a : Loosened(a);
      if (!is_float) return Stored(a, inst.type);
      const Interval type = TypeRange(inst.type);  // floats saturate, NaN is some integer of the type
      if (!std::isfinite(a.low) || !std::isfinite(a.high)) return type;
      return {std::clamp(std::trunc(a.low), type.low, type.high), std::clamp(std::trunc(a.high), type.low, type.high)};
    }
    case ScalarOp::kNarrow: {
      const DType storage = static_cast<DType>(inst.imm_int);
      if (!IsFloat(storage)) return Stored(a, storage);
      // Rounding is monotone; overflow gives infinity or the largest number.
      return Make(RoundToFloat(storage, a.low), RoundToFloat(storage, a.high));
    }
    case ScalarOp::kAdd:
      return is_float ? Loosened(Make(a.low + b.low, a.high + b.high), Magnitude(a) + Magnitude(b))
                      : Make(a.low + b.low, a.high + b.high);
    case ScalarOp::kSub:
      return is_float ? Loosened(Make(a.low - b.high, a.high - b.low), Magnitude(a) + Magnitude(b))
                      : Make(a.low - b.high, a.high - b.low);
    case ScalarOp::kMul: return inexact(Mul(a, b));
    case ScalarOp::kDiv: return inexact(Div(a, b, is_float));
    case ScalarOp::kRem: {
      // The sign of the dividend, smaller than the divisor.
      const double most = std::min(Magnitude(a), Magnitude(b));
      return {a.low < 0 ? -most : 0, a.high > 0 ? most : 0};
    }
    case ScalarOp::kPow:
      if (is_float && a.low >= 0 && b.low == b.high && b.low >= 0) {
        return Loosened(Make(std::pow(a.low, b.low), std::pow(a.high, b.low)));
      }
      if (is_float && b.low == b.high && b.low == 2) {
        const double most = Magnitude(a) * Magnitude(a);
        return Loosened({0, most});
      }
      return is_float && a.low >= 0 ? Interval{0, kInf} : Interval{};
    case ScalarOp::kMin: return {std::min(a.low, b.low), std::min(a.high, b.high)};
    case ScalarOp::kMax: return {std::max(a.low, b.low), std::max(a.high, b.high)};
    case ScalarOp::kAnd:
      if (a.low >= 0 && b.low >= 0) return {0, std::min(a.high, b.high)};
      if (a.low >= 0) return {0, a.high};
      if (b.low >= 0) return {0, b.high};
      return TypeRange(inst.type);
    case ScalarOp::kShr:
      if (IsUnsigned(inst.type)) return {0, a.high};
      return {std::min(a.low, 0.0), std::max(a.high, 0.0)};
    case ScalarOp::kOr:
    case ScalarOp::kXor:
    case ScalarOp::kShl:
    case ScalarOp::kNot: return TypeRange(inst.type);
    case ScalarOp::kNeg: return {-a.high, -a.low};
    case ScalarOp::kAbs: return {a.low > 0 ? a.low : a.high < 0 ? -a.high : 0, Magnitude(a)};
    case ScalarOp::kFloor: return {std::floor(a.low), std::floor(a.high)};
    case ScalarOp::kCeil: return {std::ceil(a.low), std::ceil(a.high)};
    case ScalarOp::kTrunc: return {std::trunc(a.low), std::trunc(a.high)};
    case ScalarOp::kRoundEven: return {std::nearbyint(a.low), std::nearbyint(a.high)};
    case ScalarOp::kSqrt:
      return Monotone({std::max(a.low, 0.0), std::max(a.high, 0.0)}, [](double x) { return std::sqrt(x); });
    case ScalarOp::kExp: {
      const Interval range = Monotone(a, [](double x) { return std::exp(x); });
      return {std::max(range.low, 0.0), range.high};
    }
    case ScalarOp::kExpm1: {
      const Interval range = Monotone(a, [](double x) { return std::expm1(x); });
      return {std::max(range.low, -1.0), range.high};
    }
    case ScalarOp::kLog:
      return Monotone({std::max(a.low, 0.0), std::max(a.high, 0.0)}, [](double x) { return std::log(x); });
    case ScalarOp::kLog1p:
      return Monotone({std::max(a.low, -1.0), std::max(a.high, -1.0)}, [](double x) { return std::log1p(x); });
    case ScalarOp::kErf: return Intersect({-1, 1}, Monotone(a, [](double x) { return std::erf(x); }));
    case ScalarOp::kTanh: return Intersect({-1, 1}, Monotone(a, [](double x) { return std::tanh(x); }));
    case ScalarOp::kSin:
    case ScalarOp::kCos: return {-1, 1};
    case ScalarOp::kEq:
    case ScalarOp::kNe:
    case ScalarOp::kLt:
    case ScalarOp::kLe:
    case ScalarOp::kIsNan:
    case ScalarOp::kIsInf: return {0, 1};
    case ScalarOp::kSelect:
      if (a.low == 1 && a.high == 1) return b;
      if (a.low == 0 && a.high == 0) return c;
      return Hull(b, c);
    case ScalarOp::kInput:
    case ScalarOp::kIndex:
    case ScalarOp::kConst: break;
  }
  return {};
}

// `count` terms in `term` joined.
Interval Combined(Combiner combiner, const Interval& term, double count, DType type) {
  if (count == 0) {
    const ScalarValue identity = Identity(combiner, type);
    if (!IsFloat(type)) return TypeRange(type);
    return {identity.f, identity.f};
  }
  switch (combiner) {
    case Combiner::kAdd: {
      const Interval sum = {Product(term.low, count), Product(term.high, count)};
      return IsFloat(type) ? Loosened(sum, Magnitude(term) * count, count) : Stored(sum, type);
    }
    case Combiner::kMul:
      if (term.low >= 0) {
        const Interval product = {std::pow(term.low, count), std::pow(term.high, count)};
        return IsFloat(type) ? Loosened(product, Magnitude(product), count) : Stored(product, type);
      }
      if (Magnitude(term) <= 1) return {-1, 1};
      return TypeRange(type);
    case Combiner::kAnd: return term.low >= 0 ? Interval{0, term.high} : TypeRange(type);
    case Combiner::kOr: return TypeRange(type);
    case Combiner::kMax:
    case Combiner::kMin:
    case Combiner::kNone: break;
  }
  return term;
}

// The intervals of a compute's outputs as stored, from those of its inputs.
std::vector<Interval> OutputRanges(const Compute& compute, std::span<const Interval> inputs) {
  std::vector<std::optional<Interval>> outputs(compute.outputs.size()), temps(compute.temps.size());
  const auto range_of = [&](const Access& access) -> Interval {
    Interval range;
    switch (access.buffer.kind) {
      case BufferKind::kInput: range = inputs[static_cast<size_t>(access.buffer.index)]; break;
      case BufferKind::kOutput: range = outputs[static_cast<size_t>(access.buffer.index)].value_or(Interval()); break;
      case BufferKind::kTemp: range = temps[static_cast<size_t>(access.buffer.index)].value_or(Interval()); break;
      case BufferKind::kTable: {
        const Tensor& table = compute.tables[static_cast<size_t>(access.buffer.index)];
        if (table.num_elements() == 0) break;
        range = {kInf, -kInf};
        for (int64_t k = 0; k < table.num_elements(); ++k) {
          const double value = table.Get(k);
          if (std::isnan(value)) continue;
          range = {std::min(range.low, value), std::max(range.high, value)};
        }
        if (range.low > range.high) range = {};
        break;
      }
    }
    return access.guarded ? Hull(range, {access.fill, access.fill}) : range;
  };
  for (const Stage& stage : compute.stages) {
    if (stage.parallel_points() == 0) continue;
    std::vector<Interval> reads;
    for (const Access& read : stage.reads) reads.push_back(range_of(read));
    Interval range = RangeOf(stage.body, reads);
    range = Combined(stage.combiner, range, static_cast<double>(stage.reduced_points()), stage.body.result_type());
    if (!stage.finish.empty()) {
      std::vector<Interval> finish = {range};
      for (const Access& read : stage.finish_reads) finish.push_back(range_of(read));
      range = RangeOf(stage.finish, finish);
    }
    range = Stored(range, compute.BufferType(stage.write.buffer).dtype);
    const size_t index = static_cast<size_t>(stage.write.buffer.index);
    std::optional<Interval>& slot = stage.write.buffer.kind == BufferKind::kOutput ? outputs[index] : temps[index];
    slot = slot ? Hull(*slot, range) : range;
  }
  std::vector<Interval> result;
  for (const std::optional<Interval>& output : outputs) result.push_back(output.value_or(Interval()));
  return result;
}

// What an op's formula does not show, because its operands depend on each other.
std::optional<Interval> ByOp(const Node& node, const OpContext& context, std::span<const Interval> inputs) {
  switch (node.op) {
    case Op::kSoftmax: return Loosened({0, 1}, 1);
    case Op::kLogSoftmax: return Interval{-kInf, 0x1p-20};
    case Op::kAttention:
      // Means of rows of v, weighted by shares that add up to 1 (or to 0, where a mask leaves nothing).
      return Hull(Loosened(inputs[2], Magnitude(inputs[2]), 1024), {0, 0});
    case Op::kLayerNorm: {
      // Of n numbers with mean 0 and mean square 1 none exceeds sqrt(n - 1).
      double count = 1;
      const int rank = context.shape(0).rank();
      const int axis = static_cast<int>(context.attrs.Int("axis"));
      for (int d = axis < 0 ? axis + rank : axis; d < rank; ++d) count *= static_cast<double>(context.shape(0)[d]);
      const double most = std::sqrt(std::max(count - 1, 0.0)) * (1 + count * kSlack);
      const Interval scaled = context.has_input(1) ? Mul({-most, most}, inputs[1]) : Interval{-most, most};
      if (!context.has_input(2)) return Loosened(scaled);
      return Loosened(Make(scaled.low + inputs[2].low, scaled.high + inputs[2].high),
                      Magnitude(scaled) + Magnitude(inputs[2]));
    }
    default: return std::nullopt;
  }
}

// What the constants among the elements say: of a tensor that is wholly known their least and greatest.
Interval Narrowed(const Interval& range, const Known& known) {
  if (!known.all_known() || known.data) return range;
  Interval values = {kInf, -kInf};
  for (size_t c = 0; c < known.kind.values.size(); ++c) {
    const bool zero = known.kind.values[c] == static_cast<uint8_t>(Certainty::kZero);
    const double value = zero ? 0 : known.values[c];
    values = {std::min(values.low, value), std::max(values.high, value)};
  }
  return values.low <= values.high ? Intersect(Loosened(values), range) : range;
}

}  // namespace

Interval Stored(const Interval& range, DType type) {
  if (IsFloat(type)) {
    if (type == DType::kF32 || type == DType::kF64) return range;
    // The interpreter does not round, kernels do: both lie inside.
    return Hull(range, Make(RoundToFloat(type, range.low), RoundToFloat(type, range.high)));
  }
  const Interval all = TypeRange(type);
  return range.low >= all.low && range.high <= all.high ? range : all;
}

Interval RangeOf(const Body& body, std::span<const Interval> inputs) {
  std::vector<Interval> values(body.insts.size());
  for (size_t k = 0; k < body.insts.size(); ++k) {
    const ScalarInst& inst = body.insts[k];
    Interval& value = values[k];
    switch (inst.op) {
      case ScalarOp::kInput: value = inputs[static_cast<size_t>(inst.imm_int)]; break;
      case ScalarOp::kIndex: value = {0, kInf}; break;
      case ScalarOp::kConst: {
        const double integer = inst.type == DType::kU64 ? static_cast<double>(static_cast<uint64_t>(inst.imm_int))
                                                        : static_cast<double>(inst.imm_int);
        const double constant = IsFloat(inst.type) ? inst.imm : integer;
        value = Make(constant, constant);
        break;
      }
      default: {
        static constexpr Interval kNone = {};
        const auto arg = [&](int n) { return inst.args[n] < 0 ? kNone : values[static_cast<size_t>(inst.args[n])]; };
        const DType operand = body.insts[static_cast<size_t>(inst.args[0])].type;
        value = Apply(inst, operand, arg(0), arg(1), arg(2));
        if (!IsFloat(inst.type)) value = Stored(value, inst.type);
      }
    }
  }
  return body.empty() ? Interval() : values[static_cast<size_t>(body.result)];
}

void AddRanges(const Graph& graph, std::vector<Known>& known) {
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    if (value.kind != ValueKind::kConstant) known[v].range = TypeRange(value.type.dtype);  // theirs is of their data
  }
  for (const Node& node : graph.nodes) {
    const OpContext context = MakeContext(graph, node);
    std::vector<Interval> inputs;
    for (ValueId id : Operands(node)) {
      inputs.push_back(id == ValueId::kNone ? Interval() : known[static_cast<size_t>(Index(id))].range);
    }
    const std::span<const Interval> operands = std::span<const Interval>(inputs).first(node.inputs.size());
    std::vector<Interval> outputs;
    if (const std::optional<Interval> by_op = ByOp(node, context, operands)) {
      outputs = {Stored(*by_op, context.outputs[0].dtype)};
    } else {
      outputs = OutputRanges(GetOp(node.op).compute(context), operands);
    }
    if (node.epilogue) {
      std::vector<Interval> of_body = {outputs[0]};
      of_body.insert(of_body.end(), inputs.begin() + static_cast<std::ptrdiff_t>(node.inputs.size()), inputs.end());
      outputs[0] = Stored(RangeOf(node.epilogue->body, of_body), node.epilogue->dtype);
    }
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      Known& fact = known[static_cast<size_t>(Index(node.outputs[k]))];
      fact.range = Narrowed(outputs[k], fact);
    }
  }
}

}  // namespace tessera
