// For tests of emitters for GPUs: what they write for chips, and what it computes on the host retarget.
//
//   EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_rowwise", 1e-5));
//
// compiles for sm_75 and sm_90 (nothing undefined, no local memory) and runs the same kernels with the target simt, and
// as an AMD chip's where it has the emitter. TESSERA_PTX_DIR=directory keeps the texts there, for ptxas -v. Pure
// functions otherwise. Tested through its users.
#ifndef TESSERA_CODEGEN_EMIT_TESTING_GPU_KERNELS_H_
#define TESSERA_CODEGEN_EMIT_TESTING_GPU_KERNELS_H_

#include <span>
#include <string>

#include "base/status.h"
#include "codegen/testing/run_compiled.h"
#include "graph/graph.h"

namespace tessera {

// All kernels of the graph, compiled for `target` ("cuda:sm_90") with `emitter` where it applies.
StatusOr<std::string> PtxOf(const Graph& graph, const std::string& target, const std::string& emitter);

// As above; at least one node must take `emitter`.
testing::AssertionResult AgreesOnGpu(const Graph& graph, std::span<const Tensor> inputs, const std::string& emitter,
                                     double allowed);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TESTING_GPU_KERNELS_H_
