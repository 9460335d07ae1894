#include "graph/passes/choose_layout.h"

#include "graph/passes/move_layout.h"

namespace tessera {

Status ChooseLayout(Graph& graph) {
  return MoveLayout(graph, ImageLayout::kChannelsLast, [](const Graph& g, const Node& node) {
    switch (node.op) {
      case Op::kConv:
      case Op::kMaxPool:
      case Op::kAvgPool: {
        const bool index = node.epilogue && node.epilogue->body.uses_index();
        const bool single = node.outputs.size() == 1 && g[node.inputs[0]].type.shape.rank() >= 3;
        return single && !index && node.attrs.String("layout") == "nchw" ? LayoutRole::Moves() : LayoutRole::Stays();
      }
      default: return FollowerRole(g, node, ImageLayout::kChannelsLast);
    }
  });
}

}  // namespace tessera
