// Rows that a product leaves as shares: the step that adds them up is the one that normalises them.
//
//   partial[s] = A[:, share s] · B[share s, :]                                          gpu_matmul
//   y = layer_norm(epilogue(sum over s of partial[s]))                                  one step instead of two
//
// Tested by gpu_rowwise_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_ROWWISE_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_ROWWISE_H_

#include <memory>

#include "codegen/emit/epilogue.h"
#include "codegen/plan.h"
#include "graph/graph.h"

namespace tessera {

// Partial sums [splits][rows][columns] of a node's result before its epilogue.
struct RowShares {
  DType sum = DType::kF32;
  int splits = 1;
  std::shared_ptr<const TileEpilogue> epilogue;  // of the node that they are of
};

// The layer_norm or softmax along memory that alone reads the result of `product`, and can add up its shares itself;
// nullptr if there is none.
const Node* RowsOfShares(const Graph& graph, const Node& product);

// Adds the step of `rows` over `product`'s shares, which lie in `partial`.
Status PlanRowsOfShares(const Node& rows, const Node& product, const RowShares& shares, const StepArg& partial,
                        PlanBuilder& builder);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_ROWWISE_H_
