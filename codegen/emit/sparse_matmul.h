// What the sparse matrix emitters of processors share: packing the activations, the parts that add up to a product
// (sparse_problem.h), and taking sums to the result.
//
//   Y[row, column] = epilogue(sum over kept (row, k) of W[row, k] * X[k, column])
//
// W is constant and declares what is pruned; rows are W's output features, columns are tokens or pixels. In
// x · W and in a channels-last 1x1 convolution, X and Y lie column by column ([columns][depth], [columns][rows]); in
// W · x they lie row by row. Elements are f32, or x is u8 and W i8 with sums of i32; a panel's 32-bit lane holds a
// *unit* of them (scattered_stream.h).
//
//   step 1, unless X lies in panels already:  panels[column / 16][unit][16] = X       transposed in registers
//   step 2, task = one block of rows of one panel:
//     sums[row][16]  = the first part's rows of the block times the panel             each part's core: StreamPart,
//     sums[row][16] += the second part's …                                            LoopPart (sparse_parts.h)
//     Y = epilogue(sums), transposed in registers where Y lies column by column       squares of one register's lanes
//
// Parts share the panels and the sums: one kernel however many there are. Blocks are a multiple of 16 rows so that
// those squares are whole, and small enough that sums stay in the first-level cache. Pruned means absent: nothing is
// multiplied by a padding zero of f32, so that infinities elsewhere do no harm. Values only; functions are stateless.
// Tested by sparse_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_SPARSE_MATMUL_H_
#define TESSERA_CODEGEN_EMIT_SPARSE_MATMUL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/scattered_stream.h"
#include "codegen/emit/sparse_problem.h"
#include "codegen/emit/unit_panels.h"
#include "codegen/plan.h"
#include "graph/graph.h"
#include "tesa/bitmap.h"

namespace tessera {

struct SparseSchedule {
  ScatteredBlocks blocks;
  // Tasks in the order of blocks, so that a block's code and weights are used for panel after panel; or of panels.
  bool panels_outer = false;
  // A task is a panel: it packs the panel into its scratch and does all blocks on it. Panels are then written and read
  // in the second-level cache only, which is 6 % of a 1024x1024x1024 product with a fifth kept, but all weights pass by
  // each panel. For problems that CanPackInside.
  bool packs = false;
  std::string Key() const;
};
// `group_rows`: rows that the core computes together; `row_bytes`: what a row of W takes of its code and constants, of
// which a block's should stay in the second-level cache while panels pass.
SparseSchedule ScheduleSparse(const SparseProblem& problem, int group_rows, double row_bytes, const Target& target);

// Which part of the panel's rows that a core reads come from the second-level cache: none while a panel leaves room in
// the first, all from a panel and a quarter on.
double PanelMissShare(const SparseProblem& problem, const Target& target);

// Units of the depth, in equal chunks, whose panel rows stay in the first-level cache beside a block's sums; 0 where
// the whole depth does.
int64_t ChunkFor(const SparseProblem& problem, const Target& target);

// Packing, the core, which takes `core_ns` for all panels, and taking sums to the result.
double SparseMicroseconds(const SparseProblem& problem, const SparseSchedule& schedule, const Target& target,
                          int epilogue_cost, double core_ns);

// Packs X, or whatever else gives the panels of `problem`, as steps of their own: the buffer of panel_bytes().
StepArg PlanSparsePanels(const Node& node, const SparseProblem& problem, PlanBuilder& builder);

// f32 whose columns lie one after the other.
bool CanPackInside(const SparseProblem& problem);

// Where a core is called: i64 numbers of a block and of a panel, pointers to the panel and to sums[rows of the
// block][16], all of 32 bits.
struct SparseSite {
  IrValue block = nullptr, panel_number = nullptr, panel = nullptr, sums = nullptr;
  int first_arg = 1;  // the kernel's argument that is the part's first constant
  bool adds = false;  // to the sums of the parts before; otherwise sums are written
};
using SparseCore = std::function<void(KernelBuilder& b, const SparseSite& at)>;

// A share of the product and how it is computed.
struct SparsePart {
  std::string key;             // all that the core's code depends on, beside problem, schedule and SparseSite::adds
  std::vector<int> constants;  // buffers that the core reads
  SparseCore core;
  double flops = 0;  // on one column
};

// Number of the first row of `block` and of its rows, in a kernel.
std::pair<IrValue, IrValue> EmitBlockRows(KernelBuilder& b, const ScatteredBlocks& blocks, IrValue block);

// Adds the second step of `node`, whose panels are `panels`: all parts, one after the other on each block, then the way
// out. `family` names the kernel.
void PlanSparseKernel(const Node& node, const SparseProblem& problem, const SparseSchedule& schedule,
                      const std::string& family, std::vector<SparsePart> parts, StepArg panels, PlanBuilder& builder);
// Both steps.
void PlanSparseSteps(const Node& node, const SparseProblem& problem, const SparseSchedule& schedule,
                     const std::string& family, std::vector<SparsePart> parts, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_SPARSE_MATMUL_H_
