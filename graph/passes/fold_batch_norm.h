// fold_batch_norm: factors and shifts per channel go into the weights and the bias around a convolution or product.
//
//   %c = conv(%x, %w)
//   %n = batch_norm(%c, %scale, %bias, %mean, %variance)     ->   %c = conv(%x, %w')         // w'[o,..] = w[o,..] *
//   f[o]
//                                                                 %n = add(%c, %b')          // b' = bias - mean * f
//   with f = scale / sqrt(variance + epsilon)
//
// Steps, each a rule: batch_norm with constant parameters becomes mul and add; mul(add(x, c), f) becomes
// add(mul(x, f), c * f), and two adds of constants one; mul by a constant per output channel behind a convolution or a
// product with constant weights goes into the weights. Safe where nobody else reads the value in between; shared
// weights are copied. Factors that are not finite, and results of the fold that are not, stop it. Folded constants are
// computed in double and rounded once. Declared sparsity of weights stays: what is pruned stays +0 under any finite
// factor. Tested by fold_batch_norm_test.cc.
#ifndef TESSERA_GRAPH_PASSES_FOLD_BATCH_NORM_H_
#define TESSERA_GRAPH_PASSES_FOLD_BATCH_NORM_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status FoldBatchNorm(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_FOLD_BATCH_NORM_H_
