// Contraction: the register-tiled loop nest that dense matmul and convolution share.
//
//   C[row, column] = epilogue(sum over depth of A[row, depth] * B[depth, column])
//
//        columns:  |<- panel 0 ->|<- panel 1 ->| …             a panel is `vectors` registers wide
//   rows: tile 0   |  ▓▓▓▓▓▓▓▓▓  |             |               a tile is tile_rows high (the last ones one row less)
//         tile 1   |             |             |
//         …                                                    one task = one tile of one panel: its sums stay in
//         registers
//
//   for group:  for block of tiles:  for panel:  for tile in block:        the order of tasks, so that threads get
//   equal
//     sums[tile_rows][vectors] = 0                                         shares of a few hundred tasks each
//     for k in depth, a unit at a time:
//       b[v] = B[k, panel * width + v * lanes …]                           whole vectors
//       sums[r][v] += splat(A[row + r, k]) * b[v]                          A is broadcast from where it lies
//     C = epilogue(sums)
//
// Where blocks of the depth are scaled (scaled_matmul.cc), a tile holds its sums of f32 beside those of a block.
//
// A unit (dot.h) is one element of f32 or f64, two of bf16, four bytes.
//
// How A and B are addressed is the caller's: matmul.cc walks matrices, conv.cc windows. Why these loops suffice: a
// panel of B is read from the second-level cache once per tile, vectors·lanes elements per rows·vectors multiply-adds,
// which is below what that cache gives; A's tile stays in the first level while it is broadcast. Blocks keep the rows
// of A that one panel meets inside the second-level cache, so that the next panel finds them there.
//
// Structs are values; functions are stateless. Tested by matmul_test.cc and conv_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_CONTRACTION_H_
#define TESSERA_CODEGEN_EMIT_CONTRACTION_H_

#include <functional>
#include <string>

#include "codegen/emit/dot.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/target.h"
#include "tesa/types.h"

namespace tessera {

// The extents of a contraction. Groups are independent ones with an A and a B each: the batches of a matmul (which
// follow each other in C's rows) or the groups of a convolution (in C's columns).
struct ContractionShape {
  Dot dot = {};
  int64_t groups = 1;
  int64_t rows = 1, columns = 1, depth = 1;  // of one group
  int64_t run = 0;                           // elements of A that lie together, after which units start anew; 0: depth
  int64_t block = 0;  // elements of the depth whose sums are scaled before they are added, in f32; 0: they are not
  bool groups_along_columns = false;
  int64_t a_row_step = 0;  // elements from a row of A to the next, where it is not `depth`; for estimates
  int max_tile_rows = 64;  // where the rows of A are addressed one by one, general registers bound the tile too

  // Of what a tile holds from its first product to its last.
  DType sum() const { return block > 0 ? DType::kF32 : dot.sum(); }
  int64_t units() const { return run == 0 ? dot.units(depth) : depth / run * dot.units(run); }
};

struct ContractionSchedule {
  ContractionShape shape;
  int lanes = 1;
  int vectors = 1;    // of a panel; the last panel may use fewer, and of its last vector only some lanes
  int tile_rows = 1;  // of the first `full_tiles` row tiles; the others have one row less
  int64_t tiles = 1;  // row tiles of a group
  int64_t full_tiles = 1;
  int64_t block_tiles = 1;   // row tiles of a block
  int sums_per_element = 1;  // independent sums along the depth, where a tile is too small to hide the latency of one
  int unroll = 2;            // units of one trip
  bool rolled_epilogue = false;

  int64_t width() const { return int64_t{vectors} * lanes; }
  int64_t panels() const { return (shape.columns + width() - 1) / width(); }
  int64_t tasks() const { return shape.groups * panels() * tiles; }
  // Bytes of a thread's scratch that the kernel uses.
  int64_t scratch_bytes() const;
  std::string Key() const;
};

// The quickest schedule by the cost model. `epilogue_cost`: instructions per vector of results.
ContractionSchedule ScheduleContraction(const Target& target, const ContractionShape& shape, int epilogue_cost);
// Its expected time on one core, without starting the step.
double ContractionMicroseconds(const Target& target, const ContractionSchedule& schedule, int epilogue_cost);

// The tile that is being computed, for the caller's addressing.
struct ContractionTile {
  int rows = 1, vectors = 1, lanes = 1;
  IrValue group = nullptr, panel = nullptr;  // i64; the panel within its group
  IrValue row = nullptr;                     // the first row within the group
  IrValue column = nullptr;                  // the first column within the group
  IrValue mask = nullptr;                    // of the last vector; nullptr: all lanes
};

// Adds the products of a tile to `sums`, which hold sums_per_element · rows · vectors vectors and go around as they
// are.
using ContractionBody = std::function<IrValues(const ContractionTile& tile, const IrValues& sums)>;

// The whole nest over the kernel's tasks. The epilogue's arguments start at `first_epilogue_arg`.
void EmitContraction(KernelBuilder& b, const ContractionSchedule& schedule, const TileEpilogue& epilogue,
                     int first_epilogue_arg, const ContractionBody& body);

// The innermost loop: sums += splat(A) * B over `depth` elements that lie together. Row r of A starts at a_rows[r] and
// advances by `a_step` elements, which must be 1 unless the unit is; the row of B for one part of a unit starts at
// `b_rows` and the next one is `b_step` words on; `b_mask` guards the last vector of its rows (nullptr: it may be read
// whole, as in packed panels).
IrValues EmitMultiplyAdd(KernelBuilder& b, const ContractionSchedule& schedule, const ContractionTile& tile,
                         int64_t depth, const IrValues& a_rows, int64_t a_step, IrValue b_rows, int64_t b_step,
                         IrValue b_mask, IrValues sums);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_CONTRACTION_H_
