// What the cores of matmul_core.h share: where this thread's warp stands in the block. Tested by gpu_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_MATMUL_CORE_BASE_H_
#define TESSERA_CODEGEN_EMIT_GPU_MATMUL_CORE_BASE_H_

#include "codegen/emit/gpu/matmul_core.h"

namespace tessera {

class MatmulCoreBase : public MatmulCore {
 public:
  MatmulCoreBase(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a, const TileOperand& bt)
      : b_(b), t_(tiling), a_(a), bt_(bt) {
    IrValue thread = b.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(tiling.wave - 1), "lane");
    IrValue warp = ir().CreateUDiv(thread, I32(tiling.wave), "warp");
    warp_m_ = ir().CreateURem(warp, I32(tiling.warps_m), "warp_m");
    warp = ir().CreateUDiv(warp, I32(tiling.warps_m));
    warp_n_ = ir().CreateURem(warp, I32(tiling.warps_n), "warp_n");
    slice_ = ir().CreateUDiv(warp, I32(tiling.warps_n), "slice");
  }

 protected:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : ir().CreateAdd(x, I32(y)); }
  IrValue At(IrValue base, IrValue bytes) { return ir().CreateGEP(ir().getInt8Ty(), base, bytes); }
  // The first of this slice's pieces of a stage along the depth, as a number of groups of `of` pieces.
  int PerSlice(int groups) const { return groups / t_.slices; }
  DType sum_type() const { return IsFloat(a_.type) ? DType::kF32 : DType::kI32; }

  KernelBuilder& b_;
  const MatmulTiling t_;
  const TileOperand a_, bt_;
  IrValue lane_, warp_m_, warp_n_, slice_;
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_MATMUL_CORE_BASE_H_
