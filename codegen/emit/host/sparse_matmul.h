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
#ifndef TESSERA_CODEGEN_EMIT_HOST_SPARSE_MATMUL_H_
#define TESSERA_CODEGEN_EMIT_HOST_SPARSE_MATMUL_H_

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
  // Tasks pack the panels that they meet into their thread's scratch. Panels are then written and read in one core's
  // caches only. With panels outer a thread needs one at a time, which is 6 % of a 1024x1024x1024 product with a fifth
  // kept, but all weights pass by each panel. With blocks outer every thread packs all panels, which takes less than
  // reading those of others: a line that one thread writes and others read, and that one writes again, is 10 to 16 ns.
  // 160x512 times 512x384, 10 % kept, two threads: 70 us with panels packed before, 38 with panels outer (one: 75).
  bool packs = false;
  std::string Key() const;
};

// Straight code for the epilogue up to this many instructions per vector; longer bodies are written once, in a loop.
inline constexpr int kMaxStraightSparse = 8;

// Packs X, or whatever else gives the panels of `problem`, as steps of their own: the buffer of panel_bytes().
StepArg PlanSparsePanels(const Node& node, const SparseProblem& problem, PlanBuilder& builder);

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

#endif  // TESSERA_CODEGEN_EMIT_HOST_SPARSE_MATMUL_H_
