// Which NVIDIA chip this machine has, for those who compile for it.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_CHIP_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_CHIP_H_

#include "base/status.h"

namespace tessera {

// The compute capability of the first card as major * 10 + minor: 90 for an H100. kDeviceMissing without one.
StatusOr<int> CudaCapability();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_CHIP_H_
