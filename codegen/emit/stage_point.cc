#include "codegen/emit/stage_point.h"

#include <algorithm>
#include <vector>

#include "codegen/emit/body_emitter.h"
#include "codegen/emit/stage_axes.h"

namespace tessera {

IrValue StagePoint::Value(int lanes, IrValue mask) {
  IrValues reads;
  for (const Access& access : stage_.reads) reads.push_back(Read(access, lanes, mask, reads));
  return EmitBody(b_, stage_.body, reads, [&](int axis) { return AxisValue(axis, lanes); });
}

IrValue StagePoint::AxisValue(int axis, int lanes) {
  if (axis != vector_axis_ || lanes == 1) return axes_[axis];
  return b_.ir().CreateAdd(b_.Splat(axes_[axis], lanes), b_.LaneIds(lanes));
}

// offset + Σ coefficient · axis (+ index read), i64; a vector if it varies over the lanes and `expand`, else its
// value at lane 0.
IrValue StagePoint::IndexValue(const IndexExpr& expr, int lanes, bool expand, const IrValues& reads) {
  IrValue value = b_.I64(expr.offset);
  for (const IndexExpr::Term& term : expr.terms) {
    IrValue axis = expand ? AxisValue(term.axis, lanes) : axes_[term.axis];
    IrValue scaled =
        b_.ir().CreateMul(axis, b_.Splat(b_.I64(term.coefficient), KernelBuilder::LanesOf(axis)), "", true, true);
    const int width = std::max(KernelBuilder::LanesOf(value), KernelBuilder::LanesOf(scaled));
    value = b_.ir().CreateAdd(b_.Splat(value, width), b_.Splat(scaled, width), "", false, true);
  }
  if (expr.read >= 0) {
    IrValue index = reads[expr.read];
    const int index_lanes = KernelBuilder::LanesOf(index);
    llvm::Type* i64 = b_.VectorType(DType::kI64, index_lanes);
    index = b_.ir().CreateSExt(index, i64);
    index = b_.ir().CreateMul(index, b_.Splat(b_.I64(expr.read_scale), index_lanes));
    const int width = std::max(KernelBuilder::LanesOf(value), index_lanes);
    value = b_.ir().CreateAdd(b_.Splat(value, width), b_.Splat(index, width));
  }
  return value;
}

bool StagePoint::MayLeave(const IndexExpr& expr, int64_t extent) const {
  if (expr.read >= 0) return true;
  int64_t low = expr.offset, high = expr.offset;
  for (const IndexExpr::Term& term : expr.terms) {
    const int64_t reach = term.coefficient * (stage_.extents[term.axis] - 1);
    (reach < 0 ? low : high) += reach;
  }
  return low < 0 || high >= extent;
}

IrValue StagePoint::And(IrValue x, IrValue y) {
  if (x == nullptr || y == nullptr) return x == nullptr ? y : x;
  const int width = std::max(KernelBuilder::LanesOf(x), KernelBuilder::LanesOf(y));
  return b_.ir().CreateAnd(b_.Splat(x, width), b_.Splat(y, width));
}

// The flat position: at lane 0 when lanes are consecutive or equal, else of each lane.
IrValue StagePoint::FlatIndex(const Access& access, int lanes, bool expand, const IrValues& reads) {
  const std::vector<int64_t> strides = access.view.Strides();
  IrValue flat = nullptr;
  for (size_t d = 0; d < access.index.size(); ++d) {
    IrValue index = IndexValue(access.index[d], lanes, expand, reads);
    const int index_lanes = KernelBuilder::LanesOf(index);
    index = b_.ir().CreateMul(index, b_.Splat(b_.I64(strides[d]), index_lanes), "", false, true);
    if (flat == nullptr) {
      flat = index;
      continue;
    }
    const int width = std::max(KernelBuilder::LanesOf(flat), index_lanes);
    flat = b_.ir().CreateAdd(b_.Splat(flat, width), b_.Splat(index, width), "", false, true);
  }
  return flat == nullptr ? b_.I64(0) : flat;
}

IrValue StagePoint::Read(const Access& access, int lanes, IrValue mask, const IrValues& reads) {
  const IrValue pointer = Pointer(access.buffer);
  const DType stored = compute_.BufferType(access.buffer).dtype;
  const DType type = ComputeType(stored);
  const int64_t stride = vector_axis_ >= 0 ? StrideAlong(access, vector_axis_) : 0;
  bool index_varies = false;
  for (const IndexExpr& expr : access.index) {
    index_varies |= expr.read >= 0 && KernelBuilder::LanesOf(reads[expr.read]) > 1;
  }
  // Conditions under which the element exists; scalar where they do not vary over the lanes.
  IrValue condition = nullptr;
  bool condition_varies = false;
  if (access.guarded) {
    for (size_t d = 0; d < access.index.size(); ++d) {
      if (!MayLeave(access.index[d], access.view[d])) continue;
      IrValue index = IndexValue(access.index[d], lanes, /*expand=*/true, reads);
      const int width = KernelBuilder::LanesOf(index);
      condition = And(condition, b_.ir().CreateICmpULT(index, b_.Splat(b_.I64(access.view[d]), width)));
      condition_varies |= width > 1;
    }
  }
  const bool one_lane = lanes == 1 || (stride == 0 && !index_varies && !condition_varies);
  const bool consecutive = stride == 1 && !index_varies && lanes > 1;
  IrValue fill = nullptr;
  if (access.guarded) fill = b_.Constant(type, access.fill);
  const int wide = one_lane ? 1 : lanes;
  // Whatever lies at the start of the buffer may be read in its stead.
  const bool has_start = access.view.num_elements() >= wide && TypeInfo(stored).bits >= 8;
  if (b_.target().IsGpu() && condition != nullptr && !condition_varies && mask == nullptr && has_start &&
      (one_lane || consecutive)) {
    return ReadUnlessOutside(access, wide, condition, reads);
  }
  if (one_lane) return b_.Load(pointer, FlatIndex(access, 1, false, reads), stored, 1, condition, fill);
  if (condition != nullptr) condition = b_.Splat(condition, lanes);
  condition = And(condition, mask);
  if (consecutive) {
    return b_.Load(pointer, FlatIndex(access, lanes, false, reads), stored, lanes, condition,
                   access.guarded ? fill : nullptr);
  }
  IrValue indices = b_.Splat(FlatIndex(access, lanes, true, reads), lanes);
  return b_.Gather(pointer, indices, stored, condition, access.guarded ? fill : nullptr);
}

// A load that takes another place where there is nothing, so that no branch keeps neighbouring loads apart.
IrValue StagePoint::ReadUnlessOutside(const Access& access, int lanes, IrValue condition, const IrValues& reads) {
  const DType stored = compute_.BufferType(access.buffer).dtype;
  IrValue at = b_.ir().CreateSelect(condition, FlatIndex(access, lanes, false, reads), b_.I64(0));
  IrValue value = b_.Load(Pointer(access.buffer), at, stored, lanes);
  return b_.ir().CreateSelect(condition, value, b_.Constant(ComputeType(stored), access.fill, lanes));
}

void StagePoint::Write(IrValue value, int lanes, IrValue mask) {
  if (!stage_.finish.empty()) {
    IrValues inputs = {value};
    for (const Access& access : stage_.finish_reads) inputs.push_back(Read(access, lanes, mask, {}));
    value = EmitBody(b_, stage_.finish, inputs, [&](int axis) { return AxisValue(axis, lanes); });
  }
  value = b_.Splat(value, lanes);
  const Access& access = stage_.write;
  const IrValue pointer = Pointer(access.buffer);
  const DType stored = compute_.BufferType(access.buffer).dtype;
  const int64_t stride = lanes > 1 ? StrideAlong(access, vector_axis_) : 1;
  if (lanes == 1 || stride == 1) {
    b_.Store(pointer, FlatIndex(access, lanes, false, {}), stored, value, mask);
  } else {
    b_.Scatter(pointer, b_.Splat(FlatIndex(access, lanes, true, {}), lanes), stored, value, mask);
  }
}

IrValue StagePoint::Pointer(BufferRef ref) {
  return ref.kind == BufferKind::kInput ? b_.arg(ref.index) : b_.arg(static_cast<int>(compute_.inputs.size()));
}

}  // namespace tessera
