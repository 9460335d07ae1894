#include "codegen/emit/stage_axes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tessera {
namespace {

// All accesses of a stage, for rewriting.
template <typename StageRef>
auto AllAccesses(StageRef& stage) {
  std::vector<decltype(&stage.write)> accesses;
  for (auto& access : stage.reads) accesses.push_back(&access);
  for (auto& access : stage.finish_reads) accesses.push_back(&access);
  accesses.push_back(&stage.write);
  return accesses;
}

// Turns an access without guards and index reads into one expression on the flat buffer.
void Flatten(Access& access) {
  if (access.guarded) return;
  const std::vector<int64_t> strides = access.view.Strides();
  IndexExpr flat;
  for (size_t d = 0; d < access.index.size(); ++d) {
    flat.offset += access.index[d].offset * strides[d];
    for (const IndexExpr::Term& term : access.index[d].terms) {
      flat = AxisPlus(flat, term.axis, term.coefficient * strides[d]);
    }
  }
  access.view = Shape({access.view.num_elements()});
  access.index = {flat};
}

void RenumberAxes(IndexExpr& expr, int removed) {
  std::vector<IndexExpr::Term> kept;
  for (IndexExpr::Term term : expr.terms) {
    if (term.axis == removed) continue;
    if (term.axis > removed) --term.axis;
    kept.push_back(term);
  }
  expr.terms = std::move(kept);
}

void RenumberBodyAxes(Body& body, int removed) {
  for (ScalarInst& inst : body.insts) {
    if (inst.op == ScalarOp::kIndex && inst.imm_int > removed) --inst.imm_int;
  }
}

bool BodyUsesAxis(const Body& body, int axis) {
  return std::any_of(body.insts.begin(), body.insts.end(),
                     [&](const ScalarInst& inst) { return inst.op == ScalarOp::kIndex && inst.imm_int == axis; });
}

void RemoveAxis(Stage& stage, int axis) {
  stage.extents.erase(stage.extents.begin() + axis);
  if (axis < stage.parallel_rank) --stage.parallel_rank;
  for (Access* access : AllAccesses(stage)) {
    for (IndexExpr& expr : access->index) RenumberAxes(expr, axis);
  }
  RenumberBodyAxes(stage.body, axis);
  RenumberBodyAxes(stage.finish, axis);
}

// Can `outer` and `outer + 1` be one axis? Every access must move by extent(inner) · stride(inner) along the outer one,
// and guarded dimensions must mention neither (their bounds are per axis).
bool CanMerge(const Stage& stage, int outer) {
  const int inner = outer + 1;
  if ((outer < stage.parallel_rank) != (inner < stage.parallel_rank)) return false;
  if (BodyUsesAxis(stage.body, outer) || BodyUsesAxis(stage.body, inner)) return false;
  if (BodyUsesAxis(stage.finish, outer) || BodyUsesAxis(stage.finish, inner)) return false;
  for (const Access* access : AllAccesses(stage)) {
    for (const IndexExpr& expr : access->index) {
      if (CoefficientOf(expr, outer) != CoefficientOf(expr, inner) * stage.extents[inner]) return false;
      if (access->guarded && CoefficientOf(expr, inner) != 0) return false;
    }
  }
  return true;
}

}  // namespace

int64_t CoefficientOf(const IndexExpr& expr, int axis) {
  for (const IndexExpr::Term& term : expr.terms) {
    if (term.axis == axis) return term.coefficient;
  }
  return 0;
}

int64_t StrideAlong(const Access& access, int axis) {
  const std::vector<int64_t> strides = access.view.Strides();
  int64_t stride = 0;
  for (size_t d = 0; d < access.index.size(); ++d) stride += CoefficientOf(access.index[d], axis) * strides[d];
  return stride;
}

Stage CollapseAxes(const Stage& original) {
  Stage stage = original;
  for (Access* access : AllAccesses(stage)) Flatten(*access);
  for (int axis = stage.rank() - 1; axis >= 0; --axis) {
    const bool used = BodyUsesAxis(stage.body, axis) || BodyUsesAxis(stage.finish, axis);
    if (stage.extents[axis] == 1 && !used) RemoveAxis(stage, axis);
  }
  for (int outer = stage.rank() - 2; outer >= 0; --outer) {
    if (!CanMerge(stage, outer)) continue;
    // The merged axis keeps the inner one's coefficients: removing the outer axis leaves exactly those.
    stage.extents[outer + 1] *= stage.extents[outer];
    RemoveAxis(stage, outer);
  }
  return stage;
}

}  // namespace tessera
