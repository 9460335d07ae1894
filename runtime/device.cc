#include "runtime/device.h"

#include "runtime/drivers/drivers.h"

namespace tessera {
namespace {

struct DriverRow {
  std::string_view name;
  bool has_more;  // after a colon: "cuda:1" is the second of them
  StatusOr<std::unique_ptr<Device>> (*make)(std::string_view name);
};

constexpr DriverRow kDrivers[] = {
    {"host", false, [](std::string_view) { return MakeHostDevice(); }},
    {"null", false, [](std::string_view) { return MakeNullDevice(); }},
    {"cuda", true, MakeCudaDevice},
    {"hip", true, MakeHipDevice},
    {"simt", true, MakeSimtDevice},
};

}  // namespace

StatusOr<double> Executable::MeasureUs(int) {
  return Error(ErrorCode::kUsageInvalid, "the device of program '", program().name,
               "' has no clock of its own; measure calls of Run");
}

StatusOr<std::unique_ptr<Device>> OpenDevice(std::string_view name) {
  std::string known;
  for (const DriverRow& row : kDrivers) {
    if (row.name == name || (row.has_more && name.substr(0, name.find(':')) == row.name)) return row.make(name);
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  return Error(ErrorCode::kDeviceMissing, "device '", name, "': expected one of ", known);
}

}  // namespace tessera
