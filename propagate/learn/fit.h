// Fit: from which output elements moved with which input elements to a clause that says the same by affine indices.
//
//   rows   element 5 of in0[3,4] moves out0[1,0], out0[1,1];  element 6 …
//   fit    out0[a,b] <- in0[a,c]
//
// Axis by axis. An output axis follows the input axis of which its moved indices are a function; the pairs of indices
// that occur are then one of
//
//   window   in = s*out + d*tap + c        equal, shifted, strided, flipped; windows; roll and cumulative sums, too
//   block    out/m == in/n                 groups: both axes are viewed as [groups, rest]
//   spread   out = s*in + d*tap + c        what a strided convolution's gradient does
//   table    which may meet which          links: resize, reflection; of this shape only
//
// and an axis that follows none is free, or stays within a range. Where two axes nearly are free of each other
// (`ragged`) the first guess is that they are and that an operand that is absent at the border explains the rest, as
// padding does for a kernel. The guess is only ever a guess: whoever calls holds the clause against the rows, exactly.
// Pure functions. Tested by fit_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_FIT_H_
#define TESSERA_PROPAGATE_LEARN_FIT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "propagate/rule/rule.h"

namespace tessera {

// What moved in one output with some elements of one input.
struct Rows {
  std::vector<int64_t> in;                // elements
  std::vector<std::vector<int64_t>> out;  // [n]: elements that moved with in[n], ascending
  bool empty() const;                     // nothing moved at all
};

// An axis of a tensor seen as [groups, rest].
struct Split {
  int axis = 0;
  int64_t groups = 1;
};
Shape SplitShape(const Shape& shape, const std::vector<Split>& splits);

struct FitOptions {
  Shape out_view, in_view;   // of as many elements as the tensors
  bool ragged_free = false;  // nearly free is free
  bool tables = false;       // links are allowed
};

struct Fitted {
  Clause clause;
  bool ragged = false;  // some pair was nearly free: the other value of ragged_free gives another clause
  // A block was met: fit again with these splits of the views (clause is then empty).
  std::vector<Split> split_out, split_in;
  // Input axis that equals this output axis throughout, or -1; so that a split of one can be carried to the other.
  std::vector<int> equal_in;
};

// kRuleNotLearned where no form fits; the message names the axis.
StatusOr<Fitted> FitClause(int output, int input, const Rows& rows, const FitOptions& options);

// How two axes of extents `out` and `in` meet: [in * out_extent + out] for the inputs that were `seen`.
struct AxisPair {
  int64_t out = 0, in = 0;
  std::vector<uint8_t> meets, seen;
};
struct AxisForm {
  enum class Kind : uint8_t { kWindow, kSpread, kBlock, kTable } kind = Kind::kTable;
  int64_t scale = 1;                       // s
  int64_t step = 1, taps = 1, offset = 0;  // d, how many, c
  int64_t groups = 1;
};
// The simplest form that gives exactly these pairs.
AxisForm FormOf(const AxisPair& pair);

// indices == c + sum(coefficient * values) for each sample, with at most two variables; the simplest, or nothing.
// `extents` of the variables, `extent` of the axis.
std::optional<RuleIndex> FitIndex(const std::vector<std::vector<int64_t>>& values, const std::vector<int64_t>& indices,
                                  const std::vector<int64_t>& extents, int64_t extent);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_FIT_H_
