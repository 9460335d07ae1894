// integer_product: u8 activations times integer weights as nodes in the form that kernels are made for
// (use_integers.h), with everything that zero points add to the sums.
//
//   std::string why;
//   std::optional<ProductParts> parts = ReadProduct(r, r.node(id), &why);        // or why it stays in float
//   ValueId sums = EmitIntegerProduct(r, id, ProductForm(r, id), x, parts->weights, parts->fitted, bias);   // exact
//   i32
//
// Tested by use_integers_test.cc.
#ifndef TESSERA_GRAPH_PASSES_INTEGER_PRODUCT_H_
#define TESSERA_GRAPH_PASSES_INTEGER_PRODUCT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "graph/passes/quantized.h"
#include "graph/passes/rewriter.h"

namespace tessera {

// Weights in i8: of channel n, what stands there is `shifts[n]` more than what is meant.
struct FittedWeights {
  Tensor i8;
  std::optional<Attribute> tesa;
  std::vector<int64_t> shifts;      // one for each channel
  std::vector<int64_t> sums;        // of what is meant, for each channel
  std::vector<int64_t> magnitudes;  // sum of |element of i8|, for each channel
  bool shifted = false;             // one of them is not 0
};

// All that a product needs to run on integers.
struct ProductParts {
  ValueId x = ValueId::kNone;  // i8 or u8, computed
  Scaling scaling;             // of x; of a product of integers only the zero point
  IntegerWeights weights;
  FittedWeights fitted;
  int64_t terms = 0;  // of each sum
};
// Of a matmul or conv of reals that are dequantised integers, or of integers; nullopt and why where it must stay as it
// is.
std::optional<ProductParts> ReadProduct(const Rewriter& r, const Node& node, std::string* why);

// The product as it would be on reals: its op, parameters and name, and the shape of the result.
struct ProductForm {
  Node node;
  Shape result;
  ProductForm(Node like, Shape shape) : node(std::move(like)), result(std::move(shape)) {}
  ProductForm(const Rewriter& r, NodeId id) : node(r.node(id)), result(r.shape(node.outputs[0])) {}
  // The dimension of the result in which its channels lie.
  int channel_dim() const { return ChannelDim(node, result.rank()); }
};

// The left operand of a product: u8, with a zero point that is a constant or the value of a scalar integer.
struct IntegerActivation {
  ValueId integers = ValueId::kNone;
  std::optional<int64_t> zero;
  ValueId computed_zero = ValueId::kNone;
};

// `why`: a channel's weights lie further apart than 8 bits reach.
std::optional<FittedWeights> FitWeights(const IntegerWeights& weights, std::string* why);

// Can a sum of products with any u8 activations, corrections and `bias` (one for each channel, or empty) leave 32 bits?
bool MayOverflow(const FittedWeights& fitted, int64_t terms, const std::vector<int64_t>& bias);

// Nodes before `before` that compute what the product would on the integers that are meant, plus bias: exact i32 sums,
// without epilogue but where the zero point is computed.
ValueId EmitIntegerProduct(Rewriter& r, NodeId before, const ProductForm& form, const IntegerActivation& x,
                           const IntegerWeights& weights, const FittedWeights& fitted,
                           const std::vector<int64_t>& bias);

// A constant with `values` along dimension `dim` of a result of `rank` dimensions; a scalar where all are equal.
ValueId ConstantAlong(Rewriter& r, const std::string& name, DType dtype, int rank, int dim,
                      const std::vector<double>& values);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_INTEGER_PRODUCT_H_
