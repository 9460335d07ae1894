#include "runtime/drivers/cuda_api.h"

#include <dlfcn.h>

#include <cstdlib>
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
    case 100: return "no card is visible to this process: see CUDA_VISIBLE_DEVICES";
    case 200:
    case 209: return "the code is for another chip: compile for `cuda`, the chip of this machine";
    case 218: return "the driver's assembler rejected a kernel; a newer driver may know its PTX version";
    case 222: return "the driver is older than the PTX: update it";
    case 700: return "a kernel read or wrote outside of its buffers: please report it with the model";
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
  return Error(result == 2 ? ErrorCode::kOutOfMemory : ErrorCode::kDeviceFailed, call, " for ", what, ": ",
               name == nullptr ? "error" : name, " (", result, text == nullptr ? "" : ", ", text == nullptr ? "" : text,
               "); ", RemedyFor(result));
}

StatusOr<const CudaApi*> OpenCudaAt(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Error(ErrorCode::kDeviceMissing, "no NVIDIA driver: ", dlerror(), kRemedy);
  CudaApi* api = new CudaApi;  // for the life of the process, as the driver itself
  const char* missing = nullptr;
#define TES_CUDA(symbol, parameters)                                              \
  api->symbol = reinterpret_cast<decltype(api->symbol)>(dlsym(library, #symbol)); \
  if (api->symbol == nullptr) missing = #symbol;
#include "runtime/drivers/cuda_functions.def"
#undef TES_CUDA
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
  return api;
}

StatusOr<const CudaApi*> OpenCuda() {
  static const StatusOr<const CudaApi*>& api = *new StatusOr<const CudaApi*>(Open());
  return api;
}

StatusOr<int> CudaCapability() {
  ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
  CUdevice device = 0;
  int major = 0, minor = 0;
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGet(&device, 0), "cuDeviceGet", "the first card"));
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(&major, kMajor, device), "cuDeviceGetAttribute",
                              "the compute capability"));
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(&minor, kMinor, device), "cuDeviceGetAttribute",
                              "the compute capability"));
  return major * 10 + minor;
}

}  // namespace tessera
