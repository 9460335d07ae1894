// A program's tensor maps as NVIDIA's driver encodes them. Tested by cuda_device_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_TENSOR_MAP_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_TENSOR_MAP_H_

#include <string_view>

#include "base/status.h"
#include "runtime/drivers/cuda_api.h"
#include "runtime/tensor_map.h"

namespace tessera {

// Of a tensor at `address` on the card, for `what`, in messages. The map is one that Program::Verify accepts.
// `rounds_to_tf32`: elements of f32 arrive in shared memory rounded to the nearest tf32, where wgmma would cut them.
// kTargetUnsupported where the driver is too old to have them.
Status EncodeTensorMap(const CudaApi& cuda, const TensorMap& map, GpuAddress address, std::string_view what,
                       bool rounds_to_tf32, CudaTensorMap* encoded);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_TENSOR_MAP_H_
