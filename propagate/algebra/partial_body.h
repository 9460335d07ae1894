// PartialBody: what a scalar body still depends on when some of its inputs are known.
//
//   (a, b, c) { return add(mul(a, b), c) }     b = 0:  depends on c alone
//   (c, x, y) { return select(c, x, y) }       c = 1:  depends on x alone
//
// A value is known, or unknown with the inputs that reach it; unknown integers keep a range (that of the type in which
// they are stored), so that min(x, 0) of unsigned x is known. What makes a value known though an operand is not:
//
//   mul 0 · x      and 0 & x      div, rem 0 / x, and of integers x / 0      pow x ^ 0      shl, shr of 0
//   or true | x    select by a known condition (its other branch goes)       min, max and comparisons by ranges
//
// Unknown values are finite and divisors of floats not 0: 0 · x is 0 whatever x is. Two inputs are never assumed to be
// equal, nor two branches: x - x stays unknown. Pure functions. Tested by algebra_test.cc.
#ifndef TESSERA_PROPAGATE_ALGEBRA_PARTIAL_BODY_H_
#define TESSERA_PROPAGATE_ALGEBRA_PARTIAL_BODY_H_

#include <bitset>
#include <optional>
#include <span>
#include <vector>

#include "graph/body.h"

namespace tessera {

// More inputs than this: everything is said to depend on everything.
constexpr int kMaxPartialInputs = 128;
using InputSet = std::bitset<kMaxPartialInputs>;

struct PartialValue {
  std::optional<ScalarValue> known;
  InputSet inputs;            // that reach it; none when known
  int64_t low = 0, high = 0;  // of integers and bool that are unknown; unsigned 64-bit values have no range
  bool ranged = false;        // are low and high meant?
};

// `stored` has the element type of each input where it is narrower than the compute type says (u8 is read as i32);
// empty: nothing is known of ranges. `inputs` has what is known of each input, nullopt where nothing is.
PartialValue EvaluatePartially(const Body& body, std::span<const std::optional<ScalarValue>> inputs,
                               std::span<const DType> stored = {});

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_ALGEBRA_PARTIAL_BODY_H_
