// choose_layout: convolutions and pools get channels last, and as few bytes as possible are transposed for it.
//
//   %c = conv(%x, %w) {layout = "nchw"}                 %t = transpose(%x) {perm = [0, 2, 3, 1]}
//   %b = add(%c, %bias)              // [8,1,1]         %c = conv(%t, %w) {layout = "nhwc"}
//   %r = relu(%b)                               ->      %b = add(%c, %bias')         // [1,1,8]
//   %p = reduce_mean(%r) {axes = [2, 3]}                %r = relu(%b)
//   %f = reshape(%p)                                    %p = reduce_mean(%r) {axes = [1, 2]}
//                                                       %f = reshape(transpose(%p))  // of [N,1,1,C]: a view
//
// Kernels of the host walk channels in vectors, so every convolution and pool, of any number of spatial axes, is made
// to read and write [N, spatial.., C]. Which of the other nodes follow is a minimum cut: each value that one side makes
// and the other reads costs its elements once; a transpose that only moves dimensions of extent 1 costs nothing; nodes
// that cannot follow (reshape, matmul, gather, graph inputs and outputs) stay on the other side. Element-wise ops,
// concat, pad, slice, reductions, batch norm, softmax, resize and quantisation follow with their parameters permuted,
// constants are re-laid out now, and transposes that are there already take part for free, as they compose.
//
// Always safe: values are permuted, never changed. Leaves transposes side by side; canonicalize cancels them.
// Tested by choose_layout_test.cc.
#ifndef TESSERA_GRAPH_PASSES_CHOOSE_LAYOUT_H_
#define TESSERA_GRAPH_PASSES_CHOOSE_LAYOUT_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status ChooseLayout(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_CHOOSE_LAYOUT_H_
