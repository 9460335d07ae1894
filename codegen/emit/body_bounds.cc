#include "codegen/emit/body_bounds.h"

#include <algorithm>
#include <cmath>

namespace tessera {

std::vector<ValueBounds> BoundsOf(const Body& body) {
  std::vector<ValueBounds> bounds;
  for (const ScalarInst& inst : body.insts) {
    ValueBounds value;
    if (inst.type != DType::kF32) {
      bounds.push_back(value);
      continue;
    }
    const auto arg = [&](int k) { return bounds[inst.args[k]]; };
    switch (inst.op) {
      case ScalarOp::kConst: value = {inst.imm, inst.imm}; break;
      case ScalarOp::kMax: value = {std::max(arg(0).low, arg(1).low), std::max(arg(0).high, arg(1).high)}; break;
      case ScalarOp::kMin: value = {std::min(arg(0).low, arg(1).low), std::min(arg(0).high, arg(1).high)}; break;
      // Rounding keeps order, and whole numbers where they are.
      case ScalarOp::kRoundEven:
      case ScalarOp::kFloor:
      case ScalarOp::kCeil:
      case ScalarOp::kTrunc: value = {std::floor(arg(0).low), std::ceil(arg(0).high)}; break;
      case ScalarOp::kNarrow:
        if (inst.imm_int == static_cast<int64_t>(DType::kF32)) value = arg(0);
        break;
      default: break;
    }
    if (std::isnan(value.low) || std::isnan(value.high)) value = {};
    bounds.push_back(value);
  }
  return bounds;
}

Clamp ClampAt(const Body& body, int n) {
  Clamp clamp = {.value = n, .bounds = {}};
  while (true) {
    const ScalarInst& inst = body.insts[clamp.value];
    if (inst.type != DType::kF32 || (inst.op != ScalarOp::kMin && inst.op != ScalarOp::kMax)) return clamp;
    const int constant = body.insts[inst.args[0]].op == ScalarOp::kConst ? 0 : 1;
    const ScalarInst& limit = body.insts[inst.args[constant]];
    if (limit.op != ScalarOp::kConst || std::isnan(limit.imm)) return clamp;
    // From the outside in: what is outside has the last word.
    if (inst.op == ScalarOp::kMin) {
      clamp.bounds.high = std::clamp(limit.imm, clamp.bounds.low, clamp.bounds.high);
    } else {
      clamp.bounds.low = std::clamp(limit.imm, clamp.bounds.low, clamp.bounds.high);
    }
    clamp.value = inst.args[1 - constant];
  }
}

namespace {

// Does `accepts` hold for the storage type of every narrowing that reads `n`, and does nothing else read it?
template <typename Accepts>
bool OnlyNarrowed(const Body& body, int n, Accepts accepts) {
  if (body.result == n) return false;
  for (const ScalarInst& inst : body.insts) {
    if (std::find(std::begin(inst.args), std::end(inst.args), n) == std::end(inst.args)) continue;
    if (inst.op != ScalarOp::kNarrow || !accepts(static_cast<DType>(inst.imm_int))) return false;
  }
  return true;
}

}  // namespace

bool OnlyLowBitsRead(const Body& body, int n) {
  return OnlyNarrowed(body, n, [](DType storage) { return !IsFloat(storage) && TypeInfo(storage).bits <= 16; });
}

bool OnlyReadAs(const Body& body, int n, DType storage) {
  return OnlyNarrowed(body, n, [storage](DType as) { return as == storage; });
}

}  // namespace tessera
