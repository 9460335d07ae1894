// computed_product: matrix products of two quantised activations, as attention has them, on the integers themselves.
//
//   %a: f32[B,M,K] = dequantize(%q, %sa, %za)          %p: i32[B,M,N] = matmul(%q: u8, %k: i8)
//   %b: f32[B,K,N] = dequantize(%k, %sb, %zb)      ->  %c: i32[B,M,N] = %p - zb * sum_k %q - za * sum_k %k + K * za *
//   zb %y: f32[B,M,N] = matmul(%a, %b)                    %y: f32[B,M,N] = cast(%c) * (sa * sb)
//
// The right operand must be i8, as kernels multiply u8 by i8: where it was u8 the caller makes it 128 lower, and its
// zero point with it. A zero point of 0 costs nothing; sums of the operands are of one value for each row or column.
// Exact i32 sums. Tested by use_integers_test.cc.
#ifndef TESSERA_GRAPH_PASSES_COMPUTED_PRODUCT_H_
#define TESSERA_GRAPH_PASSES_COMPUTED_PRODUCT_H_

#include <optional>
#include <string>

#include "graph/graph.h"
#include "graph/passes/quantized.h"
#include "graph/passes/rewriter.h"

namespace tessera {

struct ComputedProduct {
  Dequantized left, right;  // integers of 8 bits, both with a constant scale and zero point
  int64_t terms = 0;        // of each sum
};

// Of a matmul of reals; nullopt and why where it must stay as it is.
std::optional<ComputedProduct> ReadComputedProduct(const Rewriter& r, const Node& node, std::string* why);

// Nodes before `before`, a matmul, that compute it on u8 integers `left` and i8 integers `right` less their zero
// points: i32, without epilogue.
ValueId EmitComputedProduct(Rewriter& r, NodeId before, ValueId left, int64_t left_zero, ValueId right,
                            int64_t right_zero);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_COMPUTED_PRODUCT_H_
