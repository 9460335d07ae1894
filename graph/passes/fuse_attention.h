// fuse_attention: products of queries and keys, softmax and the product with values become one attention.
//
//   %q = transpose(%q4) {perm = [0,2,1,3]}          %c = attention(%q4, %k4, %v4, %mask) {scale = 1/8, layout = "bshd"}
//   %k = transpose(%k4) {perm = [0,2,3,1]}
//   %v = transpose(%v4) {perm = [0,2,1,3]}
//   %s = softmax(matmul(%q, %k) / 8 + %mask)
//   %c = transpose(matmul(%s, %v)) {perm = [0,2,1,3]}
//
// The scores are then never stored whole. The scale (a product with or a quotient by one constant number) and the mask
// are optional; the keys may be transposed by the product (transpose_b). Where not all four transpositions of heads and
// positions are there, the layout is "bhsd" and those that are stay. Safe when nothing else reads what lies between.
// Tested by fuse_attention_test.cc.
#ifndef TESSERA_GRAPH_PASSES_FUSE_ATTENTION_H_
#define TESSERA_GRAPH_PASSES_FUSE_ATTENTION_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status FuseAttention(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_FUSE_ATTENTION_H_
