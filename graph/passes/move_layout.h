// move_layout: takes nodes from one order of an image's dimensions to the other, where a cost says so.
//
//   return MoveLayout(graph, ImageLayout::kChannelsLast, [](const Graph& graph, const Node& node) -> LayoutRole {
//     if (node.op == Op::kConv) return LayoutRole::Moves();
//     return FollowerRole(graph, node, ImageLayout::kChannelsLast);
//   });
//
// [N, C, spatial..] is channels first, [N, spatial.., C] channels last. Which nodes move is a minimum cut: each value
// that one side makes and the other reads is transposed, which costs its elements once; a transpose that only moves
// dimensions of extent 1 costs nothing; a node costs what its role says for the side that it is on. Parameters of nodes
// that move are permuted, constants are re-laid out now, and transposes that are there already take part for free, as
// they compose. Leaves transposes side by side; canonicalize cancels them.
//
// Always safe: values are permuted, never changed. Tested by choose_layout_test.cc and choose_planes_test.cc.
#ifndef TESSERA_GRAPH_PASSES_MOVE_LAYOUT_H_
#define TESSERA_GRAPH_PASSES_MOVE_LAYOUT_H_

#include <cstdint>
#include <functional>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/passes/min_cut.h"

namespace tessera {

enum class ImageLayout : uint8_t { kChannelsFirst, kChannelsLast };

// How a node takes part. Costs are in elements read and written once.
struct LayoutRole {
  enum class Kind : uint8_t {
    kStays,      // reads and makes values as they are
    kMoves,      // can be in either order; of images its first operand and its result
    kTransposes  // is a transpose: whatever it reads or makes composes with it
  };
  Kind kind = Kind::kStays;
  int64_t cost_of_staying = 0, cost_of_moving = 0;

  static LayoutRole Stays() { return {}; }
  // Must move.
  static LayoutRole Moves() { return {Kind::kMoves, MinCut::kUncuttable, 0}; }
  // Goes where its neighbours are, unless that costs more.
  static LayoutRole Follows(int64_t cost_of_staying = 0, int64_t cost_of_moving = 0) {
    return {Kind::kMoves, cost_of_staying, cost_of_moving};
  }
};

// Of nodes that are no convolutions or pools: element-wise ops, concat, pad, slice, reductions, batch norm, softmax,
// resize and quantisation follow, transposes are what they are, all others stay.
LayoutRole FollowerRole(const Graph& graph, const Node& node, ImageLayout to);

Status MoveLayout(Graph& graph, ImageLayout to, const std::function<LayoutRole(const Graph&, const Node&)>& role_of);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_MOVE_LAYOUT_H_
