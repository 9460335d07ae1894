#include "codegen/emit/host/stream_finish.h"

#include <cmath>

#include "graph/body.h"

namespace tessera {
namespace {

using StepOp = StreamStep::Op;
using With = StreamStep::With;

// How a step reads an operand that is one number a row or a number for each pixel.
std::optional<StreamStep> OperandStep(const TileEpilogue& epilogue, int k, int64_t channels) {
  const EpilogueOperand& operand = epilogue.operands()[k];
  StreamStep step;
  step.operand = k;
  if (operand.dtype != DType::kF32) return std::nullopt;
  if (operand.elementwise && operand.along_columns) {
    step.with = With::kElement;
    step.row_bytes = operand.pitch * 4;
    return step;
  }
  step.with = With::kRow;
  if (operand.along_columns) return std::nullopt;
  if (operand.rows.empty()) return step;
  // Rows that follow each other within an image.
  const EpilogueOperand::RowTerm& term = operand.rows[0];
  if (operand.rows.size() != 1 || term.period != 1 || (term.extent != 0 && term.extent % channels != 0)) {
    return std::nullopt;
  }
  step.row_bytes = term.stride * 4;
  return step;
}

std::optional<StepOp> OpOf(ScalarOp op) {
  switch (op) {
    case ScalarOp::kAdd: return StepOp::kAdd;
    case ScalarOp::kSub: return StepOp::kSub;
    case ScalarOp::kMul: return StepOp::kMul;
    case ScalarOp::kMin: return StepOp::kMin;
    case ScalarOp::kMax: return StepOp::kMax;
    default: return std::nullopt;
  }
}

}  // namespace

std::optional<std::vector<StreamStep>> StreamSteps(const TileEpilogue& epilogue, int64_t channels) {
  std::vector<StreamStep> steps;
  const Body& body = epilogue.body();
  if (epilogue.dtype() != DType::kF32 || epilogue.operands().size() > kMaxStreamOperands) return std::nullopt;
  if (body.empty()) return steps;
  // Which instruction holds the value so far. Each instruction is a leaf, or takes that value once.
  int value = -1;
  for (size_t i = 0; i < body.insts.size(); ++i) {
    const ScalarInst& inst = body.insts[i];
    if (inst.op == ScalarOp::kConst) continue;
    if (inst.op == ScalarOp::kInput) {
      if (inst.imm_int == 0) value = static_cast<int>(i);
      continue;
    }
    if (inst.type != DType::kF32) return std::nullopt;
    if (inst.op == ScalarOp::kNarrow && inst.imm_int == static_cast<int64_t>(DType::kF32) && inst.args[0] == value) {
      value = static_cast<int>(i);
      continue;
    }
    const std::optional<StepOp> op = OpOf(inst.op);
    if (!op) return std::nullopt;
    int other = inst.args[1];
    if (inst.args[0] != value) {
      if (inst.args[1] != value || *op == StepOp::kSub) return std::nullopt;
      other = inst.args[0];
    }
    const ScalarInst& leaf = body.insts[other];
    if (leaf.op == ScalarOp::kConst) {
      if ((*op == StepOp::kMin || *op == StepOp::kMax) && std::isnan(leaf.imm)) return std::nullopt;
      steps.push_back({.op = *op, .with = With::kConstant, .constant = static_cast<float>(leaf.imm)});
    } else if (leaf.op == ScalarOp::kInput && leaf.imm_int > 0 && *op != StepOp::kMin && *op != StepOp::kMax) {
      std::optional<StreamStep> step = OperandStep(epilogue, static_cast<int>(leaf.imm_int) - 1, channels);
      if (!step) return std::nullopt;
      step->op = *op;
      steps.push_back(*step);
    } else {
      return std::nullopt;
    }
    value = static_cast<int>(i);
  }
  if (value != body.result) return std::nullopt;
  return steps;
}

}  // namespace tessera
