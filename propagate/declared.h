// declared: makes the attributes that a model declares for its inputs and activations part of what it computes.
//
//   before  %h: f32[1,64] tesa(columns kept 40%) = relu(%z)            %y = matmul(%h, %w)
//   after   %h.raw = relu(%z); %h = where(%h.kept, %h.raw, 0)           %y = matmul(%h, %w)
//
// The mask of a constant stands in its data. That of any other value would be obeyed by propagation alone, and the
// interpreter, which says what is right, would know nothing of it; so the mask becomes a node, and the masked model is
// an ordinary graph: from it propagation finds what is zero behind the mask and dead in front of it, and where a mask
// keeps whole channels shrink makes the node disappear again. Run before Propagate. Bit widths stay declared.
// Tested by declared_test.cc.
#ifndef TESSERA_PROPAGATE_DECLARED_H_
#define TESSERA_PROPAGATE_DECLARED_H_

#include "graph/graph.h"

namespace tessera {

// Returns how many values were masked. A graph that the verifier accepts stays one; a second call finds nothing.
int ApplyDeclaredMasks(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_DECLARED_H_
