// OnlyReader: who a step may make a value for, instead of leaving it in memory.
//
// Pure. Tested by gpu_rowwise_test.cc and gpu_depthwise_pointwise_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_ONLY_READER_H_
#define TESSERA_CODEGEN_EMIT_GPU_ONLY_READER_H_

#include <algorithm>

#include "graph/graph.h"

namespace tessera {

// The one node that reads `x`, once, through its inputs or its epilogue's; nullptr for an output of the graph.
inline const Node* OnlyReader(const Graph& graph, ValueId x) {
  if (std::find(graph.outputs.begin(), graph.outputs.end(), x) != graph.outputs.end()) return nullptr;
  const Node* reader = nullptr;
  for (const Node& node : graph.nodes) {
    for (ValueId id : Operands(node)) {
      if (id != x) continue;
      if (reader != nullptr) return nullptr;
      reader = &node;
    }
  }
  return reader;
}

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_ONLY_READER_H_
