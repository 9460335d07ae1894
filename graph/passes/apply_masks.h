// apply_masks: what is declared pruned of an input or a computed value becomes a node that writes 0 there.
//
//   %x: f32[1,4] tesa(…) = input         %x: f32[1,4] = input
//   %y = relu(%x)                        %mask: bool[4] = constant [1, 0, 1, 1]
//                                        %x.masked: f32[1,4] = where(%mask, %x, %zero)
//                                        %y = relu(%x.masked)
//
// The masked model is the model: a declared mask says that its elements count as 0, whatever computed them, and from
// here on nothing else needs to know. The mask has the smallest shape that broadcasts to the value's; `where` and not a
// product, because NaN · 0 is no zero. A computed value hands its name on to the masked one; a graph output that is a
// graph input is handed back as it came (the interpreter agrees). Declared widths stay on the masked value. Linear in
// the cells of the masks. Tested by apply_masks_test.cc and testdata/apply_masks.
#ifndef TESSERA_GRAPH_PASSES_APPLY_MASKS_H_
#define TESSERA_GRAPH_PASSES_APPLY_MASKS_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status ApplyMasks(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_APPLY_MASKS_H_
