// Dense matrix products as steps of a plan; for the emitters whose ops come down to one (matmul, 1x1 convolution).
//
//   C[batch][row, column] = epilogue(sum over depth of A[batch][row, depth] * B[batch][depth, column])
//
// See contraction.h for the kernel. Tested by matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_MATMUL_H_
#define TESSERA_CODEGEN_EMIT_HOST_MATMUL_H_

#include "codegen/emit/contraction.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/matmul_problem.h"
#include "codegen/plan.h"

namespace tessera {

// Expected time on one core of all steps of the product.
double MatmulMicroseconds(const MatmulProblem& problem, const Target& target, int epilogue_cost);

// `problem` as it is planned: with its bytes widened beforehand where that is quicker (widen.h).
MatmulProblem WithBestDot(MatmulProblem problem, const Target& target, int epilogue_cost);

// The kernel alone; arguments A, B (panels or rows), the epilogue's operands, C.
KernelSpec MatmulKernel(const MatmulProblem& problem, const ContractionSchedule& schedule,
                        const TileEpilogue& epilogue);

// Adds the step of that kernel, from A and B (panels or rows) to the result of `node`.
void PlanMatmulStep(const Node& node, const MatmulProblem& problem, const ContractionSchedule& schedule,
                    const TileEpilogue& epilogue, StepArg a, StepArg b, PlanBuilder& builder);

// Adds the steps of `node`, whose operands 0 and 1 are A and B and whose result, as rows × columns, is C.
void PlanMatmulSteps(const Node& node, const MatmulProblem& problem, PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_MATMUL_H_
