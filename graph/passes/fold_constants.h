// fold_constants: what depends on constants only is computed now, by the ops' own references.
//
//   %w: f32[2,3] = constant            %t: f32[3,2] = constant
//   %t: f32[3,2] = transpose(%w)       return matmul(%x, %t)
//   return matmul(%x, %t)
//
// Safe wherever all operands are constant: references compute in double and round once to the type of the result.
// Bounded: results larger than 64 KiB and than 8 times their operands (expand, tile) stay computed, and so does what
// takes too long to evaluate slowly; graph outputs stay computed. Declared sparsity follows the elements through casts,
// movements and dequantisation; where its pruned elements would not stay zeros, the result is dense. Left alone are the
// integers of quantised networks (quantized.h, IsKeptForIntegers), which use_integers needs.
// Tested by fold_constants_test.cc.
#ifndef TESSERA_GRAPH_PASSES_FOLD_CONSTANTS_H_
#define TESSERA_GRAPH_PASSES_FOLD_CONSTANTS_H_

#include "base/status.h"
#include "graph/graph.h"
#include "graph/passes/rewriter.h"

namespace tessera {

Status FoldConstants(Graph& graph);

// The only result of a node whose operands are all constant, and which no graph output is, becomes a constant.
void FoldToConstant(Rewriter& r, NodeId id);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_FOLD_CONSTANTS_H_
