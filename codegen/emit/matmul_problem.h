// MatmulProblem: a matrix product as the emitters of every target see it, and how a matmul node becomes one.
//
//   C[batch][row, column] = sum over depth of A[batch][row, depth] * B[batch][depth, column]
//
// Values only. Tested by matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_MATMUL_PROBLEM_H_
#define TESSERA_CODEGEN_EMIT_MATMUL_PROBLEM_H_

#include <cstdint>
#include <vector>

#include "codegen/emit/contraction.h"
#include "codegen/emit/panels.h"
#include "graph/graph.h"

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
  int64_t a_elements() const { return a_matrices * rows * depth; }
  ContractionShape shape() const;
  PanelSource b_source() const;
  // B is read from panels: it is constant, or its words do not lie side by side.
  bool packs_b() const { return b_constant || b_transposed || dot.unit() > 1; }
};

// What a matmul node computes, simplified; `dot` is what the target has for its types, or as it is.
MatmulProblem MatmulProblemOf(const Graph& graph, const Node& node, const Dot& dot = {});

// Merges batch dimensions that are walked as one, and the batch into the rows where B is the same for all.
MatmulProblem Simplify(MatmulProblem problem);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_MATMUL_PROBLEM_H_
