// scale_blocks: for processors, quantised activations times 4-bit weights with a scale for each block of the depth run
// on integers.
//
//   %r: f32[M,K] = dequantize(%q, %s, %z)          %p: f32[M,N] = scaled_matmul(%q, %w4, %scales)
//   %y: f32[M,N] = matmul(%r, %w)              ->  %y: f32[M,N] = add(%p, %zero)
//
//   q: u8, or i8 made u8, with one scale; w: f32 constants that are 4-bit integers with a scale for each block;
//   scales[block, n] = s * scale of w's block;  zero[n] = -z * sum over blocks of scales * sum of the block's integers
//
// Sums of a block are exact; what f32 rounds are the scaled sums. Weights are recognised by their values (tesa/int4.h),
// as constants are folded by now, whoever spelled them. Where weights declare what is pruned, or the last block is
// shorter, nothing changes; nor where the scale of q is computed.
//
// A lowering: processors multiply bytes four times as fast as floats; what only reads a graph keeps its matmul. Reads
// the data of f32 weights, most of them but a few elements. Tested by scale_blocks_test.cc.
#ifndef TESSERA_GRAPH_PASSES_SCALE_BLOCKS_H_
#define TESSERA_GRAPH_PASSES_SCALE_BLOCKS_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status ScaleBlocks(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_SCALE_BLOCKS_H_
