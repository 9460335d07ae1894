// One stage of a Compute as a kernel for blocks: for emitters with steps of their own beside it. See gpu_stages.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_STAGES_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_STAGES_H_

#include <functional>

#include "codegen/plan.h"
#include "graph/compute.h"

namespace tessera {

// A step that runs `stage`, as PlanStage (stage.h) makes one for every target.
PlanStep PlanGpuStage(const Compute& compute, const Stage& stage, const Target& target,
                      const std::function<StepArg(BufferRef)>& place);
// Expected time of that step.
double GpuStageMicroseconds(const Compute& compute, const Stage& stage, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_STAGES_H_
