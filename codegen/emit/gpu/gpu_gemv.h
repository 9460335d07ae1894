// GpuGemv: products with few rows, whose time is that of reading B once.
//
//   warp -> columns first … first + C-1, share s of the depth
//   for piece = s * 32 + lane; piece < pieces of a line; += 32 * slices      # 16 bytes each, whole lines a warp
//     w[c] = B[first + c, piece]; x[r] = A[r, piece]
//     sums[r, c] += x[r] · w[c]                                              # f32, or i32 of bytes, four at once
//   sums over the lanes by shuffles, over slices through shared memory
//   lane r * C + c: epilogue, store
//
// B lies as [columns, depth], a constant laid so now; A's lines start at multiples of 16 bytes. Tested by
// gpu_gemv_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_GEMV_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_GEMV_H_

#include <string>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/matmul_problem.h"
#include "codegen/plan.h"

namespace tessera {

struct GpuGemv {
  static constexpr int kMostRows = 16, kWarps = 8;  // warps of a block

  DType a = DType::kF32, b = DType::kF32;
  int64_t rows = 1, columns = 1, depth = 1;
  int64_t pitch = 1;     // elements from one of B's lines to the next: whole pieces, zeros or the next line's behind
  int warp_columns = 1;  // C above; rows * warp_columns <= 32
  int align = 16;        // bytes of which A and B start at a multiple
  int slices = 1;        // warps that share a column's depth, a divisor of kWarps

  int elements() const { return 16 / (TypeInfo(a).bits / 8); }  // of a piece
  int64_t pieces() const { return depth / elements(); }
  int64_t groups() const { return (columns + warp_columns - 1) / warp_columns; }
  int64_t blocks() const { return (groups() * slices + kWarps - 1) / kWarps; }
  int64_t shared_bytes() const { return slices == 1 ? 0 : int64_t{kWarps} * 32 * 4; }
  DType sum() const { return IsFloat(a) ? DType::kF32 : DType::kI32; }
  std::string Way() const;
};

// Arguments A, B, then the epilogue's operands and C.
KernelSpec GpuGemvKernel(const GpuGemv& gemv, const TileEpilogue& epilogue);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_GEMV_H_
