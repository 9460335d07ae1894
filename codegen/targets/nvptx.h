// NVIDIA GPUs through LLVM's NVPTX back end. Kernels leave as PTX, text that the driver assembles for its chip.
// Tested by codegen/nvptx_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_NVPTX_H_
#define TESSERA_CODEGEN_TARGETS_NVPTX_H_

#include <string_view>

#include "base/status.h"
#include "codegen/target.h"

namespace tessera {

// "cuda:sm_90" and so on, for the chips of the table in nvptx.cc; "cuda" and "cuda:1" ask the driver which
// chip the first and the second card have (kDeviceMissing where there is none).
StatusOr<Target> MakeNvptxTarget(std::string_view spec);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_NVPTX_H_
