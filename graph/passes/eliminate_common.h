// eliminate_common: what is computed twice from the same operands is computed once.
//
//   %a: f32[8] = exp(%x)             %a: f32[8] = exp(%x)
//   %b: f32[8] = exp(%x)       ->    %c: f32[8] = add(%a, %a)
//   %c: f32[8] = add(%a, %b)         return %c
//   return %c
//
// Always safe: ops are functions without side effects. Equal small constants, and constants that share their bytes,
// become one first, so that exporters' many copies of a number do not hide equal nodes. Linear in the graph's size.
// Tested by eliminate_common_test.cc.
#ifndef TESSERA_GRAPH_PASSES_ELIMINATE_COMMON_H_
#define TESSERA_GRAPH_PASSES_ELIMINATE_COMMON_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status EliminateCommon(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_ELIMINATE_COMMON_H_
