// GpuMatmul's ways: which tilings a dense product may take on a GPU, what each is expected to cost, and its steps.
//
// A constant B is laid anew while compiling, as [columns, depth] with lines of a multiple of 16 bytes, whatever way it
// came; other operands are read where they lie. Tested by gpu_matmul_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_GPU_MATMUL_H_
#define TESSERA_CODEGEN_EMIT_GPU_GPU_MATMUL_H_

#include <optional>
#include <string>
#include <vector>

#include "codegen/emit/gpu/matmul_kernel.h"
#include "codegen/target.h"

namespace tessera {

// How operands of the product lie when it is made with `tiling`, or nothing with the reason in *why.
// `a_offset`, `b_offset`: bytes from their buffers' starts. `windows`: A's rows are the windows of such an image, which
// are gathered while tiles are loaded (tile_copy.h); groups of a batch are its groups of channels.
std::optional<GpuMatmul> LayGpuMatmul(const MatmulProblem& problem, const MatmulTiling& tiling, DType a, DType b,
                                      int64_t a_offset, int64_t b_offset, const Target& target, std::string* why,
                                      const ConvGeometry* windows = nullptr);

// All tilings for the product, the one with the least expected time first. Selection is offered the first few.
// `shares_are_joined`: the step behind adds up shares of the depth in any case.
struct GpuMatmulWay {
  MatmulTiling tiling;
  double us = 0;
};
std::vector<GpuMatmulWay> GpuMatmulWays(const MatmulProblem& problem, DType a, DType b, const Target& target,
                                        std::string* why, const ConvGeometry* windows = nullptr,
                                        bool shares_are_joined = false);
// The same where B is `listed` tiles of a constant (GpuMatmul::listed).
GpuMatmul ListTiles(GpuMatmul matmul, int64_t listed);
// Tilings, with the whole depth each, for operands of these types.
std::vector<MatmulTiling> GpuTilings(DType a, DType b, const Target& target, std::string* why);
double GpuMatmulMicroseconds(const GpuMatmul& matmul, const Target& target, bool shares_are_joined = false);

// B of a matmul node as [columns, depth] with lines that start at multiples of 16 bytes: a constant that is laid so
// now, rounded where the way multiplies in tf32, or what it is.
StepArg DepthInnerOperand(const Node& node, const MatmulProblem& problem, const std::string& way, PlanBuilder& builder);

// Adds the steps of a product whose operands lie as the problem says, B as [columns, depth] with lines of LaidPitch
// where it is constant, and whose result, as `epilogue` walks it, is the node's. `way` is one of GpuMatmulWays.
struct GpuMatmulOperands {
  DType a_type = DType::kF32, b_type = DType::kF32;
  StepArg a, b;
  const ConvGeometry* windows = nullptr;  // as for LayGpuMatmul
};
Status PlanGpuMatmulSteps(const Node& node, const MatmulProblem& problem, const GpuMatmulOperands& operands,
                          const TileEpilogue& epilogue, const std::string& way, PlanBuilder& builder);

// The same where the product is laid and its way decided: `matmul`, whose arguments before the epilogue's are `args`.
// With shares of the depth, the step that computes `rows_behind` adds them if there is one (gpu_rowwise.h). `bytes`:
// that the product reads and writes. `result`: where results go instead of to the node's; `epilogue` then has no
// operands.
Status AddGpuMatmulSteps(const Node& node, GpuMatmul matmul, std::vector<StepArg> args, const TileEpilogue& epilogue,
                         const Node* rows_behind, double bytes, PlanBuilder& builder, const StepArg* result = nullptr);

// Does this way of a product cut operands of `type` to tf32? Then constants are rounded to it while they are laid.
bool MultipliesTf32(const std::string& way, DType type);
// f32 to the nearest tf32, halves away from zero, as nv.to_tf32 does; other types as they are.
Tensor RoundedToTf32(Tensor values);

// Elements of a line of a constant B.
int64_t LaidPitch(const MatmulProblem& problem, DType b);
// B as [columns, depth] with `pitch` elements a line, matrix after matrix, zeros behind each line.
Tensor LayDepthInner(const Tensor& b, const MatmulProblem& problem, int64_t pitch);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_GPU_MATMUL_H_
