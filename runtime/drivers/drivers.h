// The drivers that device.cc lists, each an anonymous class behind a factory.
#ifndef TESSERA_RUNTIME_DRIVERS_DRIVERS_H_
#define TESSERA_RUNTIME_DRIVERS_DRIVERS_H_

#include <memory>

#include "runtime/device.h"

namespace tessera {

StatusOr<std::unique_ptr<Device>> MakeHostDevice();
StatusOr<std::unique_ptr<Device>> MakeNullDevice();
// kDeviceMissing without an NVIDIA driver and card.
StatusOr<std::unique_ptr<Device>> MakeCudaDevice();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_DRIVERS_H_
