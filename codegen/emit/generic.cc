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
  return PlanStages(node, builder, [&](const Compute& compute, const Stage& stage, const auto& place) {
    return PlanStage(compute, stage, builder.target(), place);
  });
}

}  // namespace tessera
