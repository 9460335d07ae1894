// ScatteredStream: a matrix whose kept elements follow no pattern, as straight code that multiplies panels by it.
//
//   sums[row][lane] = sum over kept (row, k) of W[row, k] * x[k][lane]          one panel: 16 lanes, x is [depth][16]
//
//   group of rows, as many as fit the registers:             for each k that any of the group's rows keeps:
//     zmm0 … zmm30 = 0, or the sums so far                     zmm31 = x[k]                       loaded once
//     …                                                        zmm_row += zmm31 * [weights++]     for each row that
//     sums[row] = zmm_row                                                                         keeps (row, k)
//
// k counts *units*: what a 32-bit lane holds, and one multiply-add takes. That is one f32, or four integers of 8 bits,
// whose products one instruction adds up (SparseUnit). A unit is kept where any of its elements is.
//
// The pattern is the code; the values are data, read front to back by the multiply-adds themselves, so that new values
// of the same pattern need no compilation. On AVX2, which has no broadcast within a multiply-add, a group is 6 rows of
// 2 registers each, and a broadcast serves both.
//
// Roofline: cycles for a kept unit and a panel, with r kept units for each column that a group loads:
//
//   Zen 4, AVX-512   max(1, (1 + 2/r) / 2)      one 512-bit multiply-add a cycle; two loads, a 512-bit one counts twice
//   Zen 5, AVX-512   max(1/2, (1 + 1/r) / 2)    two multiply-adds, two loads of any width
//   Zen 4, AVX2      max(1, (1 + 2/r) / 2)      two multiply-adds and two loads a cycle, a panel is two registers
//
// 31 rows have r = 2 from 6 % kept on and r = 3.2 at 10 %, 6 rows r = 1.3 at 10 %: on Zen 4 multiply-adds bind AVX-512
// nearly always. Code is read at 7 + 7/r bytes a unit, which the second level delivers in time. Time that is
// measured stands in sparse_stream.cc.
//
// Blocks in a pattern need not be straight code. Where at least kMinRunRows rows of a group keep kMinRunColumns columns
// or more in a row, a *rolled* stream has a loop over those columns; what other rows keep there follows it, straight:
//
//   a group of 16 rows, k = 32 … 63 kept by all (a run), k = 70 by rows 3 and 9:
//     16 times:  zmm31 = x[0], zmm30 = x[1];  zmm_row += zmm31 * [w++], zmm_row += zmm30 * [w++] for all rows;  x += 2
//     zmm31 = x[70];  zmm3 += zmm31 * [w++];  zmm9 += zmm31 * [w++]
//
// so that blocks and scattered elements are one function with one set of sums. Measured on 1024x1024 with 20 % of the
// 32x32 blocks and 1 % of the rest, 64 panels: straight 4120 us (1.6 MB of code), rolled 3850 us (0.23 MB), 97.6 % of
// the multiply-adds' peak: the second level delivers panels and weights, and hardly any code.
//
// No hardware fetches code ahead, and a network's code comes from beyond the second level for every inference. So each
// call of a block's function asks for its share of the *next* block's code and weights: with p panels one line in p,
// spread over the function, 2 % more instructions. Microseconds of a layer of 3072x768 times 128 columns on a Zen 4, of
// 24 different ones back to back (sparse_layers_benchmark; ideal: the multiply-adds alone):
//
//                     ideal   nothing fetched   fetched ahead   and depth in chunks      code and weights of all layers
//   f32, 10 % kept    514     1022              894             732                      74 MiB
//   f32, 20 % kept    1028    1721              1183            1208                     137 MiB
//   1x4, 10 % kept    129     260               188             186                      20 MiB
//   1x4, 20 % kept    257     475               352                                      35 MiB
//
// Values only; thread-compatible. Tested by scattered_stream_test.cc (order and runs) and sparse_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_SCATTERED_STREAM_H_
#define TESSERA_CODEGEN_EMIT_SCATTERED_STREAM_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tesa/bitmap.h"
#include "tesa/types.h"

namespace tessera {

// Lanes of a panel on every processor: one register of AVX-512, two of AVX2.
inline constexpr int kPanelLanes = 16;

// What a 32-bit lane of a panel and a 32-bit weight hold, and what multiplies and adds them.
enum class SparseUnit : uint8_t {
  kF32,      // one f32 each
  kInt8x4,   // u8 of x, i8 of W, four each, sums i32: vpdpbusd
  kInt16x2,  // the same widened to 16 bits, two each: vpmaddwd and an addition, exact where there is no vpdpbusd
};
inline int ElementsOf(SparseUnit unit) { return unit == SparseUnit::kF32 ? 1 : unit == SparseUnit::kInt8x4 ? 4 : 2; }
inline DType SumsOf(SparseUnit unit) { return unit == SparseUnit::kF32 ? DType::kF32 : DType::kI32; }
std::string_view Name(SparseUnit unit);

// Which units of W [rows, depth] are kept.
struct ScatteredPattern {
  int64_t rows = 0, depth = 0;   // depth in units
  std::vector<int64_t> begin;    // of each row in `columns`, and the end: rows + 1 numbers
  std::vector<int32_t> columns;  // units, ascending within a row

  // Element (row, k) is bit row * row_step + k * depth_step of `kept`, k < depth; `elements` of them are a unit.
  static ScatteredPattern Make(const Bitmap& kept, int64_t rows, int64_t depth, int64_t row_step, int64_t depth_step,
                               int elements = 1);
  int64_t num_kept() const { return static_cast<int64_t>(columns.size()); }
  double density() const;
  std::string Digest() const;  // of everything above
};

// Rows that one task computes, and how they fall into groups.
struct ScatteredBlocks {
  int64_t rows = 0;         // of the matrix
  int64_t block_rows = 16;  // at most; a multiple of kPanelLanes, except where there is only one block
  int group_rows = 31;      // at most
  bool rolled = false;      // runs are loops; of streams
  // Units of the depth that all of a block's groups meet before any meets the next ones; 0: each group the whole depth.
  // So a panel larger than the first-level cache comes from the second once for a block, not once for each group, for
  // sums that are stored and loaded in between.
  int64_t depth_chunk = 0;
  // Where blocks begin, and `rows` at the end, all but that multiples of kPanelLanes; empty: every block_rows.
  std::vector<int64_t> cuts;

  int64_t blocks() const {
    return cuts.empty() ? (rows + block_rows - 1) / block_rows : static_cast<int64_t>(cuts.size()) - 1;
  }
  int64_t first_row(int64_t block) const { return cuts.empty() ? block * block_rows : cuts[block]; }
  int64_t rows_of(int64_t block) const {
    return cuts.empty() ? std::min(block_rows, rows - block * block_rows) : cuts[block + 1] - cuts[block];
  }
  // The groups of a block differ by one row at most.
  int64_t groups_of(int64_t block) const { return (rows_of(block) + group_rows - 1) / group_rows; }
  std::string Key() const;
};

// What makes a run of a rolled stream: that many rows of a group, in that many consecutive columns.
inline constexpr int kMinRunRows = 4;
inline constexpr int64_t kMinRunColumns = 8;

// Calls on_chunk(first column), on_group(first row, rows), on_column(k), on_element(row, k) in the order of the stream,
// block by block; k and elements are units. The columns and elements of a run come between on_run(k, columns, rows) and
// after_run; every column of it has the same rows, the bits of `rows` from the group's first on. Beyond a block's first
// chunk, which begins at column 0, groups that keep nothing in it are left out.
struct StreamVisitor {
  std::function<void(int64_t block)> on_block = [](int64_t) {};
  std::function<void(int64_t first_column)> on_chunk = [](int64_t) {};
  std::function<void(int64_t first_row, int rows)> on_group = [](int64_t, int) {};
  std::function<void(int64_t k)> on_column = [](int64_t) {};
  std::function<void(int64_t row, int64_t k)> on_element = [](int64_t, int64_t) {};
  std::function<void(int64_t k, int64_t columns, uint32_t rows)> on_run = [](int64_t, int64_t, uint32_t) {};
  std::function<void()> after_run = [] {};
  std::function<void(int64_t first_row, int rows)> after_group = [](int64_t, int) {};
  std::function<void(int64_t block)> after_block = [](int64_t) {};
};
void WalkStream(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, const StreamVisitor& visitor);

// What a stream costs, counted.
struct StreamCounts {
  int64_t elements = 0, column_loads = 0, groups = 0;
  int64_t starts = 0;                                   // rows of all groups in all chunks: sums made ready and stored
  int64_t runs = 0, run_elements = 0, run_columns = 0;  // of elements and column_loads, those in loops
  int64_t run_rows = 0;                                 // of all runs: a loop's instructions are two for each
};
StreamCounts CountStream(const ScatteredPattern& pattern, const ScatteredBlocks& blocks);

// What happens to sums while they are in registers, one step after the other: sum = sum op operand. For f32 on AVX-512.
struct StreamStep {
  enum class Op : uint8_t { kAdd, kSub, kMul, kMin, kMax } op = Op::kAdd;  // kMin, kMax: with constants
  enum class With : uint8_t { kConstant, kRow, kElement } with = With::kConstant;
  float constant = 0;
  int operand = 0;        // kRow (one f32 a row), kElement (16): which of the pointers behind `sums`
  int64_t row_bytes = 0;  // of the operand: from one row to the next
  friend bool operator==(const StreamStep&, const StreamStep&) = default;
};
inline constexpr int kMaxStreamOperands = 2;

// Functions void(const void* panel, const void* weights, void* sums, int64_t, const void*, const void*), System V, that
// use no stack: one a block, `sums` is [rows of the block][kPanelLanes], 32 bits each. The last two are what to fetch
// ahead: next code and next weights; or the operands of a finish, which leaves no room for fetching.
struct StreamCode {
  std::string bytes;
  std::vector<int64_t> entry;          // of each block in `bytes`, 64-byte aligned
  std::vector<int64_t> first_element;  // of each block in the stream of weights
  // Bytes of the next block's code and weights that a call asks for, from next_code and next_weights on.
  std::vector<int64_t> code_share, weights_share;
};
struct StreamForm {
  SparseUnit unit = SparseUnit::kF32;
  bool avx512 = true;  // with AVX512-VNNI where the unit is kInt8x4; otherwise AVX2 with FMA
  bool adds = false;   // to what `sums` hold; otherwise they start at zero
  // Calls over which the fetching of the next block is spread; 0: nothing is fetched ahead.
  int64_t panels = 0;
  // From one unit of x to the next, from one row of sums to the next: those of panels and of a block's own sums, unless
  // x and the result lie otherwise (planes.h).
  int64_t column_bytes = kPanelLanes * 4, row_bytes = kPanelLanes * 4;
  std::vector<StreamStep> finish;  // with the whole depth in one chunk

  // Rows that a group may have at most: all registers but those of the panel's row and of what a multiply-add needs.
  int MaxGroupRows() const { return !avx512 ? 6 : unit == SparseUnit::kInt16x2 ? 30 : 31; }
  std::string Key() const;
};
StreamCode EncodeStream(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, const StreamForm& form);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_SCATTERED_STREAM_H_
