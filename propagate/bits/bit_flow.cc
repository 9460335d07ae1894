#include "propagate/bits/bit_flow.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "propagate/bits/bit_math.h"

namespace tessera {
namespace {

using namespace bit_math;

constexpr int kAllZeros = 64;           // of a value that is 0
constexpr int64_t kMaxTerms = 1 << 22;  // of a constant that is summed term by term

Interval Corners(double a, double b, double c, double d) {
  if (std::isnan(a) || std::isnan(b) || std::isnan(c) || std::isnan(d)) return {};
  return {std::min({a, b, c, d}), std::max({a, b, c, d})};
}

int ZerosOf(int64_t value) { return value == 0 ? kAllZeros : std::countr_zero(static_cast<uint64_t>(value)); }

double NextPower(double x) { return std::exp2(std::ceil(std::log2(x + 1))) - 1; }

}  // namespace

Interval TypeRange(DType type) {
  if (IsFloat(type) || type == DType::kI64) return {};
  if (type == DType::kU64) return {0, kInf};
  if (IsBool(type)) return {0, 1};
  return {static_cast<double>(MinInt(type)), static_cast<double>(MaxInt(type))};
}

Interval Hull(const Interval& a, const Interval& b) { return {std::min(a.low, b.low), std::max(a.high, b.high)}; }

ValueFact FactOf(const Tensor& tensor) {
  if (tensor.num_elements() == 0) return {{0, 0}, kAllZeros};
  ValueFact fact = {kEmptyInterval, kAllZeros};
  if (tensor.dtype() == DType::kF32) {  // what large weights are: without a call for each element
    float low = std::numeric_limits<float>::infinity(), high = -low;
    bool nan = false;
    for (float value : tensor.data<float>()) {
      low = value < low ? value : low;
      high = value > high ? value : high;
      nan |= value != value;
    }
    return nan ? ValueFact() : ValueFact{{low, high}, 0};
  }
  const bool is_float = IsFloat(tensor.dtype());
  for (int64_t k = 0; k < tensor.num_elements(); ++k) {
    const double value = tensor.Get(k);
    if (std::isnan(value)) return {};
    fact.range = Hull(fact.range, {value, value});
    if (!is_float) fact.zeros = std::min(fact.zeros, ZerosOf(tensor.GetInt(k)));
  }
  if (!is_float) fact.range = Fit(tensor.dtype(), fact.range);
  return fact;
}

BitFlow::BitFlow(const Compute& compute, std::vector<const Tensor*> constants)
    : compute_(compute), constants_(std::move(constants)) {}

const Tensor* BitFlow::ConstantOf(BufferRef buffer) const {
  if (buffer.kind == BufferKind::kTable) return &compute_.tables[buffer.index];
  return buffer.kind == BufferKind::kInput ? constants_[buffer.index] : nullptr;
}

// ---- Forward ----

ValueFact BitFlow::Read(const Stage& stage, const Access& access, bool fill_never_wins) const {
  ValueFact fact = buffers_[static_cast<int>(access.buffer.kind)][access.buffer.index];
  if (!access.guarded) return fact;
  // A maximum that is padded with its identity is one over at least one element: max_pool promises it.
  if (fill_never_wins && stage.combiner == Combiner::kMax && access.fill <= fact.range.low) return fact;
  if (fill_never_wins && stage.combiner == Combiner::kMin && access.fill >= fact.range.high) return fact;
  fact.range = Hull(fact.range, {access.fill, access.fill});
  if (access.fill != 0) fact.zeros = 0;
  return fact;
}

std::vector<ValueFact> BitFlow::EvaluateBody(const Body& body, std::span<const ValueFact> inputs,
                                             std::span<const int64_t> extents) const {
  std::vector<ValueFact> facts(body.insts.size());
  for (size_t n = 0; n < body.insts.size(); ++n) {
    const ScalarInst& inst = body.insts[n];
    const auto arg = [&](int k) -> const ValueFact& { return facts[inst.args[k]]; };
    const ValueFact none;
    const ValueFact& fa = inst.args[0] >= 0 ? arg(0) : none;
    const ValueFact& fb = inst.args[1] >= 0 ? arg(1) : none;
    const Interval a = fa.range, b = fb.range;
    const DType type = inst.type;
    const DType operand = inst.args[0] >= 0 ? body.insts[inst.args[0]].type : type;
    Interval r = TypeRange(type);
    int zeros = 0;
    switch (inst.op) {
      case ScalarOp::kInput:
        r = inputs[inst.imm_int].range;
        zeros = inputs[inst.imm_int].zeros;
        break;
      case ScalarOp::kIndex: r = {0, static_cast<double>(std::max<int64_t>(0, extents[inst.imm_int] - 1))}; break;
      case ScalarOp::kConst:
        if (IsFloat(type)) {
          r = std::isnan(inst.imm) ? Interval{} : Interval{inst.imm, inst.imm};
        } else {
          const double value = static_cast<double>(inst.imm_int);
          r = Fit(type, {value, value});
          zeros = ZerosOf(inst.imm_int);
        }
        break;
      case ScalarOp::kCast:
        if (IsFloat(type)) {
          r = Widened(a);
        } else if (IsBool(type)) {
          r = {0, 1};
        } else if (IsFloat(operand)) {  // saturates; NaN gives 0
          const Interval all = TypeRange(type);
          r = {std::clamp(std::floor(a.low), all.low, all.high), std::clamp(std::ceil(a.high), all.low, all.high)};
          r = Hull(r, {0, 0});
          if (std::max(std::fabs(r.low), std::fabs(r.high)) > kExact) r = all;
        } else {
          r = Fit(type, a);
          zeros = fa.zeros;
        }
        break;
      case ScalarOp::kNarrow: {
        const DType storage = static_cast<DType>(inst.imm_int);
        if (IsFloat(type)) {
          r = {RoundToFloat(storage, a.low), RoundToFloat(storage, a.high)};
          if (std::isinf(r.low)) r.low = -kInf;
          if (std::isinf(r.high)) r.high = kInf;
        } else {
          r = Fit(storage, a);
          if (!IsBool(storage)) zeros = fa.zeros;
        }
        break;
      }
      case ScalarOp::kAdd:
        r = Fit(type, Ordered(a.low + b.low, a.high + b.high));
        zeros = std::min(fa.zeros, fb.zeros);
        break;
      case ScalarOp::kSub:
        r = Fit(type, Ordered(a.low - b.high, a.high - b.low));
        zeros = std::min(fa.zeros, fb.zeros);
        break;
      case ScalarOp::kMul:
        r = Fit(type, Corners(Times(a.low, b.low), Times(a.low, b.high), Times(a.high, b.low), Times(a.high, b.high)));
        zeros = std::min(kAllZeros, fa.zeros + fb.zeros);
        break;
      case ScalarOp::kDiv:
        if (IsFloat(type)) {
          if (b.low > 0 || b.high < 0) {
            r = Widened(Corners(a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high));
          }
        } else if (b.low == b.high && b.low > 0) {
          r = {std::trunc(a.low / b.low), std::trunc(a.high / b.low)};
        } else {
          const double most = std::max(std::fabs(a.low), std::fabs(a.high));
          r = Fit(type, {a.low >= 0 && b.low >= 0 ? 0 : -most, most});
        }
        break;
      case ScalarOp::kRem:
        if (!IsFloat(type)) {
          const double most = std::max(std::fabs(b.low), std::fabs(b.high));
          r = Fit(type, {a.low < 0 ? -std::min(most, -a.low) : 0, a.high > 0 ? std::min(most, a.high) : 0});
        }
        break;
      case ScalarOp::kMin:
        r = {std::min(a.low, b.low), std::min(a.high, b.high)};
        zeros = std::min(fa.zeros, fb.zeros);
        break;
      case ScalarOp::kMax:
        r = {std::max(a.low, b.low), std::max(a.high, b.high)};
        zeros = std::min(fa.zeros, fb.zeros);
        break;
      case ScalarOp::kAnd:
        if (a.low >= 0 && b.low >= 0) {
          r = {0, std::min(a.high, b.high)};
        } else if (a.low >= 0 || b.low >= 0) {
          r = {0, a.low >= 0 ? a.high : b.high};
        }
        if (!IsBool(type)) zeros = std::max(fa.zeros, fb.zeros);
        break;
      case ScalarOp::kOr:
      case ScalarOp::kXor:
        if (a.low >= 0 && b.low >= 0) r = Fit(type, {0, NextPower(std::max(a.high, b.high))});
        if (!IsBool(type)) zeros = std::min(fa.zeros, fb.zeros);
        break;
      case ScalarOp::kShl:
        if (b.low == b.high && b.low >= 0 && b.low < 53) {
          r = Fit(type, {std::ldexp(a.low, static_cast<int>(b.low)), std::ldexp(a.high, static_cast<int>(b.low))});
          zeros = std::min(kAllZeros, fa.zeros + static_cast<int>(b.low));
        }
        break;
      case ScalarOp::kShr:
        if (b.low == b.high && b.low >= 0 && b.low < 32) {
          const int by = -static_cast<int>(b.low);
          r = Fit(type, {std::floor(std::ldexp(a.low, by)), std::floor(std::ldexp(a.high, by))});
        }
        break;
      case ScalarOp::kNot:
        if (!IsBool(type) && !IsUnsigned(type)) r = Fit(type, {-a.high - 1, -a.low - 1});
        break;
      case ScalarOp::kNeg:
        r = Fit(type, {-a.high, -a.low});
        zeros = fa.zeros;
        break;
      case ScalarOp::kAbs: {
        const double least = a.low > 0 ? a.low : (a.high < 0 ? -a.high : 0);
        r = Fit(type, {least, std::max(std::fabs(a.low), std::fabs(a.high))});
        zeros = fa.zeros;
        break;
      }
      case ScalarOp::kFloor: r = {std::floor(a.low), std::floor(a.high)}; break;
      case ScalarOp::kCeil: r = {std::ceil(a.low), std::ceil(a.high)}; break;
      case ScalarOp::kTrunc: r = {std::trunc(a.low), std::trunc(a.high)}; break;
      case ScalarOp::kRoundEven: r = {std::nearbyint(a.low), std::nearbyint(a.high)}; break;
      case ScalarOp::kSqrt: r = Widened({std::sqrt(std::max(0.0, a.low)), std::sqrt(std::max(0.0, a.high))}); break;
      case ScalarOp::kExp: r = {0, Widened({0, std::exp(a.high)}).high}; break;
      case ScalarOp::kTanh:
      case ScalarOp::kErf:
      case ScalarOp::kSin:
      case ScalarOp::kCos: r = Widened({-1, 1}); break;
      case ScalarOp::kSelect:
        r = Hull(arg(1).range, arg(2).range);
        zeros = std::min(arg(1).zeros, arg(2).zeros);
        break;
      default: break;  // all values of the type: comparisons are bool
    }
    if (!IsFloat(type) && r.low == 0 && r.high == 0) zeros = kAllZeros;
    facts[n] = {r, IsFloat(type) ? 0 : zeros};
  }
  return facts;
}

// A sum of products with a constant, its terms as they are: the bound that integer layers live by. Only where the
// constant's index is affine; the largest over the constant's own parallel axes.
bool BitFlow::SumOfProducts(const Stage& stage, const StageFacts& facts, Interval& sum) const {
  const std::vector<ScalarInst>& insts = stage.body.insts;
  const ScalarInst& product = insts[stage.body.result];
  if (product.op != ScalarOp::kMul || IsFloat(product.type)) return false;
  const auto read_of = [&](int arg) {
    const ScalarInst* inst = &insts[product.args[arg]];
    while (inst->op == ScalarOp::kCast && !IsFloat(insts[inst->args[0]].type)) inst = &insts[inst->args[0]];
    return inst->op == ScalarOp::kInput ? static_cast<int>(inst->imm_int) : -1;
  };
  for (int side = 0; side < 2; ++side) {
    const int read = read_of(side);
    if (read < 0) continue;
    const Access& access = stage.reads[read];
    const Tensor* weights = ConstantOf(access.buffer);
    if (weights == nullptr || access.guarded || IsFloat(weights->dtype())) continue;
    std::vector<bool> used(stage.rank(), false);
    bool affine = true;
    for (const IndexExpr& index : access.index) {
      affine = affine && index.read < 0;
      for (const IndexExpr::Term& term : index.terms) used[term.axis] = true;
    }
    if (!affine) continue;
    Shape outer, inner;  // the constant's parallel and reduced axes
    std::vector<int> outer_axes, inner_axes;
    double terms = 1;
    double repeats = 1;
    for (int axis = 0; axis < stage.rank(); ++axis) {
      const bool reduced = axis >= stage.parallel_rank;
      if (!used[axis]) {
        if (reduced) repeats *= static_cast<double>(stage.extents[axis]);
        continue;
      }
      std::vector<int64_t> dims = (reduced ? inner : outer).dims();
      dims.push_back(stage.extents[axis]);
      (reduced ? inner : outer) = Shape(std::move(dims));
      (reduced ? inner_axes : outer_axes).push_back(axis);
      terms *= static_cast<double>(stage.extents[axis]);
    }
    if (terms > static_cast<double>(kMaxTerms)) continue;
    const Interval x = facts.body[product.args[1 - side]].range;
    const std::vector<int64_t> strides = access.view.Strides();
    std::vector<int64_t> point(stage.rank(), 0);
    Interval bounds = kEmptyInterval;
    ForEachIndex(outer, [&](const std::vector<int64_t>& at) {
      for (size_t d = 0; d < at.size(); ++d) point[outer_axes[d]] = at[d];
      double low = 0, high = 0;
      ForEachIndex(inner, [&](const std::vector<int64_t>& within) {
        for (size_t d = 0; d < within.size(); ++d) point[inner_axes[d]] = within[d];
        int64_t element = 0;
        for (size_t d = 0; d < access.index.size(); ++d) {
          int64_t index = access.index[d].offset;
          for (const IndexExpr::Term& term : access.index[d].terms) index += term.coefficient * point[term.axis];
          element += index * strides[d];
        }
        const double w = weights->Get(element);
        low += std::min(Times(w, x.low), Times(w, x.high));
        high += std::max(Times(w, x.low), Times(w, x.high));
      });
      bounds = Hull(bounds, {low * repeats, high * repeats});
    });
    if (IsEmpty(bounds)) return false;
    sum = bounds;
    return true;
  }
  return false;
}

ValueFact BitFlow::Combine(const Stage& stage, const StageFacts& facts) const {
  const ValueFact& term = facts.body[stage.body.result];
  const DType type = stage.body.result_type();
  if (stage.combiner == Combiner::kNone) return term;
  const int64_t points = stage.reduced_points();
  if (points == 0) {
    const ScalarValue value = Identity(stage.combiner, type);
    const double d = IsFloat(type) ? value.f : static_cast<double>(value.i);
    return {Fit(type, {d, d}), 0};
  }
  const double count = static_cast<double>(points);
  ValueFact fact = term;
  switch (stage.combiner) {
    case Combiner::kAdd: {
      Interval sum = {Times(count, term.range.low), Times(count, term.range.high)};
      if (Interval exact; !IsFloat(type) && SumOfProducts(stage, facts, exact)) {
        sum = {std::max(sum.low, exact.low), std::min(sum.high, exact.high)};
      }
      if (IsFloat(type)) {
        // Rounding errors of partial sums are relative to the largest of them.
        const double error = count * 1e-6 * std::max(std::fabs(sum.low), std::fabs(sum.high));
        sum = {term.range.low >= 0 ? std::max(0.0, sum.low - error) : sum.low - error,
               term.range.high <= 0 ? std::min(0.0, sum.high + error) : sum.high + error};
        fact.range = Ordered(sum.low, sum.high);
      } else {
        fact.range = Fit(type, sum);
      }
      break;
    }
    case Combiner::kMul:
      if (points > 1) {
        const bool unit = term.range.low >= 0 && term.range.high <= 1;
        fact.range = unit ? Interval{0, 1} : TypeRange(type);
      }
      break;
    case Combiner::kOr:
      if (points > 1 && !IsBool(type)) {
        fact.range = term.range.low >= 0 ? Fit(type, {0, NextPower(term.range.high)}) : TypeRange(type);
      }
      break;
    case Combiner::kAnd:
      if (points > 1 && !IsBool(type)) {
        fact.range = term.range.low >= 0 ? Interval{0, term.range.high} : TypeRange(type);
      }
      break;
    default: break;  // of max and min, which take one of them
  }
  return fact;
}

std::vector<ValueFact> BitFlow::Forward(std::span<const ValueFact> inputs) {
  const ValueFact unwritten = {kEmptyInterval, kAllZeros};
  buffers_[static_cast<int>(BufferKind::kInput)].assign(inputs.begin(), inputs.end());
  buffers_[static_cast<int>(BufferKind::kOutput)].assign(compute_.outputs.size(), unwritten);
  buffers_[static_cast<int>(BufferKind::kTemp)].assign(compute_.temps.size(), unwritten);
  std::vector<ValueFact>& tables = buffers_[static_cast<int>(BufferKind::kTable)];
  if (tables.empty()) {
    for (const Tensor& table : compute_.tables) tables.push_back(FactOf(table));
  }
  stages_.assign(compute_.stages.size(), {});
  for (size_t s = 0; s < compute_.stages.size(); ++s) {
    const Stage& stage = compute_.stages[s];
    StageFacts& facts = stages_[s];
    for (const Access& access : stage.reads) facts.reads.push_back(Read(stage, access, true));
    facts.body = EvaluateBody(stage.body, facts.reads, stage.extents);
    facts.combined = Combine(stage, facts);
    ValueFact result = facts.combined;
    if (!stage.finish.empty()) {
      facts.finish_reads = {facts.combined};
      for (const Access& access : stage.finish_reads) facts.finish_reads.push_back(Read(stage, access, false));
      facts.finish = EvaluateBody(stage.finish, facts.finish_reads, stage.extents);
      result = facts.finish[stage.finish.result];
    }
    const DType storage = compute_.BufferType(stage.write.buffer).dtype;
    if (IsFloat(storage)) {
      const Interval rounded = {RoundToFloat(storage, result.range.low), RoundToFloat(storage, result.range.high)};
      result.range = Hull(result.range, Ordered(rounded.low, rounded.high));
    } else {
      result.range = Fit(storage, result.range);
    }
    ValueFact& buffer = buffers_[static_cast<int>(stage.write.buffer.kind)][stage.write.buffer.index];
    buffer.range = Hull(buffer.range, result.range);
    buffer.zeros = std::min(buffer.zeros, result.zeros);
  }
  std::vector<ValueFact> outputs = buffers_[static_cast<int>(BufferKind::kOutput)];
  for (ValueFact& fact : outputs) {
    if (IsEmpty(fact.range)) fact = {{0, 0}, kAllZeros};  // without elements
  }
  return outputs;
}

}  // namespace tessera
