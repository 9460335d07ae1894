// recognize: what exporters wrote in parts becomes the one op that it is.
//
//   %m = reduce_mean(%x) {axes = [2]}                  %n = layer_norm(%x, %scale, %bias) {axis = 2, epsilon = e}
//   %d = sub(%x, %m)
//   %v = reduce_mean(mul(%d, %d)) {axes = [2]}    ->
//   %n = add(mul(div(%d, sqrt(add(%v, e))), %scale), %bias)
//
// Also: gelu from erf or tanh, silu and hard_swish from their products, and attention from two products around a
// softmax, with the scale and the mask between, added or (where) chosen; attention whose operands all come from head
// splits (transpose [0, 2, 1, 3]) reads them as they are, in layout "bshd". Products are recognised in whatever order
// and grouping their factors stand; numbers may be off by 2e-6, which is what f32 keeps of sqrt(2).
//
// Safe: the value that is replaced keeps its meaning to within those numbers; parts that others read stay. Expects
// canonical forms (canonicalize.h). Tested by recognize_test.cc and
// recognize_attention_test.cc.
#ifndef TESSERA_GRAPH_PASSES_RECOGNIZE_H_
#define TESSERA_GRAPH_PASSES_RECOGNIZE_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status Recognize(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_RECOGNIZE_H_
