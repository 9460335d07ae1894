#include "runtime/drivers/gpu_api.h"

#include <dlfcn.h>

#include <charconv>

namespace tessera {

Status GpuApi::Check(GpuResult result, std::string_view call, std::string_view what) const {
  if (result == 0) return OkStatus();
  const GpuErrorWords words = WordsFor(result);
  return Error(result == kGpuOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDeviceFailed, call, " for ", what,
               ": ", words.name == nullptr ? "error" : words.name, " (", result, words.text == nullptr ? "" : ", ",
               words.text == nullptr ? "" : words.text, "); ", words.remedy);
}

GpuLibrary::GpuLibrary(const char* path) : library_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
  if (library_ == nullptr) missing_ = dlerror();
}

void* GpuLibrary::Find(const char* symbol, bool optional) {
  void* found = dlsym(library_, symbol);
  if (found == nullptr && !optional) missing_ = symbol;
  return found;
}

StatusOr<int> GpuOrdinal(std::string_view vendor, std::string_view device) {
  if (device == vendor) return 0;
  int ordinal = 0;
  if (device.substr(0, vendor.size()) == vendor && device.substr(vendor.size(), 1) == ":") {
    const std::string_view digits = device.substr(vendor.size() + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
    if (error == std::errc() && end == digits.data() + digits.size() && ordinal >= 0) return ordinal;
  }
  return Error(ErrorCode::kTargetUnknown, "device '", device, "': expected ", vendor, ", or ", vendor,
               ": with the number of a card");
}

}  // namespace tessera
