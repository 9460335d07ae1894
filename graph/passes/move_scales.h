// move_scales: what only moves elements moves integers, not the reals that they stand for.
//
//   %r = dequantize(%q, %s, %z)              %m = max_pool(%q)
//   %p = max_pool(%r)                  ->    %t: u8 = transpose(%m)
//   %t = transpose(%p)
//   %y = quantize(%t, %s, %z)                                         and %y is %t
//
// A dequantize moves behind nodes that move elements (reshape, transpose, slice, concat of one scaling, max_pool, relu,
// …) where a quantize, a product that could run on integers, or another such node waits for it; there it would only be
// in the way in front of anything else, as it rather joins what made its integers. A quantize moves in front of nodes
// that move what nobody else reads: it then joins their producers, and a concat takes in integers of one scaling. What
// is quantised as it was dequantised just before is left as it was. Dequantised constants move behind every node that
// moves them, scales along an axis with them, so that weights and biases stay integers until use_integers has seen
// them.
//
// Exact: values stay what they are, element by element. Tested by move_scales_test.cc.
#ifndef TESSERA_GRAPH_PASSES_MOVE_SCALES_H_
#define TESSERA_GRAPH_PASSES_MOVE_SCALES_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status MoveScales(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_MOVE_SCALES_H_
