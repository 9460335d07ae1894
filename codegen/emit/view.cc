// The view emitter: an op that only renames elements (a reshape, a transpose of unit axes) becomes another name for the
// same bytes and costs nothing.
#include <optional>

#include "codegen/emitter.h"

namespace tessera {
namespace {

// Does the node keep the row-major order of all elements?
bool KeepsOrder(const Graph& graph, const Node& node) {
  if (node.op == Op::kReshape) return true;
  if (node.op == Op::kExpand || node.op == Op::kTile) {
    return graph[node.inputs[0]].type.shape.num_elements() == graph[node.outputs[0]].type.shape.num_elements();
  }
  if (node.op != Op::kTranspose) return false;
  int64_t last = -1;
  for (int64_t axis : node.attrs.Ints("perm")) {
    if (graph[node.inputs[0]].type.shape[static_cast<int>(axis)] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

}  // namespace

extern const std::string_view kViewDoc;
const std::string_view kViewDoc = "reshapes and order-keeping transposes as another name for the same bytes";

std::optional<double> EstimateView(const Graph& graph, const Node& node, const Target&, std::string* why) {
  if (!KeepsOrder(graph, node)) {
    *why = "moves elements";
    return std::nullopt;
  }
  if (node.epilogue) {
    *why = "has an epilogue";
    return std::nullopt;
  }
  for (ValueId output : graph.outputs) {
    if (output != node.outputs[0]) continue;
    *why = "an output of the program has a place of its own";
    return std::nullopt;
  }
  return 0.0;
}

Status PlanView(const Node& node, PlanBuilder& builder) {
  TES_CHECK(builder.Alias(node.outputs[0], node.inputs[0]), node.name);
  return OkStatus();
}

}  // namespace tessera
