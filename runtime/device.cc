#include "runtime/device.h"

#include "runtime/drivers/drivers.h"

namespace tessera {
namespace {

struct DriverRow {
  std::string_view name;
  StatusOr<std::unique_ptr<Device>> (*make)();
};

constexpr DriverRow kDrivers[] = {
    {"host", MakeHostDevice},
    {"null", MakeNullDevice},
    {"cuda", MakeCudaDevice},
};

}  // namespace

StatusOr<std::unique_ptr<Device>> OpenDevice(std::string_view name) {
  std::string known;
  for (const DriverRow& row : kDrivers) {
    if (row.name == name) return row.make();
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  return Error(ErrorCode::kDeviceMissing, "device '", name, "': expected one of ", known);
}

}  // namespace tessera
