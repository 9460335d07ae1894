// quantized: what passes ask of integers that stand for reals.
//
//   %r: f32[..] = dequantize(%q, %s, %z)       ReadDequantize(r, %r) -> {%q, {%s, %z, 0.05, 128}}
//
// A *scaling* is one scale and one zero point for a whole tensor: real = (integer - zero_point) * scale. Passes follow
// scalings that are constants by value, so that two constants of one value are one scaling; computed ones (dynamic
// quantisation) by identity. Functions without effect. Tested by move_scales_test.cc and use_integers_test.cc.
#ifndef TESSERA_GRAPH_PASSES_QUANTIZED_H_
#define TESSERA_GRAPH_PASSES_QUANTIZED_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/passes/rewriter.h"
#include "tesa/attribute.h"

namespace tessera {

struct Scaling {
  ValueId scale = ValueId::kNone, zero_point = ValueId::kNone;  // zero_point kNone: 0
  std::optional<double> scale_value;                            // where constant
  std::optional<int64_t> zero_value;

  bool is_constant() const { return scale_value && zero_value; }
  // Both known and equal, or the same computed values.
  bool SameAs(const Scaling& other) const;
};

// The scaling of a quantize or dequantize without epilogue; nothing where it has one scale for each index or block, or
// a constant scale that is no usable number.
std::optional<Scaling> ScalingOf(const Rewriter& r, const Node& node);

struct Dequantized {
  ValueId integers = ValueId::kNone;
  Scaling scaling;
};
// What `real` is made of, where a dequantize with a scaling makes it.
std::optional<Dequantized> ReadDequantize(const Rewriter& r, ValueId real);

// A constant matrix or filter as exact integers, zero points taken off: real = value * scale of its channel.
struct IntegerWeights {
  std::string name;
  Shape shape;
  int channel_axis = 0;               // of shape: the channels of the result
  std::vector<int16_t> values;        // as the constant lies
  std::vector<double> scales;         // one, or one for each channel; {1} of integers that stand for themselves
  std::optional<Attribute> tesa;      // declared, and true of `values`
  bool zeros_not_looked_for = false;  // the constant had a zero point, so that no importer looked for zeros

  int64_t channels() const { return shape[channel_axis]; }
};
// Operand 1 of a matmul or conv; `why` says what it lacks. Where the result is a float the operand is a dequantize of a
// constant, else a constant.
std::optional<IntegerWeights> ReadIntegerWeights(const Rewriter& r, const Node& node, std::string* why);

// The dimension of the result, of `rank`, of a matmul or conv in which its channels lie.
int ChannelDim(const Node& node, int rank);
// A shape of `rank` - dim dimensions that broadcasts `count` values along dimension `dim` of a result of `rank`.
Shape AlongDim(int rank, int dim, int64_t count);

// A bias that a file gives as integers: behind reshapes a dequantize of an i32 constant without zero point, one value
// for each of `channels` along dimension `dim` of a result of `rank`.
struct IntegerBias {
  std::vector<int64_t> values;
  std::vector<double> scales;  // one, or one for each channel
};
std::optional<IntegerBias> ReadIntegerBias(const Rewriter& r, ValueId id, int rank, int dim, int64_t channels);

// Ops whose results are elements of operand 0 (concat: of all operands), moved, and nothing else: what they do to
// integers they do to the reals that these stand for. pads put 0 and relu cuts at 0, which the zero point stands for.
bool MovesIntegers(const Rewriter& r, const Node& node);

// A dequantize that use_integers may need as it is: fold_constants leaves it alone. (Integer biases; weights of a
// product whose other operand is dequantised.)
bool IsKeptForIntegers(const Rewriter& r, const Node& node);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_QUANTIZED_H_
