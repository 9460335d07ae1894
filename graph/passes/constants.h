// constants: what passes ask of constant operands, and how they make new ones from them.
//
//   ScalarConstant(graph, exponent) == 2.0            // pow(x, 2)
//   TransposedTensor(weights, {1, 0})
//
// Declared sparsity follows its elements. Pure functions. Tested by constants_test.cc.
#ifndef TESSERA_GRAPH_PASSES_CONSTANTS_H_
#define TESSERA_GRAPH_PASSES_CONSTANTS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "graph/passes/rewriter.h"

namespace tessera {

// The value of a constant of one element, of any rank; nothing for integers that a double cannot hold.
std::optional<double> ScalarConstant(const Graph& graph, ValueId id);

// A constant operand of one element beside one that has the node's type: x in add(x, 2), mul(2, x), max(x, 0).
struct WithScalar {
  ValueId x = ValueId::kNone;
  double scalar = 0;
  int position = 0;  // of x
};
// For a node with two operands and no epilogue. `x_first`: the constant must be operand 1 (sub, div, pow).
std::optional<WithScalar> MatchScalar(const Graph& graph, const Node& node, bool x_first = false);

// Result dimension d is dimension perm[d] of `tensor`.
Tensor TransposedTensor(const Tensor& tensor, std::span<const int64_t> perm);

// New constants beside constant `id`; its sparsity and quantisation parameters are rearranged likewise.
ValueId TransposedConstant(Rewriter& r, ValueId id, std::span<const int64_t> perm);
// Of quantisation parameters only those per tensor survive.
ValueId ReshapedConstant(Rewriter& r, ValueId id, const Shape& shape);

// The permutation that undoes `perm`, and the one that applies `first`, then `second`.
std::vector<int64_t> InversePerm(std::span<const int64_t> perm);
std::vector<int64_t> ComposePerms(std::span<const int64_t> first, std::span<const int64_t> second);
bool IsIdentityPerm(std::span<const int64_t> perm);
// Does transposing leave the row-major order of the elements as it is (only dimensions of extent 1 move)?
bool KeepsOrder(const Shape& shape, std::span<const int64_t> perm);
Shape PermutedShape(const Shape& shape, std::span<const int64_t> perm);
// The quantisation parameters of a transposed value; nothing for blocked ones.
std::optional<QuantParams> PermutedQuant(const std::optional<QuantParams>& quant, std::span<const int64_t> perm);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_CONSTANTS_H_
