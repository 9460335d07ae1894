#include "runtime/drivers/hip_api.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "runtime/drivers/hip_chip.h"

namespace tessera {
namespace {

constexpr std::string_view kRemedy =
    "; a HIP target needs an AMD card that ROCm supports, with its driver (rocminfo shows both, and whether /dev/kfd "
    "may be opened); --target=host runs everywhere";

StatusOr<const HipApi*> Open() {
  const char* path = std::getenv("TESSERA_LIBAMDHIP64");
  if (path != nullptr && *path != '\0') return OpenHipAt(path);
  // The newest that is there; one that is there but sees no card has the better answer than one that is not.
  constexpr const char* kNames[] = {"libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"};
  for (const char* name : kNames) {
    if (GpuLibrary(name).is_open()) return OpenHipAt(name);
  }
  return OpenHipAt(kNames[0]);
}

std::string_view RemedyFor(GpuResult result) {
  switch (result) {
    case 1: return "the driver does not take the program's launch: please report it with the model and the driver";
    case 2: return "free memory on the card, or use a smaller batch";
    case 3:
    case 4: return "start the process again";
    case 9: return "a kernel asks for more work-items than this driver takes: use a smaller batch";
    case 98:
    case 500: return "the program's code lacks something: compile it again";
    case kHipNoDevice:
    case kHipInvalidDevice: return "no card is visible to this process: see rocminfo and HIP_VISIBLE_DEVICES";
    case 200:
    case 209: return "the code is for another chip: compile for `hip`, the chip of this machine";
    case 303: return "the driver takes no code objects of this version: update it, or compile the program again";
    case 700: return "a kernel read or wrote outside of its buffers: please report it with the model";
    case 701: return "a kernel asks for more work-items, registers or LDS than this chip has";
    case 719: return "a kernel failed, and this process can use the card no more: please report it with the model";
    default: return "rocminfo and `dmesg` show whether the card is healthy";
  }
}

}  // namespace

GpuErrorWords HipApi::WordsFor(GpuResult result) const {
  return {.name = hipGetErrorName(result), .text = hipGetErrorString(result), .remedy = RemedyFor(result)};
}

GpuResult HipApi::Copy(GpuAddress to, GpuAddress from, size_t bytes, GpuStream stream) const {
  return hipMemcpyAsync(to, from, bytes, kHipMemcpyDefault, stream);
}

bool HipApi::IsReachable(const void* address) const {
  // Memory that the driver does not know is an error or of type 0. Before HIP 6 pinned memory has type 0 too; a copy
  // of it then goes through other pinned memory, which is slower and right.
  HipPointer pointer;
  return hipPointerGetAttributes(&pointer, address) == 0 && pointer.type != 0;
}

GpuResult HipApi::AddKernelNode(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* before, size_t count,
                                const GpuKernelNode& kernel) const {
  const HipKernelNode params = {.block = {kernel.threads, 1, 1},
                                .function = kernel.function,
                                .grid = {kernel.grid_x, kernel.grid_y, kernel.grid_z},
                                .params = kernel.params,
                                .shared_bytes = kernel.shared_bytes};
  return hipGraphAddKernelNode(node, graph, before, count, &params);
}

bool HipApi::RefusesGraphs(GpuResult result) const {
  // Before 5.3 its kernels are those that a compiler linked into the program.
  return result == kHipInvalidDeviceFunction || result == kGpuNotSupported;
}

StatusOr<HipCardFacts> HipApi::FactsOf(int ordinal) const {
  const std::string what = "card " + std::to_string(ordinal);
  const auto facts_of = [](const auto& p) {
    const auto text = [](const auto& chars) {
      return std::string(std::begin(chars), std::find(std::begin(chars), std::end(chars), '\0'));
    };
    return HipCardFacts{.name = text(p.name),
                        .arch = text(p.arch),
                        .memory_bytes = static_cast<int64_t>(p.memory_bytes),
                        .shared_bytes = static_cast<int64_t>(p.shared_bytes)};
  };
  if (hipGetDevicePropertiesR0600.is_bound()) {
    HipProperties6 properties;
    RETURN_IF_ERROR(Check(hipGetDevicePropertiesR0600(&properties, ordinal), hipGetDevicePropertiesR0600, what));
    return facts_of(properties);
  }
  HipProperties5 properties;
  RETURN_IF_ERROR(Check(hipGetDeviceProperties(&properties, ordinal), hipGetDeviceProperties, what));
  return facts_of(properties);
}

StatusOr<const HipApi*> OpenHipAt(const char* path) {
  GpuLibrary library(path);
  if (!library.is_open()) return Error(ErrorCode::kDeviceMissing, "no AMD driver: ", library.missing(), kRemedy);
  auto api = std::make_unique<HipApi>();
#define TES_GPU(member, parameters, cuda, hip) library.Bind(api->member, #hip);
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) library.Bind(api->member, #hip, /*optional=*/true);
#define TES_HIP(symbol, parameters) library.Bind(api->symbol, #symbol);
#define TES_HIP_OPTIONAL(symbol, parameters) library.Bind(api->symbol, #symbol, /*optional=*/true);
#define TES_HIP_TEXT(symbol, parameters) \
  api->symbol = reinterpret_cast<decltype(api->symbol)>(library.Find(#symbol, /*optional=*/false));
#include "runtime/drivers/gpu_functions.def"
#include "runtime/drivers/hip_functions.def"
#undef TES_GPU
#undef TES_GPU_OPTIONAL
#undef TES_HIP
#undef TES_HIP_OPTIONAL
#undef TES_HIP_TEXT
  const bool has_properties = api->hipGetDevicePropertiesR0600.is_bound() || api->hipGetDeviceProperties.is_bound();
  if (!library.missing().empty() || !has_properties) {
    return Error(ErrorCode::kDeviceMissing, path, " has no ",
                 library.missing().empty() ? "hipGetDeviceProperties" : library.missing(),
                 ": the driver is too old; install one of ROCm 5 or 6");
  }
  // Without a card HIP does not even start, and says that a device is invalid.
  int count = 0;
  const GpuResult started = api->Init(0);
  const GpuResult counted = api->CountCards(&count);
  if (counted == kHipNoDevice || (counted == 0 && count == 0)) {
    return Error(ErrorCode::kDeviceMissing, "the AMD driver (", path, ") sees no card", kRemedy);
  }
  if (const Status status = api->Check(started, api->Init, "starting the driver"); !status.ok()) {
    return Error(ErrorCode::kDeviceMissing, status.message(), kRemedy);
  }
  RETURN_IF_ERROR(api->Check(counted, api->CountCards, "counting cards"));
  return api.release();  // for the life of the process, as the driver itself
}

StatusOr<const HipApi*> OpenHip() {
  static const StatusOr<const HipApi*>& api = *new StatusOr<const HipApi*>(Open());
  return api;
}

StatusOr<int> HipOrdinal(std::string_view device) { return GpuOrdinal("hip", device); }

StatusOr<std::string> HipChip(int ordinal) {
  ASSIGN_OR_RETURN(const HipApi* hip, OpenHip());
  const StatusOr<HipCardFacts> facts = hip->FactsOf(ordinal);
  if (!facts.ok()) return Status(ErrorCode::kDeviceMissing, facts.status().message());
  return facts->chip();
}

}  // namespace tessera
