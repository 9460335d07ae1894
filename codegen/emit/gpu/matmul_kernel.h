// The kernels of dense matrix products on GPUs.
//
//   C[group][row, column] = epilogue(sum over depth of A[group][row, depth] * B[group][depth, column])
//
// A block makes one tile of C, or a share of its depth:
//
//   block -> group, share of the depth, tile (columns of tiles within strips of 8 rows of tiles, which the cache holds)
//   fetch stages 0 … S-2
//   for stage of the share:
//     wait for it; barrier
//     fetch the stage S-1 further on                       # tile_copy.h
//     sums += A tile · B tile                              # matmul_core.h
//   for each part of the tile's rows:
//     sums -> shared memory, slices added; barrier
//     for each vector of the part: epilogue, store         # or, with shares, as it is to partial sums
//
// Shares of the depth are added, and the epilogue applied, by a second kernel. Results do not depend on timing.
// Tested by gpu_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_MATMUL_KERNEL_H_
#define TESSERA_CODEGEN_EMIT_GPU_MATMUL_KERNEL_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/matmul_core.h"
#include "codegen/emit/matmul_problem.h"
#include "codegen/plan.h"

namespace tessera {

struct GpuMatmul {
  MatmulProblem problem;
  MatmulTiling tiling;
  TileOperand a, b;
  int64_t a_matrix = 0, b_matrix = 0;  // elements from one matrix to the next
  // Results that are stored at once: they start at multiples of their size.
  int vector = 1;
  // The groups' columns lie beside each other in C's rows, not their rows below each other.
  bool groups_beside = false;
  // Of B there are only that many tiles, tile_n columns by tile_k of the depth each, one after the other; a column of
  // tiles finds its own by argument 2 (i32: where its list begins, and the end) and which stages of the depth they are
  // by argument 3 (i32 each). Each column has at least one. -1: B is whole.
  int64_t listed = -1;
  // kMmaSp: B keeps two of each four along the depth and lies packed (two_of_four_core.h); argument 2 says which they
  // are.
  TileOperand which;
  int64_t resident = 0;  // kWgmma: blocks that the card holds at once
  // Tiles of A that are not copied: what makes them from the kernel's arguments, of which there are `more_args` behind
  // the output; what that code depends on; and the cycles that a multiprocessor takes for one.
  std::function<std::unique_ptr<TileSource>(KernelBuilder& b, IrValue first_row)> make_a;
  int more_args = 0;
  std::string a_key;
  double a_cycles = 0;

  int64_t tiles_m() const { return (problem.rows + tiling.tile_m - 1) / tiling.tile_m; }
  int64_t tiles_n() const { return (problem.columns + tiling.tile_n - 1) / tiling.tile_n; }
  int tile_k() const { return tiling.tile_k_bytes / a.element_bytes(); }
  int64_t steps() const { return (problem.depth + tile_k() - 1) / tile_k(); }  // stages' worth of the whole depth
  int64_t steps_of_split() const {
    if (listed >= 0) return (listed + tiles_n() - 1) / std::max<int64_t>(1, tiles_n());  // on average
    return (steps() + tiling.splits - 1) / tiling.splits;
  }
  bool packed() const { return tiling.core == MatmulTiling::Core::kMmaSp; }
  int first_epilogue_arg() const { return listed >= 0 ? 4 : packed() ? 3 : 2; }
  // Of a stage: A's tile, B's behind it, then what says what is kept of it.
  int64_t stage_bytes() const { return a.tile_bytes() + b.tile_bytes() + (packed() ? which.tile_bytes() : 0); }
  // Tiles of C, each counted once for every share of its depth.
  int64_t tiles() const { return tiles_m() * tiles_n() * problem.groups() * tiling.splits; }
  // Of a launch: a tile each, or as many as stay on the card from the first tile to the last.
  int64_t blocks() const { return resident > 0 ? std::min(resident, tiles()) : tiles(); }
  DType sum() const { return IsFloat(a.type) ? DType::kF32 : DType::kI32; }
  // Register rows that are finished at once, a divisor of `all`.
  int rows_at_once(int all) const;
  int64_t staging_bytes(int padding, int register_rows, int all) const;
  int64_t shared_bytes() const;
  std::string Key() const;
};

// Where a tile's rows, columns and depth begin and which matrices they are of.
struct TilePlace {
  IrValue split, group;             // i32
  IrValue first_row, first_column;  // i32
  IrValue first_step, num_steps;    // i32: stages of the depth
  IrValue a_matrix, b_matrix;       // i64
};
// Of tile `number` (i32) of GpuMatmul::tiles(). Neighbours share rows or columns that the cache then holds.
TilePlace PlaceOfTile(KernelBuilder& b, const GpuMatmul& matmul, IrValue number);
// Of stage `step` (i32) of the place's depth: where it begins in A's depth and in B's, and B's line that its tile
// begins with (i32).
struct StepPlace {
  IrValue a_depth, b_depth, b_line;
};
StepPlace PlaceOfStep(KernelBuilder& b, const GpuMatmul& matmul, const TilePlace& place, IrValue step);
// Where `row` and `column` (i32) of the place's matrix are in C as a whole (i64); of a place outside, the nearest
// inside.
struct ResultPlace {
  IrValue row, column;
};
ResultPlace PlaceInResult(KernelBuilder& b, const GpuMatmul& matmul, const TilePlace& place, IrValue row,
                          IrValue column);
// Loads what the epilogue's operands have there, which FinishSums with the same emitter and values then takes: for
// several places before the first of them is stored, since an operand may lie where C does.
void FetchOperands(KernelBuilder& b, const GpuMatmul& matmul, EpilogueEmitter& finish, const ResultPlace& at);
// `matmul.vector` sums that are staged: from which element (i32) on, whether their place is inside C (nullptr: it is),
// and the place.
struct StagedResult {
  IrValue from, there;
  ResultPlace at;
};
// These sums of `staging` are C's there: to memory by way of the epilogue, or with splits as they are; nothing outside.
void FinishSums(KernelBuilder& b, const GpuMatmul& matmul, EpilogueEmitter& finish, const TilePlace& place,
                IrValue staging, const StagedResult& vector);
// Is that place inside C? nullptr where all places of all tiles are.
IrValue InsideResult(KernelBuilder& b, const GpuMatmul& matmul, IrValue row, IrValue column);

// The product; arguments A, B, then the epilogue's operands and C, or with splits the partial sums.
KernelSpec GpuMatmulKernel(const GpuMatmul& matmul, const TileEpilogue& epilogue);

// Adds partial sums [splits][rows][columns] of `sum` and applies the epilogue, `vector` columns at once; arguments: the
// partial sums, the epilogue's operands, C. A block of kSplitSumThreads makes that many vectors.
constexpr int kSplitSumThreads = 128;
KernelSpec SplitSumKernel(DType sum, int splits, int64_t rows, int64_t columns, int vector,
                          const TileEpilogue& epilogue);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_MATMUL_KERNEL_H_
