// Programs on a GPU, whichever vendor's it is. A driver opens its card and gives it here.
#ifndef TESSERA_RUNTIME_DRIVERS_GPU_DEVICE_H_
#define TESSERA_RUNTIME_DRIVERS_GPU_DEVICE_H_

#include <memory>
#include <string_view>

#include "base/status.h"
#include "runtime/device.h"
#include "runtime/drivers/gpu_card.h"

namespace tessera {

// A device of that name ("cuda:1") whose programs run on the card.
std::unique_ptr<Device> MakeGpuDevice(std::string_view name, std::shared_ptr<GpuCard> card);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_GPU_DEVICE_H_
