// The core of matmul_core.h for weights that keep two of each four along the depth, on NVIDIA's sparse tensor cores
// (mma.sp, from sm_80): half the products, half the weights' bytes.
//
// The instruction's sparse operand is its first, whose rows are those of the result. So weights are that one here:
// their 16 rows are 16 columns of the tile, eight of A's rows are the product's columns, and sums come turned:
//
//   for step of this slice:                                   # 64 bytes of A's depth
//     w[j] = 16 columns of B, 32 bytes of what is kept of them, by ldmatrix; which[j], a word a lane
//     for i: x = 8 rows of A, 64 bytes, by ldmatrix;  for j: sums[i, j] += w[j] · x
//
// B's tile has lines of 128 bytes for A's 256. Behind it lies which of four its elements are: for each step 32 words,
// lane l's of 32 columns of halves (16 of bytes) the l-th, as nv.mma.sp takes them (device_ops.def). Tested by
// gpu_two_of_four_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_TWO_OF_FOUR_CORE_H_
#define TESSERA_CODEGEN_EMIT_GPU_TWO_OF_FOUR_CORE_H_

#include <memory>

#include "codegen/emit/gpu/matmul_core.h"

namespace tessera {

// A stage: bytes of A's depth, and of B's lines.
constexpr int kTwoOfFourStage = 256, kTwoOfFourLine = 128;
// Bytes of A's depth that one product takes, and words that say what is kept of 32 columns of halves there, or of 16 of
// bytes.
constexpr int kTwoOfFourStep = 64, kTwoOfFourWords = 32;
// Columns of B whose words lie together.
inline int RowsOfWhich(DType weights) { return IsFloat(weights) ? 32 : 16; }

std::unique_ptr<MatmulCore> MakeTwoOfFourCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                              const TileOperand& bt);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_TWO_OF_FOUR_CORE_H_
