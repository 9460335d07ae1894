#include "graph/passes/pipeline.h"

namespace tessera {

Status OptimizeForHost(Graph& graph) {
  RemoveDeadNodes(graph);
  return OkStatus();
}

}  // namespace tessera
