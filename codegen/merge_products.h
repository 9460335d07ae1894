// MergeProducts: products of one operand with several constants, made one product for a GPU.
//
//   q = x · Wq + bq,  k = x · Wk + bk,  v = x · Wv + bv      ->      y = x · [Wq, Wk, Wv] + [bq, bk, bv];  q = y[0], …
//
// Each of the three leaves most of a card idle where x has few rows, and three ways that fork and meet cost more than
// one step. The constants are stacked along a new outermost dimension, so that each result lies in one piece, as the
// part of another's place that the view emitter makes of it. Only dense constants are merged: what is pruned has
// kernels of its own. Pure function. Tested by merge_products_test.cc.
#ifndef TESSERA_CODEGEN_MERGE_PRODUCTS_H_
#define TESSERA_CODEGEN_MERGE_PRODUCTS_H_

#include "codegen/target.h"
#include "graph/graph.h"

namespace tessera {

// `graph` with such products merged, or as it is where there are none or the target is no GPU.
Graph MergeProducts(Graph graph, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_MERGE_PRODUCTS_H_
