// split_products: slices of a product's columns become products with those columns of the weights.
//
//   %y: f32[1,128,2304] = add(matmul(%x, %w), %b)            %q: f32[1,128,768] = add(matmul(%x, %w.0), %b.0)
//   %q: f32[1,128,768] = slice(%y) {starts = [0,0,0] …}  ->  %k: f32[1,128,768] = add(matmul(%x, %w.1), %b.1)
//   %k: f32[1,128,768] = slice(%y) {starts = [0,0,768] …}    %v: …
//   %v: …
//
// Exporters compute queries, keys and values by one product and cut it apart behind: by a split, by slices, or by a
// reshape to [.., 3, heads, depth] or [.., heads, 3 * depth] and transpositions, quantised or not. With columns taken
// out of the constant weights nothing is cut while running, and what reads the parts (recognize: attention) sees three
// projections like any other's. Between product and slice may stand element-wise ops, quantize and dequantize, reshapes
// and transposes; constants that have the columns too (biases, scales) are cut alike, with their declared sparsity.
//
// Safe: elements keep their meaning. Done only where every reader of the product is such a slice and no column is
// computed twice, so that there is never more to compute; not for a single row, whose slices are runs of bytes and cost
// nothing. Expects canonical forms (a gather of one index is a slice). Tested by split_products_test.cc.
#ifndef TESSERA_GRAPH_PASSES_SPLIT_PRODUCTS_H_
#define TESSERA_GRAPH_PASSES_SPLIT_PRODUCTS_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status SplitProducts(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_SPLIT_PRODUCTS_H_
