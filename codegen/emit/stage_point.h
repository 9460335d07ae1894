// StagePoint: the body, finish and result of a Stage at one point of its axes, or at several side by side.
//
//   StagePoint point(b, single, vector_axis);          // a Compute of one stage; its buffers are the kernel's
//   arguments point.SetAxis(0, row); point.SetAxis(1, column);   // i64; on the vector axis that of lane 0
//   point.Write(point.Value(4, nullptr), 4, nullptr);  // four columns
//
// Along the vector axis an access is one of: the same for all lanes (a scalar load), consecutive (a vector load),
// anything else (a gather). Whoever walks the axes, on processors or GPUs, writes with this. Tested by stage_test.cc
// and through the emitters.
#ifndef TESSERA_CODEGEN_EMIT_STAGE_POINT_H_
#define TESSERA_CODEGEN_EMIT_STAGE_POINT_H_

#include "codegen/emit/kernel_builder.h"
#include "graph/compute.h"

namespace tessera {

class StagePoint {
 public:
  // `vector_axis` -1: none. `compute` has one stage and outlives this.
  StagePoint(KernelBuilder& b, const Compute& compute, int vector_axis)
      : b_(b), compute_(compute), stage_(compute.stages[0]), vector_axis_(vector_axis), axes_(stage_.rank(), nullptr) {}

  void SetAxis(int axis, IrValue position) { axes_[axis] = position; }
  // The body's value; a scalar where it does not vary over the lanes. `mask` (or nullptr): lanes that exist.
  IrValue Value(int lanes, IrValue mask);
  // Applies the finish and stores. Needs the parallel axes only.
  void Write(IrValue value, int lanes, IrValue mask);

 private:
  IrValue AxisValue(int axis, int lanes);
  IrValue IndexValue(const IndexExpr& expr, int lanes, bool expand, const IrValues& reads);
  bool MayLeave(const IndexExpr& expr, int64_t extent) const;
  IrValue And(IrValue x, IrValue y);
  IrValue FlatIndex(const Access& access, int lanes, bool expand, const IrValues& reads);
  IrValue Read(const Access& access, int lanes, IrValue mask, const IrValues& reads);
  IrValue ReadUnlessOutside(const Access& access, int lanes, IrValue condition, const IrValues& reads);
  IrValue Pointer(BufferRef ref);

  KernelBuilder& b_;
  const Compute& compute_;
  const Stage& stage_;
  const int vector_axis_;
  IrValues axes_;
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_STAGE_POINT_H_
