// fuse_epilogues: element-wise work joins the node that makes its operand, and one kernel does both.
//
//   %c = conv(%x, %w)                      %s = conv(%x, %w) epilogue(%b, %r) (a, b, c) {
//   %d = add(%c, %b)                         t = add(a, b)
//   %g = sigmoid(%d)                 ->      u = div(t, 1 + exp(-t))
//   %m = mul(%d, %g)                         return add(u, c)
//   %s = add(%m, %r)                       }
//
// An element-wise node joins the producer of an operand of its own shape when nothing else reads that operand. Its
// other operands broadcast to the same shape; those of a single constant element become constants of the body. Diamonds
// as above close from below: sigmoid takes in mul, then the producer takes in both. Of two producers the heavier takes
// it (a convolution before a pool before an element-wise node), of two equal ones the later, so that a residual sum
// waits for no one. Element-wise producers of the other operands, of the same shape and read nowhere else, are inlined
// too.
//
// Safe because the joined node stands where the element-wise node stood, and values never change. Integers and bools
// narrower than their compute type wrap as they would in memory; floats narrower than f32 are not rounded in between.
// Not joined: views (reshape), results of more than kMaxEpilogueOperands operands or kMaxEpilogueInsts instructions.
// Tested by fuse_epilogues_test.cc.
#ifndef TESSERA_GRAPH_PASSES_FUSE_EPILOGUES_H_
#define TESSERA_GRAPH_PASSES_FUSE_EPILOGUES_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

inline constexpr int kMaxEpilogueOperands = 8;
inline constexpr int kMaxEpilogueInsts = 96;

Status FuseEpilogues(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_FUSE_EPILOGUES_H_
