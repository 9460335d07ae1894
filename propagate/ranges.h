// ranges: an interval that holds every element of a tensor, by interval arithmetic over what the ops compute.
//
//   %x: [-inf, inf]   %h = relu(%x): [0, inf]   %y = clip(%x, 0, 6): [0, 6]   %i = cast(%y) to i8: [0, 6]
//
// Constants have the least and greatest of their data; a node's stages are evaluated over intervals, one for each
// buffer, a sum of n terms as n times its term. The result is conservative: every element that is not NaN lies inside,
// also where floats are rounded to f32 on the way (the ends of inexact results are moved outward by as much). What a
// formula does not show (that a softmax stays within [0, 1]) is said by op. Bit widths are derived from it.
// Pure functions. Tested by ranges_test.cc against runs.
#ifndef TESSERA_PROPAGATE_RANGES_H_
#define TESSERA_PROPAGATE_RANGES_H_

#include <span>
#include <vector>

#include "graph/graph.h"
#include "tesa/known.h"

namespace tessera {

// Fills `range` of each value's Known, which say what is constant. `known` is by ValueId; constants have theirs from
// Known::OfConstant.
void AddRanges(const Graph& graph, std::vector<Known>& known);

// The values of a body whose inputs lie in these intervals, over any index. Before storing: not narrowed to a type.
Interval RangeOf(const Body& body, std::span<const Interval> inputs);

// What is stored of values in `range` as `type`: integers wrap, so that what does not fit may be anything.
Interval Stored(const Interval& range, DType type);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RANGES_H_
