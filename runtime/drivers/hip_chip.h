// Which AMD chip this machine has, for those who compile for it.
#ifndef TESSERA_RUNTIME_DRIVERS_HIP_CHIP_H_
#define TESSERA_RUNTIME_DRIVERS_HIP_CHIP_H_

#include <string>
#include <string_view>

#include "base/status.h"

namespace tessera {

// The card that "hip" (the first) or "hip:1" names, counted as the driver does. kTargetUnknown for anything else.
StatusOr<int> HipOrdinal(std::string_view device);

// The chip of a card, "gfx942". kDeviceMissing where there is none, or not so many.
StatusOr<std::string> HipChip(int ordinal = 0);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_HIP_CHIP_H_
