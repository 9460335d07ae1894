// Tiles: the dense pieces of a sparse matrix, as data, and the part of a sparse product that multiplies them.
//
// A tile is some rows of one block of the schedule that keep the same columns, up to as many as the registers hold:
// that is what blocks of any size come down to, and what is left when rows and columns have died.
//
//          columns 4-7   12-15
//   rows 0-3   ▓▓▓▓       ▓▓▓▓       a tile: rows 0 1 2 3, columns 4 5 6 7 12 13 14 15
//   row  4                           a tile of no columns: its sums are 0
//   rows 5, 7  ▓▓▓▓                  a tile of two rows
//
//   for tile:                                              the core: LLVM writes one loop for each height that occurs
//     sum[row] = 0 (or what the parts before have summed up)
//     for column of the tile:                              its place in the panel is data, read once for all rows
//       x = panel[column];  sum[row] += x * splat(*w++)    rows × registers of a panel multiply-adds
//     sums[row] = sum[row]
//
// Zeros that fill blocks are columns like others. Time is that of a dense kernel: with 8 rows or more the multiply-adds
// bind, below that the loads of x. Values only; functions are stateless. Tested by sparse_tiles_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_SPARSE_TILES_H_
#define TESSERA_CODEGEN_EMIT_HOST_SPARSE_TILES_H_

#include <cstdint>
#include <vector>

#include "codegen/emit/host/sparse_matmul.h"

namespace tessera {

struct SparseTile {
  int64_t block = 0;             // of the schedule
  std::vector<int32_t> rows;     // within the block, ascending
  std::vector<int32_t> columns;  // units, ascending
};

// Each row of the matrix is in exactly one tile; a tile has at most `max_rows`, and those of equal columns differ by
// one at most. By blocks, then by height.
std::vector<SparseTile> CutTiles(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, int max_rows);

// Rows of a tile such that its sums, a row of the panel and a weight fit the registers.
int MaxTileRows(const SparseProblem& problem, const Target& target);

// `share.pattern` is what is stored, `share.kept` what is not zero in it. `adds`: not the first part of its kernel.
SparsePart TilesPart(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule, bool adds,
                     PlanBuilder& builder);
double TilesCoreNanoseconds(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule,
                            const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_SPARSE_TILES_H_
