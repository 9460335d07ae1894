// GpuLiteral: products with constant weights whose kept elements follow no pattern, on GPUs, with the weights in the
// code: a kept element is one instruction, `sum += x * 0.173`, and nothing else.
//
//   Y[row, column] = epilogue(sum over kept (row, k) of W[row, k] * X[k, column])
//
// A thread has one column of X and the sums of `panel_rows` rows of W in registers; a block, `block_columns` threads,
// one panel of rows and one share of the depth. Each (panel, share) is a piece of straight code of its own:
//
//   block -> columns, share, panel; to the piece of (panel, share)
//     for slab of 32 of the depth, unrolled:
//       wait for it, all warps together; fetch the slab some stages on      # cp.async, a warp its own 32 columns
//       for k of the slab that any row keeps: x = slab[k, column]
//         for row that keeps (row, k): sum[row] += x * W[row, k]
//   sums -> partial sums of the share (added, and the epilogue applied, by SplitSumKernel), or the epilogue and Y
//
// What binds: an instruction is 16 bytes and arrives at about 4 bytes a cycle where a kernel's code is larger than the
// instruction cache, so it should serve many warps; and X comes from the second-level cache once for each panel of
// rows. A multiprocessor has room for one panel's rows by columns, so more of the one is less of the other: wide blocks
// of few rows where much is kept, high panels where little is. Shares of the depth make both larger and pay with their
// sums. Warps meet at each slab, so that they run the same code at the same time.
//
// The key of such a kernel holds a digest of the weights. Its code takes the assembler about 150 us a kept element, so
// a graph may have only so many (kMostLiterals). f32. Pure functions. Tested by gpu_scattered_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_LITERAL_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_LITERAL_H_

#include <memory>
#include <string>
#include <vector>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/sparse_problem.h"
#include "codegen/plan.h"

namespace tessera {

struct GpuLiteral {
  // A kept element of the weights.
  struct Element {
    int32_t row = 0, k = 0;
    float weight = 0;
  };

  static constexpr int64_t kAlignment = 16;  // of X, bytes

  int64_t rows = 0, depth = 0, columns = 0;
  bool by_columns = true;                                // X and Y lie column by column; otherwise row by row
  int panel_rows = 16, block_columns = 512, splits = 1;  // rows: a multiple of 8
  int stages = 3;                                        // slabs of a warp: one is read, the others on their way
  int y_vector = 1;  // results that are written at once; of columns that lie one after the other
  // By panel, share, k and row: first[panel * splits + share] is where a piece begins; and the end.
  std::shared_ptr<const std::vector<Element>> elements;
  std::vector<int64_t> first;
  std::string digest;  // of the elements

  int64_t panels() const { return (rows + panel_rows - 1) / panel_rows; }
  int64_t column_blocks() const { return (columns + block_columns - 1) / block_columns; }
  int64_t blocks() const { return panels() * splits * column_blocks(); }
  int64_t share_depth() const;
  int64_t shared_bytes() const;
  std::string Way() const;  // "literal 64x512/4"
  std::string Key() const;
};

// Kept elements of all pruned constants of a graph beyond which none of its products has literal weights.
inline constexpr int64_t kMostLiterals = 550'000;

// The ways of a problem, the one with the least expected time first, without their elements; none with the reason in
// *why.
struct GpuLiteralWay {
  GpuLiteral literal;
  double us = 0;
};
std::vector<GpuLiteralWay> GpuLiteralWays(const Graph& graph, const SparseProblem& problem, const Target& target,
                                          std::string* why);

// The kernel; arguments X, then the partial sums, or without shares the epilogue's operands and Y.
KernelSpec GpuLiteralKernel(const GpuLiteral& literal, const TileEpilogue& epilogue);

// Adds the steps.
void PlanGpuLiteralSteps(const Node& node, const SparseProblem& problem, GpuLiteral literal, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_LITERAL_H_
