// choose_planes: scattered convolutions and what lies between them get channels first.
//
//   %d = conv(%x, %filters) {groups = 64, layout = "nhwc"}       %t = transpose(%x) {perm = [0, 3, 1, 2]}
//   %p = conv(%d, %weights) {layout = "nhwc"}                ->  %d = conv(%t, %filters) {groups = 64, layout = "nchw"}
//     // %weights declares 90 % of its elements pruned           %p = conv(%d, %weights) {layout = "nchw"}
//
// A product with weights that follow no pattern takes neighbouring pixels in vectors: it loads the pixels of the
// channels that a row of weights keeps, and no others. With channels last both its operand and its result have to be
// transposed (in registers, on the way); with channels first neither. Depthwise convolutions are as quick either way,
// element-wise work follows (move_layout.h). Dense convolutions stay, except small ones, which products of the same
// kind compute at the same speed: a network has some between pruned ones, and one in front of all. So what moves is
// whole networks, and transposes remain at their ends.
//
// Only f32: integers of four channels share a lane, and lie together with channels last. Runs behind choose_layout,
// which gives all convolutions channels last. Always safe. Tested by choose_planes_test.cc.
#ifndef TESSERA_GRAPH_PASSES_CHOOSE_PLANES_H_
#define TESSERA_GRAPH_PASSES_CHOOSE_PLANES_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status ChoosePlanes(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_CHOOSE_PLANES_H_
