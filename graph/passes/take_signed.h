// take_signed: for machines that multiply i8 by i8 as well as u8 by i8, products of i8 values as they came.
//
//   %b: u8 = cast(%x)                                        %s: i32 = matmul(%x: i8, %w: i8)
//   %u: u8 = xor(%b, 128)                      ->    %y: i32 = add(%s, c + 128 * sum_k w)
//   %s: i32 = matmul(%u, %w: i8)
//   %y: i32 = add(%s, c)
//
// use_integers made the form on the left, as processors want it; its xor reads and writes all of x. An addition of
// zeros disappears, which is what becomes of integer products without zero points. Only matmuls: padding makes a
// convolution's correction differ along its edges. Exact. Tested by take_signed_test.cc.
#ifndef TESSERA_GRAPH_PASSES_TAKE_SIGNED_H_
#define TESSERA_GRAPH_PASSES_TAKE_SIGNED_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status TakeSigned(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_TAKE_SIGNED_H_
