// use_integers: products and convolutions of quantised operands run on the integers themselves.
//
//   %r: f32[M,K] = dequantize(%x, %sx, %zx)             %p: i32[M,N] = matmul(%x, %w)
//   %v: f32[K,N] = dequantize(%w, %sw) {axis = 1}   ->  %c: i32[M,N] = add(%p, %correction)
//   %b: f32[N] = dequantize(%bias, %sb) {axis = 0}      %f: f32[M,N] = cast(%c)
//   %m: f32[M,N] = matmul(%r, %v)                       %y: f32[M,N] = mul(%f, %scales)
//   %y: f32[M,N] = add(%m, %b)
//
// What comes out is the only form of integer product that fast kernels are made for, whatever the file said:
//
//   matmul(%x: u8[.., K], %w: i8 constant of two dimensions)              all give i32;
//   matmul(%x: u8, %y: i8), both computed, as in attention;               computed_product.h has its zero points
//   conv(%x: u8, %w: i8 constant) {pad_value = zero point of %x}          zero points are folded, exactly:
//
//     sum (x - zx)(w - zw) = sum x w' - t * sum x - zx * sum (w - zw),    w' = w - zw + t of 8 signed bits
//
//   * i8 activations are u8 with a zero point 128 higher: what makes them (a quantize, moves) makes u8 at once, a graph
//     input goes through an xor;
//   * w - zw, taken per channel, is i8 as it is where it fits, and its declared sparsity with it; else it is shifted by
//     t, and the sums of x come from a product with ones;
//   * -zx * sum (w - zw) is an i32 constant of each channel; a bias of i32 whose scale is that of the product joins it.
//     A zero point that is computed (dynamic quantisation) enters through an epilogue.
//
// Sums that 32 bits may not hold are left in float. A mean of integers becomes their sum, and an average pool a
// depthwise convolution with ones. Dequantised constants that no product took become floats, as fold_constants would
// have made them.
//
// What quantises. The canonical form of a quantised network, to be written by whatever makes one (GraphBuilder):
//
//   %xq = quantize(%x, %sx, %zx) {dtype = u8}         one f32 scale, one zero point (u8, or i8), both constants
//   %xr = dequantize(%xq, %sx, %zx)                   one for all readers
//   %wr = dequantize(%wq, %sw) {axis = channels}      i8 constants, per output channel, no zero point; with tesa if
//   pruned %br = dequantize(%bq, %sx * %sw) {axis = 0}       i32, or f32 added as it is %y = add(conv(%xr, %wr), %br),
//   then activation, then the next quantize
//
// with scales as f32 shapes [] or [channels]. Whatever else is quantised, moved, added or activated between a
// dequantize and a quantize joins kernels around it (fuse_epilogues), with one multiplication and one addition each
// (requantize).
//
// Exact but for the rounding of a real result to f32 by its last bit or two: behind a quantize that can be one step.
// Needs constants folded, as far as fold_constants folds them. Tested by use_integers_test.cc.
#ifndef TESSERA_GRAPH_PASSES_USE_INTEGERS_H_
#define TESSERA_GRAPH_PASSES_USE_INTEGERS_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status UseIntegers(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_USE_INTEGERS_H_
