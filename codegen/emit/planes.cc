#include "codegen/emit/planes.h"

#include <algorithm>
#include <set>

namespace tessera {
namespace {

constexpr int64_t kLine = 16;  // elements of 32 bits in 64 bytes

bool IsImage(const TensorType& type) { return type.dtype == DType::kF32 && type.shape.rank() == 4; }

}  // namespace

int64_t PaddedPitch(int64_t elements) {
  const int64_t lines = (elements + kLine - 1) / kLine;
  return (lines | 1) * kLine;
}

void ChoosePitches(std::span<const Choice> choices, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::set<ValueId> padded;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (!choices[n].way.padded_planes || node.outputs.size() != 1) continue;
    const ValueId id = node.outputs[0];
    if (IsImage(graph[id].type) && graph[id].type.shape.num_elements() > 0 && !builder.IsOutput(id)) padded.insert(id);
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const bool knows = choices[n].way.padded_planes;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (!knows || k > 0) padded.erase(node.inputs[k]);
    }
    if (!node.epilogue) continue;
    // An operand that is repeated, such as [N, C, 1, 1], is addressed by its shape alone.
    const Shape& result = graph[node.outputs[0]].type.shape;
    for (ValueId id : node.epilogue->inputs) {
      if (!knows || graph[id].type.shape != result) padded.erase(id);
    }
  }
  for (ValueId id : padded) {
    const Shape& shape = graph[id].type.shape;
    const int64_t plane = shape[2] * shape[3], pitch = PaddedPitch(plane);
    if (pitch != plane) builder.SetPitch(id, pitch);
  }
}

}  // namespace tessera
