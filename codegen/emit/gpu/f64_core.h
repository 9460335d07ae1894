// The core of matmul_core.h for strict f32 on the FP64 tensor cores that some NVIDIA chips have (mma.sync of f64).
//
// Operands are f32 in memory and in shared memory. They are widened on the way into fragments, which loses nothing;
// a product of two has 48 bits, which f64 holds; sums are kept in f64 and rounded to f32 once, at the end of a slice.
// So results are at least as exact as any order of fused multiply-adds of f32. On an H100 these products go at the rate
// of fused multiply-adds, 128 a cycle and multiprocessor, but a warp's fragments come through shared memory once for 32
// to 64 products each instead of 8, which is what holds fused multiply-adds back (docs/results/nvptx_matmul.md).
//
//   for step of this slice:                                  # 16 of the depth
//     a[i] = 16 rows of A, b[j] = 8 columns of B             # lane (g of 8, t of 4): row or column g, depth 4t … 4t+3
//     sums[i, j] += a[i] · b[j]                              # nv.mma.m16n8k16.f64, or eight nv.mma.m8n8k4.f64
//
// Which of the 16 steps of depth an instruction takes for which does not matter, as long as A and B agree: a lane's
// four lie side by side, so that they are one load of 16 bytes. Neither does which row is which: lane g has row or
// column g/2 + 4·(g%2) of eight, so that two neighbouring lanes' pieces lie in different banks. Tested by
// gpu_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_F64_CORE_H_
#define TESSERA_CODEGEN_EMIT_GPU_F64_CORE_H_

#include <memory>

#include "codegen/emit/gpu/matmul_core.h"

namespace tessera {

// Of the depth, in bytes of f32: what a step takes. Rows or columns that a warp has at least where they run along
// lines.
constexpr int kF64StepBytes = 64, kF64Across = 32;

std::unique_ptr<MatmulCore> MakeF64Core(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                        const TileOperand& bt);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_F64_CORE_H_
