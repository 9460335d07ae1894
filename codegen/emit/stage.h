// Lowers one Stage of a Compute, whatever it is, to a vector kernel: the path that every op can take on every target.
//
//   for task in [begin, end):                   a point of the outer parallel axes, and a chunk of the vector axis
//     for v in chunk, W lanes at a time:        the last lanes are masked
//       acc = identity
//       for each reduced point: acc = acc ⊕ body(reads)
//       write finish(acc, finish_reads)
//
// or, when the vector axis is a reduced one, the lanes are joined at the end. First neighbouring axes that every access
// walks together are merged (an element-wise chain over [2,3,4] is one axis of 24). Along the vector axis an access is
// one of: the same for all lanes (a scalar load), consecutive (a vector load), anything else (a gather).
// Tested by stage_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_STAGE_H_
#define TESSERA_CODEGEN_EMIT_STAGE_H_

#include <functional>
#include <memory>

#include "codegen/plan.h"
#include "graph/compute.h"

namespace tessera {

// What is the same for every way to lower a stage: a Compute of it alone, axes collapsed, whose inputs are the buffers
// that it reads (the kernel's arguments, then what it writes), and a step that lacks only its tasks or launch, the
// kernel's key and how to write it.
struct PreparedStage {
  std::shared_ptr<const Compute> single;
  PlanStep step;
};
PreparedStage PrepareStage(const Compute& compute, const Stage& stage, const std::function<StepArg(BufferRef)>& place);

// A step that runs `stage` of `compute`; `place(ref)` is the argument that reads (or writes) a buffer of the Compute.
PlanStep PlanStage(const Compute& compute, const Stage& stage, const Target& target,
                   const std::function<StepArg(BufferRef)>& place);

// Adds a step for each stage of the node's Compute, made by `plan`, and the temporaries and tables they share.
using StagePlanner =
    std::function<PlanStep(const Compute& compute, const Stage& stage, const std::function<StepArg(BufferRef)>& place)>;
Status PlanStages(const Node& node, PlanBuilder& builder, const StagePlanner& plan);

// Rough cost of a body in instructions.
double CostOf(const Body& body);

// Rough single-core time of a stage in microseconds when lowered this way.
double EstimateStage(const Compute& compute, const Stage& stage, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_STAGE_H_
