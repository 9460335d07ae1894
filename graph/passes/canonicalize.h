// canonicalize: one form for what can be written in several, and nothing for what does nothing.
//
//   %p: f32[1,8,34,34] = pad(%x) {pads = [0, 0, 1, 1, 0, 0, 1, 1], mode = "constant"}
//   %c: f32[1,8,32,32] = conv(%p, %w) {… pads = [0, 0, 0, 0]}       %c = conv(%x, %w) {… pads = [1, 1, 1, 1]}
//   %m: f32[1,8,32,32] = max(%c, %zero)                         ->  %m = relu(%c)
//   %r: f32[1,8,32,32] = reshape(%m) {shape = [1, 8, 32, 32]}       return %m
//   return %r
//
// Rules are local: each looks at a node and the nodes that make its operands, and leaves exactly the same values, up to
// the rounding of pow(x, 2) and pow(x, 3). Where a rule would turn -0 into 0 or back it does not apply: x + 0 goes only
// where x cannot be -0. canonicalize_arithmetic.cc and canonicalize_movement.cc hold the rules, each under a line that
// shows it. Tested by canonicalize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_CANONICALIZE_H_
#define TESSERA_GRAPH_PASSES_CANONICALIZE_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status Canonicalize(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_CANONICALIZE_H_
