// AMD GPUs through LLVM's AMDGPU back end. Kernels leave as code objects, ELF files that lld has linked and HIP loads.
// Tested by codegen/amdgpu_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_AMDGPU_H_
#define TESSERA_CODEGEN_TARGETS_AMDGPU_H_

#include <string_view>

#include "base/status.h"
#include "codegen/target.h"

namespace tessera {

// "hip:gfx942" and so on, for the chips of the table in amdgpu.cc; "hip" and "hip:1" are the chips of this machine's
// cards.
StatusOr<Target> MakeAmdgpuTarget(std::string_view spec);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_AMDGPU_H_
