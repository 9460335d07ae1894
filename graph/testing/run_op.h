// run_op: runs one op on tensors, by its reference and by its compute, and insists that the two agree.
//
//   StatusOr<std::vector<RefTensor>> y = RunOp(Op::kRound, {}, {Tensor::FromVector<float>({2}, {0.5, 1.5})});
//   y->at(0).f == {0, 2}
//
// For tests of what an op means (known values) and of what infer rejects. Tested by ops_test.cc, which runs every op
// through it.
#ifndef TESSERA_GRAPH_TESTING_RUN_OP_H_
#define TESSERA_GRAPH_TESTING_RUN_OP_H_

#include <optional>
#include <span>
#include <vector>

#include "graph/compute.h"
#include "graph/graph.h"
#include "graph/testing/random_node.h"

namespace tessera {

// How far floats may be apart: |a - r| <= relative * max|r| + absolute. Integers and bools are equal, NaNs meet NaNs.
struct Tolerance {
  double relative = 1e-9;
  double absolute = 1e-12;
};

// An error that names the first element out of tolerance.
Status CompareRefs(const RefTensor& expected, const RefTensor& actual, Tolerance tolerance = {});

// Infers, then runs reference and compute. An error of infer is returned as it is; ResultWrong where the two disagree
// or the compute breaks an invariant: Verify, or each element of the outputs written exactly once. The result is the
// reference's. Absent operands are nullopt.
StatusOr<std::vector<RefTensor>> RunOp(Op op, const Attrs& attrs, const std::vector<std::optional<Tensor>>& operands);

// The results by the op's reference and the epilogue's body, in double.
StatusOr<std::vector<RefTensor>> RunReference(const RandomCase& random_case);

// The same for a case whose node may have an epilogue; the epilogue is applied element by element to the reference's
// result.
StatusOr<std::vector<RefTensor>> RunCase(const RandomCase& random_case);

// `compute` with every float value of its bodies rounded to f32, as a kernel would.
Compute RoundedToF32(Compute compute);

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_RUN_OP_H_
