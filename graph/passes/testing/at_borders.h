// at_borders: are the integers of a graph after a pass those of the graph before, but for reals on a border?
//
//   ASSIGN_OR_RETURN(Borders b, CompareAtBorders(before, after, inputs));   // after: before, then Requantize
//   b.integers, b.other_side;                                               // 8192 of them, 1 on the other side
//
// 81.4999972 is nearer to 81 than to 82, but the f32 nearest to it is 81.5, which becomes 82. So a real that becomes an
// integer may fall to either side where it lies within the rounding of f32 of the middle of two integers, and nowhere
// else. Whole outputs cannot show that, since one such integer changes all that follows. Here each node of the graph
// before is run in double on what the graph after holds, and held against what the graph after makes of it. The pass
// keeps the nodes and their order; masks are in the data. Errors name node and element. Pure functions. Tested by
// requantize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_TESTING_AT_BORDERS_H_
#define TESSERA_GRAPH_PASSES_TESTING_AT_BORDERS_H_

#include <cstdint>
#include <span>

#include "base/status.h"
#include "graph/graph.h"
#include "tesa/tensor.h"

namespace tessera {

// How far from a border a real may be that f32 puts on it: a factor, a product, a shift and a sum, each rounded, of
// reals up to 256.
constexpr double kBorder = 4 * 256 * 0x1p-24;

struct Borders {
  int64_t integers = 0;    // elements of integer results of nodes
  int64_t other_side = 0;  // of these, how many are the second nearest
  double farthest = 0;     // the largest distance from the border of a real whose integer is
};

StatusOr<Borders> CompareAtBorders(const Graph& before, const Graph& after, std::span<const Tensor> inputs);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_TESTING_AT_BORDERS_H_
