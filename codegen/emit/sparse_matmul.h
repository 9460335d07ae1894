// What the sparse matrix emitters share: reading the product from a node, packing the activations, and taking sums to
// the result.
//
//   Y[row, column] = epilogue(sum over kept (row, k) of W[row, k] * X[k, column])
//
// W is constant and declares what is pruned; rows are W's output features, columns are tokens or pixels. In
// x · W and in a channels-last 1x1 convolution, X and Y lie column by column ([columns][depth], [columns][rows]); in
// W · x they lie row by row.
//
//   step 1, unless X lies in panels already:  panels[column / 16][k][16] = X          transposed in registers
//   step 2, task = one block of rows of one panel:
//     sums[row][16] = W's block times the panel                                       the core: sparse_stream, _loop
//     Y = epilogue(sums), transposed in registers where Y lies column by column       squares of one register's lanes
//
// Blocks are a multiple of 16 rows so that those squares are whole, and small enough that sums stay in the first-level
// cache. Pruned means absent: nothing is multiplied by a padding zero, so that infinities elsewhere do no harm. Values
// only; functions are stateless. Tested by sparse_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_SPARSE_MATMUL_H_
#define TESSERA_CODEGEN_EMIT_SPARSE_MATMUL_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/panels.h"
#include "codegen/emit/scattered_stream.h"
#include "codegen/plan.h"
#include "graph/graph.h"

namespace tessera {

struct SparseProblem {
  std::shared_ptr<const ScatteredPattern> pattern;
  ValueId weights = ValueId::kNone, x = ValueId::kNone;
  int64_t row_step = 1, depth_step = 1;  // of W where it lies
  PanelSource source;                    // X; one matrix
  bool by_columns = true;                // Y lies [columns][rows]

  int64_t rows() const { return pattern->rows; }
  int64_t depth() const { return pattern->depth; }
  int64_t columns() const { return source.columns; }
  int64_t panels() const { return (columns() + kPanelLanes - 1) / kPanelLanes; }
};

// Of a matmul with one constant operand of two dimensions, or a channels-last 1x1 convolution, f32, whose weights
// declare pruned elements; otherwise nullopt, and *why says what was found.
std::optional<SparseProblem> ReadSparseProblem(const Graph& graph, const Node& node, std::string* why);

// W[row, k].
class WeightReader {
 public:
  WeightReader(const SparseProblem& problem, const Tensor& weights)
      : row_step_(problem.row_step), depth_step_(problem.depth_step), data_(weights.data<float>()) {}
  float operator()(int64_t row, int64_t k) const { return data_[row * row_step_ + k * depth_step_]; }

 private:
  const int64_t row_step_, depth_step_;
  const std::span<const float> data_;
};

struct SparseSchedule {
  ScatteredBlocks blocks;
  // Tasks in the order of blocks, so that a block's code and weights are used for panel after panel; or of panels.
  bool panels_outer = false;
  std::string Key() const;
};
// `group_rows`: rows that the core computes together; `row_bytes`: what a row of W takes of its code and constants, of
// which a block's should stay in the second-level cache while panels pass.
SparseSchedule ScheduleSparse(const SparseProblem& problem, int group_rows, double row_bytes, const Target& target);

// Fewer columns than this are another matter: a product with a vector is bound by the bytes of W, and most of a panel
// would be padding.
inline constexpr int64_t kMinSparseColumns = 8;

// Which part of the panel's rows that a core reads come from the second-level cache: none while a panel leaves room in
// the first, all from a panel and a quarter on.
double PanelMissShare(const SparseProblem& problem, const Target& target);

// Packing, and taking sums to the result: everything but the core. Microseconds on one core.
double SparseFrameMicroseconds(const SparseProblem& problem, const SparseSchedule& schedule, const Target& target,
                               int epilogue_cost);

// Writes sums[rows of the block][16]: W's rows from `block` * block_rows on times the panel at `panel`.
using SparseCore = std::function<void(KernelBuilder& b, IrValue block, IrValue panel, IrValue sums)>;

// Adds both steps of `node`. `family` and `core_key` name the core, `constants` are its arguments 1, 2, ….
void PlanSparseSteps(const Node& node, const SparseProblem& problem, const SparseSchedule& schedule,
                     const std::string& family, const std::string& core_key, const std::vector<int>& constants,
                     SparseCore core, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_SPARSE_MATMUL_H_
