// The backward halves of BitFlow: which ranges and which bits of its operands a Compute reads.
#include <algorithm>
#include <bit>
#include <cmath>

#include "propagate/bits/bit_flow.h"
#include "propagate/bits/bit_math.h"

namespace tessera {
namespace {

using namespace bit_math;

// The bits that are set in some element of an integer tensor, and those set in all.
struct PossibleBits {
  uint64_t some = 0, all = kAll;
};

PossibleBits BitsOf(const Tensor& tensor) {
  PossibleBits bits;
  for (int64_t k = 0; k < tensor.num_elements(); ++k) {
    const uint64_t value = static_cast<uint64_t>(tensor.GetInt(k));
    bits.some |= value;
    bits.all &= value;
  }
  return bits;
}

}  // namespace

// ---- Ranges ----
//
// An instruction's need N says: its value v may be replaced by clamp(v, N). For a monotone f and N = [n, m], x may be
// clamped to [l, h] when f(l) <= n and f(h) >= m.

std::vector<Interval> BitFlow::BodyRanges(const Body& body, std::span<const ValueFact> facts,
                                          const Interval& need) const {
  const Interval everything;
  std::vector<Interval> needs(body.insts.size(), kEmptyInterval);
  std::vector<Interval> inputs(body.num_inputs, kEmptyInterval);
  needs[body.result] = need;
  for (int n = static_cast<int>(body.insts.size()) - 1; n >= 0; --n) {
    const ScalarInst& inst = body.insts[n];
    const Interval want = needs[n];
    if (IsEmpty(want)) continue;
    const auto ask = [&](int k, Interval r) {
      if (r.low > r.high) std::swap(r.low, r.high);  // floor, ceil and round of a single integer
      Interval& target = needs[inst.args[k]];
      target = Hull(target, r);
    };
    const int arity = ScalarInfo(inst.op).arity;
    const Interval a = arity > 0 ? facts[inst.args[0]].range : everything;
    const Interval b = arity > 1 ? facts[inst.args[1]].range : everything;
    const DType type = inst.type;
    const DType operand = arity > 0 ? body.insts[inst.args[0]].type : type;
    const bool is_float = IsFloat(type);
    // Sums in floats may be off by a rounding, relative to the larger operand.
    const auto shifted = [&](double low, double high, const Interval& by) {
      if (!is_float) return Ordered(low, high);
      const double slack = kSlack * (std::fabs(by.low) + std::fabs(by.high));
      return Widened(Ordered(low - slack, high + slack));
    };
    bool known = true;  // else: every operand whole
    switch (inst.op) {
      case ScalarOp::kInput: inputs[inst.imm_int] = Hull(inputs[inst.imm_int], want); continue;
      case ScalarOp::kMax:
        for (int k = 0; k < 2; ++k) {
          const double low = std::max(want.low, k == 0 ? b.low : a.low);
          ask(k, {std::min(low, want.high), want.high});
        }
        break;
      case ScalarOp::kMin:
        for (int k = 0; k < 2; ++k) {
          const double high = std::min(want.high, k == 0 ? b.high : a.high);
          ask(k, {want.low, std::max(high, want.low)});
        }
        break;
      case ScalarOp::kSelect:
        ask(0, everything);
        ask(1, want);
        ask(2, want);
        break;
      case ScalarOp::kAdd:
        known = is_float || Within(Ordered(a.low + b.low, a.high + b.high), TypeRange(type));
        if (known && TypeInfo(type).bits == 64 && !is_float) known = IsFinite(a) && IsFinite(b);
        if (!known) break;
        ask(0, shifted(want.low - b.high, want.high - b.low, b));
        ask(1, shifted(want.low - a.high, want.high - a.low, a));
        break;
      case ScalarOp::kSub:
        known = is_float || Within(Ordered(a.low - b.high, a.high - b.low), TypeRange(type));
        if (known && TypeInfo(type).bits == 64 && !is_float) known = IsFinite(a) && IsFinite(b);
        if (!known) break;
        ask(0, shifted(want.low + b.low, want.high + b.high, b));
        ask(1, shifted(a.low - want.high, a.high - want.low, a));
        break;
      case ScalarOp::kMul: {
        const double products[] = {Times(a.low, b.low), Times(a.low, b.high), Times(a.high, b.low),
                                   Times(a.high, b.high)};
        const Interval all = is_float ? everything : TypeRange(type);
        for (double p : products) known = known && p >= all.low && p <= all.high && (is_float || std::fabs(p) < kExact);
        if (!known) break;
        for (int k = 0; k < 2; ++k) {
          const Interval by = k == 0 ? b : a;
          if (by.low <= 0 || !IsFinite(by)) {
            ask(k, everything);
            continue;
          }
          double low = want.low / (want.low < 0 ? by.low : by.high);
          double high = want.high / (want.high > 0 ? by.low : by.high);
          if (is_float) {
            ask(k, Widened(Ordered(low, high)));
          } else {
            ask(k, Ordered(std::floor(low), std::ceil(high)));
          }
        }
        break;
      }
      case ScalarOp::kDiv:
        known = b.low > 0 && IsFinite(b) && (is_float || b.low == b.high);
        if (!known) break;
        ask(0, is_float ? Widened(Ordered(Times(want.low, want.low < 0 ? b.high : b.low),
                                          Times(want.high, want.high > 0 ? b.high : b.low)))
                        : Ordered(Times(want.low, b.low), Times(want.high, b.low)));
        ask(1, everything);
        break;
      case ScalarOp::kNeg:
        known = is_float || Within({-a.high, -a.low}, TypeRange(type));
        if (known && !is_float && TypeInfo(type).bits == 64) known = IsFinite(a);
        if (known) ask(0, {-want.high, -want.low});
        break;
      case ScalarOp::kAbs:
        known = is_float || (Within({-a.high, -a.low}, TypeRange(type)) && (TypeInfo(type).bits < 64 || IsFinite(a)));
        if (known) ask(0, {-std::max(0.0, want.high), std::max(0.0, want.high)});
        break;
      // Between two integers these are constant: half an integer less is needed than of the result.
      case ScalarOp::kFloor: ask(0, {std::floor(want.low) + 0.5, std::ceil(want.high)}); break;
      case ScalarOp::kCeil: ask(0, {std::floor(want.low), std::ceil(want.high) - 0.5}); break;
      case ScalarOp::kTrunc: ask(0, {std::floor(want.low), std::ceil(want.high)}); break;
      case ScalarOp::kRoundEven: ask(0, {std::floor(want.low) + 0.25, std::ceil(want.high) - 0.25}); break;
      case ScalarOp::kCast:
        if (IsBool(type) || IsBool(operand)) {
          known = false;
        } else if (IsFloat(operand)) {
          ask(0, want);  // to an integer (saturates), or to another float
        } else if (is_float) {
          const Interval wide = Widened(want);
          ask(0, {std::floor(wide.low), std::ceil(wide.high)});
        } else {
          known = Within(a, TypeRange(type)) && (TypeInfo(type).bits < 64 || IsFinite(a));
          if (known) ask(0, want);
        }
        break;
      case ScalarOp::kNarrow: {
        const DType storage = static_cast<DType>(inst.imm_int);
        known = !is_float && !IsBool(storage) && Within(a, TypeRange(storage)) &&
                (TypeInfo(storage).bits < 64 || IsFinite(a));
        if (known) ask(0, want);
        break;
      }
      default: known = false; break;
    }
    for (int k = 0; !known && k < arity; ++k) ask(k, everything);
  }
  return inputs;
}

std::vector<Interval> BitFlow::NeededRanges(std::span<const Interval> outputs) const {
  std::vector<Interval> needs[4];
  needs[static_cast<int>(BufferKind::kInput)].assign(compute_.inputs.size(), kEmptyInterval);
  needs[static_cast<int>(BufferKind::kOutput)].assign(outputs.begin(), outputs.end());
  needs[static_cast<int>(BufferKind::kTemp)].assign(compute_.temps.size(), kEmptyInterval);
  needs[static_cast<int>(BufferKind::kTable)].assign(compute_.tables.size(), kEmptyInterval);
  const auto ask = [&](const Access& access, const Interval& r) {
    Interval& need = needs[static_cast<int>(access.buffer.kind)][access.buffer.index];
    need = Hull(need, r);
  };
  for (size_t s = compute_.stages.size(); s-- > 0;) {
    const Stage& stage = compute_.stages[s];
    const StageFacts& facts = stages_[s];
    Interval need = needs[static_cast<int>(stage.write.buffer.kind)][stage.write.buffer.index];
    if (IsEmpty(need)) continue;
    const DType storage = compute_.BufferType(stage.write.buffer).dtype;
    const ValueFact& result = stage.finish.empty() ? facts.combined : facts.finish[stage.finish.result];
    if (IsFloat(storage)) {
      if (TypeInfo(storage).bits < 32) need = {};  // rounding is coarse
    } else if (!Within(result.range, TypeRange(storage)) || IsBool(storage)) {
      need = {};  // wraps
    }
    if (!stage.finish.empty()) {
      const std::vector<Interval> of = BodyRanges(stage.finish, facts.finish, need);
      for (size_t k = 0; k < stage.finish_reads.size(); ++k) ask(stage.finish_reads[k], of[k + 1]);
      need = of[0];
      if (IsEmpty(need)) continue;
    }
    const bool selects =
        stage.combiner == Combiner::kNone || stage.combiner == Combiner::kMax || stage.combiner == Combiner::kMin;
    const std::vector<Interval> of = BodyRanges(stage.body, facts.body, selects ? need : Interval{});
    for (size_t k = 0; k < stage.reads.size(); ++k) {
      if (k < of.size()) ask(stage.reads[k], of[k]);
      for (const IndexExpr& index : stage.reads[k].index) {
        if (index.read >= 0) ask(stage.reads[index.read], {});
      }
    }
  }
  return needs[static_cast<int>(BufferKind::kInput)];
}

// ---- Bits ----

std::vector<uint64_t> BitFlow::BodyBits(const Body& body, const std::vector<Access>& reads, int first_read,
                                        uint64_t need) const {
  std::vector<uint64_t> needs(body.insts.size(), 0), inputs(body.num_inputs, 0);
  needs[body.result] = need;
  // The bits that an operand can have set at all, where it is a literal or a constant tensor.
  const auto possible = [&](int arg) -> PossibleBits {
    const ScalarInst& inst = body.insts[arg];
    if (inst.op == ScalarOp::kConst) {
      return {static_cast<uint64_t>(inst.imm_int), static_cast<uint64_t>(inst.imm_int)};
    }
    if (inst.op == ScalarOp::kInput && inst.imm_int >= first_read) {
      const Access& access = reads[inst.imm_int - first_read];
      const Tensor* constant = ConstantOf(access.buffer);
      if (constant != nullptr && !access.guarded) return BitsOf(*constant);
    }
    return {kAll, 0};
  };
  for (int n = static_cast<int>(body.insts.size()) - 1; n >= 0; --n) {
    const ScalarInst& inst = body.insts[n];
    const uint64_t want = needs[n];
    if (want == 0) continue;
    const int arity = ScalarInfo(inst.op).arity;
    if (inst.op == ScalarOp::kInput) {
      inputs[inst.imm_int] |= want;
      continue;
    }
    const DType type = inst.type;
    const DType operand = arity > 0 ? body.insts[inst.args[0]].type : type;
    uint64_t ask[3] = {kAll, kAll, kAll};
    if (!IsFloat(type) && !IsFloat(operand) && !IsBool(type) && !IsBool(operand)) {
      switch (inst.op) {
        case ScalarOp::kAdd:
        case ScalarOp::kSub:
        case ScalarOp::kMul:
        case ScalarOp::kNeg: ask[0] = ask[1] = UpTo(want); break;
        case ScalarOp::kAnd:
          for (int k = 0; k < 2; ++k) ask[k] = want & possible(inst.args[1 - k]).some;
          // Where both are literal-like each would excuse the other; one of them stays whole.
          if (possible(inst.args[0]).some != kAll && possible(inst.args[1]).some != kAll) ask[1] = want;
          break;
        case ScalarOp::kOr:
          for (int k = 0; k < 2; ++k) ask[k] = want & ~possible(inst.args[1 - k]).all;
          if (possible(inst.args[0]).all != 0 && possible(inst.args[1]).all != 0) ask[1] = want;
          break;
        case ScalarOp::kXor:
        case ScalarOp::kNot: ask[0] = ask[1] = want; break;
        case ScalarOp::kShl:
        case ScalarOp::kShr: {
          const ScalarInst& by = body.insts[inst.args[1]];
          if (by.op != ScalarOp::kConst || by.imm_int < 0 || by.imm_int >= TypeInfo(type).bits) break;
          const uint64_t mask = Narrowed(type, want);
          if (inst.op == ScalarOp::kShl) {
            ask[0] = mask >> by.imm_int;
          } else {
            const int bits = TypeInfo(type).bits;
            const bool sign = !IsUnsigned(type) && (mask >> (bits - 1 - by.imm_int)) != 0;
            ask[0] = ((mask << by.imm_int) & LowBits(bits)) | (sign ? uint64_t{1} << (bits - 1) : 0);
          }
          break;
        }
        case ScalarOp::kCast: ask[0] = Narrowed(operand, Narrowed(type, want)); break;
        case ScalarOp::kNarrow: {
          const DType storage = static_cast<DType>(inst.imm_int);
          if (!IsBool(storage)) ask[0] = Narrowed(storage, want);
          break;
        }
        default: break;
      }
    }
    if (inst.op == ScalarOp::kSelect && !IsFloat(type) && !IsBool(type)) ask[1] = ask[2] = want;
    for (int k = 0; k < arity; ++k) needs[inst.args[k]] |= ask[k];
  }
  return inputs;
}

std::vector<uint64_t> BitFlow::NeededBits(std::span<const uint64_t> outputs) const {
  std::vector<uint64_t> needs[4];
  needs[static_cast<int>(BufferKind::kInput)].assign(compute_.inputs.size(), 0);
  needs[static_cast<int>(BufferKind::kOutput)].assign(outputs.begin(), outputs.end());
  needs[static_cast<int>(BufferKind::kTemp)].assign(compute_.temps.size(), 0);
  needs[static_cast<int>(BufferKind::kTable)].assign(compute_.tables.size(), 0);
  const auto ask = [&](const Access& access, uint64_t mask) {
    needs[static_cast<int>(access.buffer.kind)][access.buffer.index] |=
        Narrowed(compute_.BufferType(access.buffer).dtype, mask);
  };
  for (size_t s = compute_.stages.size(); s-- > 0;) {
    const Stage& stage = compute_.stages[s];
    uint64_t need = needs[static_cast<int>(stage.write.buffer.kind)][stage.write.buffer.index];
    if (need == 0) continue;
    const DType storage = compute_.BufferType(stage.write.buffer).dtype;
    if (IsFloat(storage) || IsBool(storage)) need = kAll;
    if (!stage.finish.empty()) {
      const std::vector<uint64_t> of = BodyBits(stage.finish, stage.finish_reads, 1, need);
      for (size_t k = 0; k < stage.finish_reads.size(); ++k) ask(stage.finish_reads[k], of[k + 1]);
      need = of[0];
      if (need == 0) continue;
    }
    switch (stage.combiner) {
      case Combiner::kNone:
      case Combiner::kAnd:
      case Combiner::kOr: break;
      case Combiner::kAdd:
      case Combiner::kMul: need = IsFloat(stage.body.result_type()) ? kAll : UpTo(need); break;
      case Combiner::kMax:
      case Combiner::kMin: need = kAll; break;
    }
    const std::vector<uint64_t> of = BodyBits(stage.body, stage.reads, 0, need);
    for (size_t k = 0; k < stage.reads.size(); ++k) {
      if (k < of.size()) ask(stage.reads[k], of[k]);
      for (const IndexExpr& index : stage.reads[k].index) {
        if (index.read >= 0) ask(stage.reads[index.read], kAll);
      }
    }
  }
  return needs[static_cast<int>(BufferKind::kInput)];
}

}  // namespace tessera
