// The drivers that device.cc lists, each an anonymous class behind a factory.
#ifndef TESSERA_RUNTIME_DRIVERS_DRIVERS_H_
#define TESSERA_RUNTIME_DRIVERS_DRIVERS_H_

#include <memory>

#include "runtime/device.h"

namespace tessera {

std::unique_ptr<Device> MakeHostDevice();
std::unique_ptr<Device> MakeNullDevice();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_DRIVERS_H_
