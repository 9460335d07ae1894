#include "runtime/drivers/cuda_api.h"

#include <dlfcn.h>

#include <charconv>
#include <cstdlib>
#include <memory>
#include <string>

#include "runtime/drivers/cuda_chip.h"

namespace tessera {
namespace {

constexpr std::string_view kRemedy =
    "; a CUDA target needs an NVIDIA card and its driver (nvidia-smi shows both); --target=host runs everywhere";

StatusOr<const CudaApi*> Open() {
  const char* path = std::getenv("TESSERA_LIBCUDA");
  return OpenCudaAt(path == nullptr || *path == '\0' ? "libcuda.so.1" : path);
}
std::string_view RemedyFor(CUresult result) {
  switch (result) {
    case 2: return "free memory on the card, or use a smaller batch";
    case 3:
    case 4: return "start the process again";
    case 100: return "no card is visible to this process: see CUDA_VISIBLE_DEVICES";
    case 101: return "there is no card of that number: nvidia-smi lists them";
    case 200:
    case 209: return "the code is for another chip: compile for `cuda`, the chip of this machine";
    case 218: return "the driver's assembler rejected a kernel; a newer driver may know its PTX version";
    case 222: return "the driver is older than the PTX: update it";
    case 500: return "the program's code lacks something: compile it again";
    case 700:
    case 716:
    case 717: return "a kernel read or wrote outside of its buffers: please report it with the model";
    case 701: return "a kernel asks for more threads, registers or shared memory than this chip has";
    case 719: return "a kernel failed, and this process can use the card no more: please report it with the model";
    case 802:
    case 803: return "the card's driver and its library do not fit together: restart the machine";
    default: return "nvidia-smi shows whether the card is healthy";
  }
}

}  // namespace

Status CudaApi::Check(CUresult result, std::string_view call, std::string_view what) const {
  if (result == 0) return OkStatus();
  const char* name = nullptr;
  const char* text = nullptr;
  cuGetErrorName(result, &name);
  cuGetErrorString(result, &text);
  return Error(result == kCudaOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDeviceFailed, call, " for ", what,
               ": ", name == nullptr ? "error" : name, " (", result, text == nullptr ? "" : ", ",
               text == nullptr ? "" : text, "); ", RemedyFor(result));
}

StatusOr<const CudaApi*> OpenCudaAt(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Error(ErrorCode::kDeviceMissing, "no NVIDIA driver: ", dlerror(), kRemedy);
  auto api = std::make_unique<CudaApi>();
  const char* missing = nullptr;
#define TES_CUDA(symbol, parameters)                                              \
  api->symbol = reinterpret_cast<decltype(api->symbol)>(dlsym(library, #symbol)); \
  if (api->symbol == nullptr) missing = #symbol;
#define TES_CUDA_OPTIONAL(symbol, parameters) \
  api->symbol = reinterpret_cast<decltype(api->symbol)>(dlsym(library, #symbol));
#include "runtime/drivers/cuda_functions.def"
#undef TES_CUDA
#undef TES_CUDA_OPTIONAL
  if (missing != nullptr) {
    return Error(ErrorCode::kDeviceMissing, path, " has no ", missing,
                 ": the driver is too old; install one of CUDA 12");
  }
  if (const Status started = api->Check(api->cuInit(0), "cuInit", "starting the driver"); !started.ok()) {
    return Error(ErrorCode::kDeviceMissing, started.message(), kRemedy);
  }
  int count = 0;
  RETURN_IF_ERROR(api->Check(api->cuDeviceGetCount(&count), "cuDeviceGetCount", "counting cards"));
  if (count == 0) return Error(ErrorCode::kDeviceMissing, "the NVIDIA driver sees no card", kRemedy);
  return api.release();  // for the life of the process, as the driver itself
}

StatusOr<const CudaApi*> OpenCuda() {
  static const StatusOr<const CudaApi*>& api = *new StatusOr<const CudaApi*>(Open());
  return api;
}

StatusOr<int> CudaOrdinal(std::string_view device) {
  if (device == "cuda") return 0;
  std::string_view digits = device;
  int ordinal = 0;
  if (digits.substr(0, 5) == "cuda:") {
    digits.remove_prefix(5);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
    if (error == std::errc() && end == digits.data() + digits.size() && ordinal >= 0) return ordinal;
  }
  return Error(ErrorCode::kTargetUnknown, "device '", device, "': expected cuda, or cuda: with the number of a card");
}

StatusOr<int> CudaCapability(int ordinal) {
  ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
  CUdevice device = 0;
  int major = 0, minor = 0;
  const std::string what = "card " + std::to_string(ordinal);
  if (const Status found = cuda->Check(cuda->cuDeviceGet(&device, ordinal), "cuDeviceGet", what); !found.ok()) {
    return Status(ErrorCode::kDeviceMissing, found.message());
  }
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(&major, kCudaCapabilityMajor, device), "cuDeviceGetAttribute",
                              "the compute capability of " + what));
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(&minor, kCudaCapabilityMinor, device), "cuDeviceGetAttribute",
                              "the compute capability of " + what));
  return major * 10 + minor;
}

}  // namespace tessera
