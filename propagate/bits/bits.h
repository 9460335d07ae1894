// bits: how many bits each tensor of a graph needs, from what its values can be and from what its readers read.
//
//   %q: i8[1,64] = quantize(%x, %s)              8 bits are known to be needed
//   %f: f32[1,64] = dequantize(%q, %s)
//   %h: f32[1,64] = relu(%f)                     on the grid of %q, never negative: 7 bits
//   %p: u4[1,64] = quantize(%h, %s)              reads [0, 15]: %h, %f and %q need 4 bits each
//
// Forward, the range of every value (bit_flow.h), with what its type, its declared width and its constants say;
// backward, the range and the bits that any reader uses. Where readers are content with a clipped value, its producer
// may write it saturated, which narrows what follows: forward and backward repeat until nothing changes. A float tensor
// counts as narrow where its values lie on the grid of one scale, or where nothing but such a grid is read of it, also
// through reshape, transpose, slice, concat, max_pool, relu and clip. Over several readers the largest width counts.
//
// Exact: an integer network gives the same bits when every tensor is stored at its width, as Stored does; a float one
// that quantises gives the same integers for inputs without NaN. The memory of graph inputs and outputs belongs to the
// caller and keeps its type. Pure functions. Tested by bits_test.cc.
#ifndef TESSERA_PROPAGATE_BITS_BITS_H_
#define TESSERA_PROPAGATE_BITS_BITS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/compute.h"
#include "graph/graph.h"
#include "tesa/known.h"

namespace tessera {

// The reals (q - zero_point) * scale.
struct BitGrid {
  double scale = 1;
  int64_t zero_point = 0;
  friend bool operator==(const BitGrid&, const BitGrid&) = default;
};

struct ValueBits {
  int type_bits = 0;  // of the type
  int known = 0;      // what its values need, going forward only
  int read = 0;       // what its readers read of it; 0: nothing
  int bits = 0;       // the width at which it may be stored: at most known and read

  // How: integers (of a float tensor: its numbers on `grid`) within `range`, values beyond it saturated if `saturates`;
  // of those the bits `low` … low + bits - 1, sign-extended when read if `is_signed`.
  Interval range;
  bool saturates = false;
  bool is_signed = false;
  int low = 0;
  std::optional<BitGrid> grid;

  // "8 -> 4 bits, saturated to [0, 15]".
  std::string ToString() const;
};

struct BitReport {
  std::vector<ValueBits> values;  // by ValueId
  int passes = 0;                 // forward and backward, until nothing changed

  // The mean width over `of` (all where empty), weighted by elements or not.
  double MeanBits(const Graph& graph, bool by_elements) const;
};

// The graph is one that the verifier accepts. TES-1110 names a constant that a declared width cannot hold.
StatusOr<BitReport> PropagateBits(const Graph& graph);

// What a reader finds when `value` was stored as `bits` says.
RefTensor Stored(const ValueBits& bits, const RefTensor& value);

// The least number of bits that holds all integers of [low, high]; 64 where it is unbounded. Signed when low < 0.
int WidthOf(const Interval& range);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_BITS_BITS_H_
