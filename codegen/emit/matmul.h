// Dense matrix products as steps of a plan; for the emitters whose ops come down to one (matmul, 1x1 convolution).
//
//   C[batch][row, column] = epilogue(sum over depth of A[batch][row, depth] * B[batch][depth, column])
//
// See contraction.h for the kernel. Tested by matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_MATMUL_H_
#define TESSERA_CODEGEN_EMIT_MATMUL_H_

#include <vector>

#include "codegen/emit/contraction.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/panels.h"
#include "codegen/plan.h"

namespace tessera {

struct MatmulProblem {
  // A dimension of the batch, outermost first; how far A's and B's next matrices are along it, counted in matrices.
  struct BatchDim {
    int64_t extent = 1, a_step = 0, b_step = 0;
  };
  Dot dot = {};
  std::vector<BatchDim> batch;
  int64_t rows = 1, columns = 1, depth = 1;
  int64_t a_matrices = 1, b_matrices = 1;
  bool a_transposed = false;  // A lies as [depth, rows]
  bool b_transposed = false;  // B lies as [columns, depth]
  bool b_constant = false;    // B is known now and will be packed into panels

  int64_t groups() const;
  ContractionShape shape() const;
  PanelSource b_source() const;
  // B is read from panels: it is constant, or its words do not lie side by side.
  bool packs_b() const { return b_constant || b_transposed || dot.unit() > 1; }
};

// Merges batch dimensions that are walked as one, and the batch into the rows where B is the same for all.
MatmulProblem Simplify(MatmulProblem problem);

// Expected time on one core of all steps of the product.
double MatmulMicroseconds(const MatmulProblem& problem, const Target& target, int epilogue_cost);

// The kernel alone; arguments A, B (panels or rows), the epilogue's operands, C.
KernelSpec MatmulKernel(const MatmulProblem& problem, const ContractionSchedule& schedule,
                        const TileEpilogue& epilogue);

// Adds the steps of `node`, whose operands 0 and 1 are A and B and whose result, as rows × columns, is C.
void PlanMatmulSteps(const Node& node, const MatmulProblem& problem, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_MATMUL_H_
