// requantize: arithmetic between integers becomes one multiplication and one addition, each rounded to f32.
//
//   conv epilogue(%c, %s, %b): u8 (a: i32, c, s, b) {          conv epilogue(%c, %s', %b'): u8 (a: i32, c, s', b') {
//     v = max(f32(a + c) * s + b, 0)                     ->      v = narrow:f32(narrow:f32(f32(a + c) * s') + b')
//     q = round_even(v / 0.05) + 4                               return u8(round_even(min(max(v, 4), 255)))
//     return i32(min(max(q, 0), 255))                          }            with s' = s / 0.05, b' = b / 0.05 + 4
//   }
//
// The last pass: it looks at bodies as fuse_epilogues left them. Scales and shifts by constants (numbers, and constant
// operands that broadcast) are collected into one factor for each operand and one constant; bounds, activations among
// them, move behind them as long as they are the same for all elements; a zero point joins the constant where that
// rounds ties alike (where it is even); a division by a scale is a multiplication; integers that only come and go
// between a quantize and a dequantize stay rounded floats. An element-wise node becomes a cast of one operand with all
// of its arithmetic as epilogue, a dequantize for example.
//
// Where all that enters is exact (integers, constants, graph inputs, and what such bodies gave), each f32 operation is
// followed by `narrow` to f32, so that no kernel fuses a multiplication and an addition: kernels then give, to the bit,
// what the interpreter gives. Elsewhere values are what they were up to the rounding of f32 operations in another
// order. Only nodes in which integers meet f32 are touched. Tested by requantize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_REQUANTIZE_H_
#define TESSERA_GRAPH_PASSES_REQUANTIZE_H_

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

Status Requantize(Graph& graph);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_REQUANTIZE_H_
