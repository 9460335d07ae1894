// GpuScattered: products with constant weights whose kept elements follow no pattern, on GPUs, with the pattern as data
// (mask_stream.h, row_stream.h).
//
//   Y[row, column] = epilogue(addend[row, column] + sum over kept (row, k) of W[row, k] * X[k, column])
//
// A block has 32 columns of X, transposed, in shared memory: its panel. A warp has groups of eight rows of W and 64
// sums a lane: its eight lane groups take different k of the same set of rows, four lanes with eight columns each.
//
//   segments of the group's stream come to shared memory two ahead (by cp.async where the chip has it)
//   for run of the segment: to the code of its set of rows
//     for trip: places; weights; two rows of the panel, 32 bytes a lane; 16 products a row of the set
//   sums of the lane groups are added, an eighth to each lane; epilogue; 32 bytes of a column to memory together
//
// Where few elements are kept, hardly any is in two of eight rows: the other kernel (`by_row`, row_stream.h) gives a
// lane group a row of its own, whose kept elements it passes over one by one. Nothing is decided by data but where a
// row ends:
//
//   for each of the warp's sets of eight rows: for trip: two places and weights; two rows of the panel; 16 products a
//   lane sums -> shared memory -> epilogue -> memory, a column's rows together
//
// Elements are f32, f16 and bf16 (widened while the panel is written: products and sums are f32), or four bytes with
// sums of i32. Pure functions. Tested by gpu_scattered_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_SCATTERED_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_SCATTERED_H_

#include <optional>
#include <string>
#include <vector>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/sparse_problem.h"
#include "codegen/plan.h"

namespace tessera {

struct GpuScattered {
  int64_t rows = 0, depth = 0, columns = 0;  // depth in units
  SparseUnit unit = SparseUnit::kF32;
  DType x = DType::kF32;       // of elements
  int64_t elements = 0;        // of a column of X: depth, or bytes of it
  bool by_columns = true;      // X and Y lie column by column; otherwise row by row
  bool by_row = false;         // one row of a group for each lane group of four lanes
  int warps = 16, groups = 1;  // groups of rows that a warp has, one after the other
  int64_t chunk = 0;           // of the depth, units
  int x_vector = 1;            // units of X, along the depth or along columns, that are read at once
  int y_vector = 1;            // results, likewise
  bool whole_units = true;     // columns start at multiples of a unit
  bool adds = false;           // to sums of another step, laid as Y is

  int64_t row_groups() const;
  int64_t block_rows() const;
  int64_t row_blocks() const;
  int64_t panels() const;
  int64_t chunks() const;
  int64_t panel_rows() const;  // of the panel, with those that pad it and the one of zeros behind them
  int64_t shared_bytes() const;
  DType sum() const { return SumsOf(unit); }
  std::string Way() const;  // "16x2" or "rows 32x2": warps and groups
  std::string Key() const;
};

// The kernel; arguments X, the stream's words and first segments, with `adds` the sums so far, the epilogue's operands
// and Y.
KernelSpec GpuScatteredKernel(const GpuScattered& scattered, const TileEpilogue& epilogue);

// The ways of a problem, the one with the least expected time first; none with the reason in *why. `share`: the kept
// elements that are meant.
struct GpuScatteredWay {
  GpuScattered scattered;
  double us = 0;
};
std::vector<GpuScatteredWay> GpuScatteredWays(const SparseProblem& problem, const SparseShare& share,
                                              const Target& target, std::string* why);

// Adds the step. `addend`: a buffer of sums that another step has filled, [columns][rows] or [rows][columns] as Y lies.
void PlanGpuScatteredStep(const Node& node, const SparseProblem& problem, const SparseShare& share,
                          GpuScattered scattered, const std::optional<StepArg>& addend, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_SCATTERED_H_
