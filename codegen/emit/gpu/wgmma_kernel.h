// The kernel of dense matrix products where warpgroups multiply and tiles come by themselves (sm_90a).
//
//   C[group][row, column] = epilogue(sum over depth of A[group][row, depth] * B[group][column, depth])
//
// As many blocks as the card holds stay from the first tile to the last. In a block one warp brings tiles, the others
// multiply, four of them 64 rows; they meet at barriers in shared memory, two a stage: `full` ends its phase when a
// stage's bytes have come, `empty` when all warps have read them.
//
//   bringing warp, one thread            multiplying warps
//   for tile of this block:              for tile of this block:
//     for step of the depth:               for step of the depth:
//       wait for empty[stage]                wait for full[stage]
//       A tile, B tile -> stage, full        sums += A · B of the stage         # wgmma, goes on by itself
//       next stage                           wait for the products of the step before: its stage is empty
//                                          sums -> shared memory -> epilogue -> C, a part of the columns at a time
//
// So the next tile's first stages come while this one's results are stored. Tiles lie in shared memory as wgmma's and
// the tensor maps' 128-byte swizzle has them: lines of 128 bytes of depth, pieces of 16 bytes turned by the line's
// number, as TileCopy lays them. What is outside a matrix is zeros by the maps' bounds; rows of a tile that belong to
// the next matrix of a batch are multiplied and not stored. Sums are f32, or i32 of bytes. Tested by
// wgmma_kernel_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_WGMMA_KERNEL_H_
#define TESSERA_CODEGEN_EMIT_GPU_WGMMA_KERNEL_H_

#include <string>
#include <vector>

#include "codegen/emit/gpu/matmul_kernel.h"

namespace tessera {

// Can the chip's warpgroups multiply these operands as they lie? `why` says what they lack.
bool WgmmaTakes(const GpuMatmul& matmul, const Target& target, std::string* why);

int64_t WgmmaSharedBytes(const MatmulTiling& tiling);

// The product; arguments A, B, then the epilogue's operands and C, or with splits the partial sums; tensor maps of A
// and B. The launch is of matmul.blocks() blocks.
KernelSpec WgmmaKernel(const GpuMatmul& matmul, const TileEpilogue& epilogue);
std::vector<TensorMap> WgmmaTensorMaps(const GpuMatmul& matmul);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_WGMMA_KERNEL_H_
