// Which NVIDIA chip this machine has, for those who compile for it.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_CHIP_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_CHIP_H_

#include <string_view>

#include "base/status.h"

namespace tessera {

// The card that "cuda" (the first) or "cuda:1" names, counted as the driver does. kTargetUnknown for anything else.
StatusOr<int> CudaOrdinal(std::string_view device);

// The compute capability of a card as major * 10 + minor: 90 for an H100. kDeviceMissing where there is none, or not so
// many.
StatusOr<int> CudaCapability(int ordinal = 0);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_CHIP_H_
