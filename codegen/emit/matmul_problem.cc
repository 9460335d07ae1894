#include "codegen/emit/matmul_problem.h"

namespace tessera {

int64_t MatmulProblem::groups() const {
  int64_t groups = 1;
  for (const BatchDim& dim : batch) groups *= dim.extent;
  return groups;
}

ContractionShape MatmulProblem::shape() const {
  return {.dot = dot,
          .groups = groups(),
          .rows = rows,
          .columns = columns,
          .depth = depth,
          .a_row_step = a_transposed ? 1 : depth};
}

PanelSource MatmulProblem::b_source() const {
  return {.type = dot.b,
          .matrices = b_matrices,
          .depth = depth,
          .columns = columns,
          .matrix_step = depth * columns,
          .depth_step = b_transposed ? 1 : columns,
          .column_step = b_transposed ? depth : 1,
          .dot = dot};
}

MatmulProblem Simplify(MatmulProblem problem) {
  std::vector<MatmulProblem::BatchDim> dims;  // innermost first
  for (auto dim = problem.batch.rbegin(); dim != problem.batch.rend(); ++dim) {
    if (dim->extent == 1) continue;
    if (!dims.empty() && dim->a_step == dims.back().a_step * dims.back().extent &&
        dim->b_step == dims.back().b_step * dims.back().extent) {
      dims.back().extent *= dim->extent;
    } else {
      dims.push_back(*dim);
    }
  }
  // The rows of consecutive matrices of A follow each other, as those of C do.
  if (!dims.empty() && dims[0].b_step == 0 && dims[0].a_step == 1 && dims[0].extent > 0 && !problem.a_transposed) {
    const int64_t extent = dims[0].extent;
    problem.rows *= extent;
    problem.a_matrices /= extent;
    dims.erase(dims.begin());
    for (auto& dim : dims) {
      TES_CHECK(dim.a_step % extent == 0, dim.a_step);
      dim.a_step /= extent;
    }
  }
  problem.batch.assign(dims.rbegin(), dims.rend());
  return problem;
}

MatmulProblem MatmulProblemOf(const Graph& graph, const Node& node, const Dot& dot) {
  const Shape& a = graph[node.inputs[0]].type.shape;
  const Shape& b = graph[node.inputs[1]].type.shape;
  const Shape& out = graph[node.outputs[0]].type.shape;
  MatmulProblem problem;
  problem.dot = dot;
  problem.a_transposed = node.attrs.Int("transpose_a", 0) != 0;
  problem.b_transposed = node.attrs.Int("transpose_b", 0) != 0;
  problem.b_constant = graph.IsConstant(node.inputs[1]);
  problem.rows = out[out.rank() - 2];
  problem.columns = out[out.rank() - 1];
  problem.depth = a[a.rank() - (problem.a_transposed ? 2 : 1)];
  for (int d = 0; d < a.rank() - 2; ++d) problem.a_matrices *= a[d];
  for (int d = 0; d < b.rank() - 2; ++d) problem.b_matrices *= b[d];
  int64_t a_step = 1, b_step = 1;
  // From the innermost batch dimension outwards.
  const auto step_of = [&](const Shape& shape, int d, int64_t& step) {
    const int at = d - (out.rank() - shape.rank());
    if (at < 0 || shape[at] == 1) return int64_t{0};
    const int64_t here = step;
    step *= shape[at];
    return here;
  };
  for (int d = out.rank() - 3; d >= 0; --d) {
    const int64_t a_here = step_of(a, d, a_step), b_here = step_of(b, d, b_step);
    problem.batch.insert(problem.batch.begin(), {.extent = out[d], .a_step = a_here, .b_step = b_here});
  }
  return Simplify(problem);
}

}  // namespace tessera
