// The drivers that device.cc lists, each an anonymous class behind a factory.
#ifndef TESSERA_RUNTIME_DRIVERS_DRIVERS_H_
#define TESSERA_RUNTIME_DRIVERS_DRIVERS_H_

#include <memory>
#include <string_view>

#include "runtime/device.h"

namespace tessera {

StatusOr<std::unique_ptr<Device>> MakeHostDevice();
StatusOr<std::unique_ptr<Device>> MakeNullDevice();
// "cuda", the first NVIDIA card, or "cuda:1". kDeviceMissing without a driver or such a card.
StatusOr<std::unique_ptr<Device>> MakeCudaDevice(std::string_view name);
// "hip", the first AMD card, or "hip:1". kDeviceMissing without a driver or such a card.
StatusOr<std::unique_ptr<Device>> MakeHipDevice(std::string_view name);
// "simt", or with the order of threads: "simt:reverse", "simt:random", "simt:random:7".
StatusOr<std::unique_ptr<Device>> MakeSimtDevice(std::string_view name);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_DRIVERS_H_
