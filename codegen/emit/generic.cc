// The generic emitter: every stage of a node's Compute becomes one step. Applies to everything, so that no node ever
// runs anywhere but in compiled code; see stage.h for the kernels.
#include <optional>

#include "codegen/emit/stage.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {

extern const std::string_view kGenericDoc;
const std::string_view kGenericDoc = "any op, stage by stage, from its compute description";

std::optional<double> EstimateGeneric(const Graph& graph, const Node& node, const Target& target, std::string*) {
  const Compute compute = NodeCompute(graph, node);
  double us = 0;
  for (const Stage& stage : compute.stages) us += EstimateStage(compute, stage, target);
  return us;
}

Status PlanGeneric(const Node& node, PlanBuilder& builder) {
  const Compute compute = NodeCompute(builder.graph(), node);
  RETURN_IF_ERROR(compute.Verify().WithContext("node '" + node.name + "'"));
  const std::vector<ValueId> operands = Operands(node);
  std::vector<int> temps, tables;
  for (size_t k = 0; k < compute.temps.size(); ++k) {
    const TensorType& type = compute.temps[k];
    temps.push_back(
        builder.Temp(node.name + ".temp" + std::to_string(k), ByteSize(type.dtype, type.shape.num_elements())));
  }
  for (size_t k = 0; k < compute.tables.size(); ++k) {
    tables.push_back(builder.Constant(node.name + ".table" + std::to_string(k), compute.tables[k]));
  }
  const auto place = [&](BufferRef ref) -> StepArg {
    switch (ref.kind) {
      case BufferKind::kInput: return builder.Read(operands[ref.index]);
      case BufferKind::kOutput: return builder.Write(node.outputs[ref.index]);
      case BufferKind::kTemp: return {.buffer = temps[ref.index]};
      default: return {.buffer = tables[ref.index]};
    }
  };
  for (const Stage& stage : compute.stages) {
    PlanStep step = PlanStage(compute, stage, builder.target(), place);
    step.label = node.name;
    builder.AddStep(std::move(step));
  }
  return OkStatus();
}

}  // namespace tessera
