// MatmulCore: what a block's warps do with two tiles in shared memory: sums[row, column] += A[row, :] · B[:, column].
//
// A block of warps_m x warps_n x slices warps has a tile of tile_m rows and tile_n columns; slices share the places of
// one warp and take turns along the depth, so that small tiles too have enough warps. Three cores:
//
//   fma   f32; and where a chip's matrix cores do not take them f16 and bf16, widened, and bytes, four at once: lane (m
//   of 8, n of 4) has every 8th row and every 4th column (or 4 neighbours) of its warp's part; the
//         loads of a warp meet 8 rows and 4 columns, all in different banks
//
//            for piece of this slice:                 # 4 steps of the depth
//              a[i] = A[row i, piece], b[j] = B[column j, piece]
//              sums[i, j] += a[i][d] * b[j][d], d = 0..3
//
//   mma   f16, bf16, tf32, bytes: mma.sync on fragments of 16 rows, 8 columns and 32 bytes of depth, by ldmatrix
//
//   mma_f64   f32, widened, on the FP64 tensor cores of sm_80 and sm_90 (f64_core.h)
//
//   mma_sp   f16, bf16, bytes: mma.sp, where B is constant and keeps two of each four along the depth
//   (two_of_four_core.h)
//
//   mfma, wmma   f32, f16, bf16, bytes on AMD's matrix cores, in blocks of 16x16 (wave_core.h)
//
// The last kind of tiling, wgmma, is a kernel of its own (wgmma_kernel.h).
//
// Whatever type they are of, operands lie as TileCopy writes them. Sums are f32, or i32 of bytes. Tested by
// gpu_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_MATMUL_CORE_H_
#define TESSERA_CODEGEN_EMIT_GPU_MATMUL_CORE_H_

#include <memory>
#include <string>

#include "codegen/emit/gpu/tile_copy.h"
#include "codegen/emit/kernel_builder.h"

namespace tessera {

struct MatmulTiling {
  enum class Core : uint8_t { kFma, kMma, kWgmma, kMfma, kWmma, kMmaSp, kMmaF64 };
  Core core = Core::kFma;
  int tile_m = 128, tile_n = 128;
  int tile_k_bytes = 128;  // of depth, in A's bytes
  int warps_m = 2, warps_n = 4, slices = 1;
  int stages = 3;
  int splits = 1;    // blocks that share a tile's depth
  int per_unit = 1;  // kWgmma, kMmaF64: blocks on a multiprocessor at once
  int wave = 32;     // lanes of a warp; kMfma: 64

  // Those that multiply, and with kWgmma the warp that has the tiles brought: a warpgroup of its own where the others
  // need the registers that its threads leave.
  bool gives_registers() const { return core == Core::kWgmma && tile_m * tile_n > 128 * 192; }
  int threads() const {
    const int bringing = core != Core::kWgmma ? 0 : gives_registers() ? 4 : 1;
    return wave * (warps_m * warps_n * slices + bringing);
  }
  int warp_m() const { return tile_m / warps_m; }
  int warp_n() const { return tile_n / warps_n; }
  // Rows of a warp that a register row of its sums has, and elements behind a staged row (MatmulCore, below).
  int register_row() const { return core == Core::kFma || core == Core::kMmaSp ? 8 : 16; }
  int padding() const { return core == Core::kFma || core == Core::kMmaSp || core == Core::kMmaF64 ? 4 : 8; }
  // "fma 128x64 4x2x1 stages 3 split 2": tile, warps and slices, stages; splits where there are any. "wgmma 128x256
  // stages 4", "wgmma 64x64 stages 6 twice": with two blocks on a multiprocessor. Names stay.
  std::string Name() const;
};

class MatmulCore {
 public:
  virtual ~MatmulCore() = default;
  // Zeros.
  virtual IrValues Start() = 0;
  // The products of one stage, whose tiles of A and B begin at `a` and `b` (address space 3).
  virtual IrValues Multiply(IrValue a, IrValue b, IrValues sums) = 0;
  // Register rows that the tile's rows are made of, each the same rows of every warp: the tile can be finished in
  // parts.
  virtual int num_register_rows() const = 0;
  // Writes register rows [first, first + count) to `staging`, `pitch` elements a row. Row `r` there is row
  // RowOf(r, first, count) of the tile. `adds`: to what is there.
  virtual void Stage(const IrValues& sums, int first, int count, IrValue staging, int pitch, bool adds) = 0;
  // Elements behind a staged row that keep its writes in different banks.
  virtual int padding() const = 0;
};

// `a` and `b` are the operands' tiles; `thread` is the thread's number in the block.
std::unique_ptr<MatmulCore> MakeMatmulCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                           const TileOperand& bt);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_MATMUL_CORE_H_
