#include "runtime/drivers/cuda_api.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "runtime/drivers/cuda_chip.h"

namespace tessera {
namespace {

constexpr std::string_view kRemedy =
    "; a CUDA target needs an NVIDIA card and its driver (nvidia-smi shows both); --target=host runs everywhere";

StatusOr<const CudaApi*> Open() {
  const char* path = std::getenv("TESSERA_LIBCUDA");
  return OpenCudaAt(path == nullptr || *path == '\0' ? "libcuda.so.1" : path);
}

std::string_view RemedyFor(GpuResult result) {
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

GpuErrorWords CudaApi::WordsFor(GpuResult result) const {
  GpuErrorWords words = {.remedy = RemedyFor(result)};
  cuGetErrorName(result, &words.name);
  cuGetErrorString(result, &words.text);
  return words;
}

GpuResult CudaApi::Copy(GpuAddress to, GpuAddress from, size_t bytes, GpuStream stream) const {
  return cuMemcpyAsync(to, from, bytes, stream);
}

bool CudaApi::IsReachable(const void* address) const {
  // Asked in the plural, the driver answers 0 for memory that it does not know, and that is no error.
  int type = 0;
  void* values[] = {&type};
  return cuPointerGetAttributes(1, &kCudaPointerMemoryType, values, reinterpret_cast<GpuAddress>(address)) == 0 &&
         type != 0;
}

GpuResult CudaApi::AddKernelNode(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* before, size_t count,
                                 const GpuKernelNode& kernel) const {
  const CudaKernelNode params = {.function = kernel.function,
                                 .grid_x = kernel.grid_x,
                                 .grid_y = kernel.grid_y,
                                 .grid_z = kernel.grid_z,
                                 .block_x = kernel.threads,
                                 .shared_bytes = kernel.shared_bytes,
                                 .params = kernel.params};
  return cuGraphAddKernelNode_v2(node, graph, before, count, &params);
}

GpuResult CudaApi::AddProgrammaticEdges(GpuGraph graph, const GpuGraphNode* from, GpuGraphNode to, size_t count) const {
  const std::vector<GpuGraphNode> targets(count, to);
  const std::vector<CudaGraphEdge> edges(count, kProgrammaticEdge);
  return cuGraphAddDependencies_v2(graph, from, targets.data(), edges.data(), count);
}

StatusOr<const CudaApi*> OpenCudaAt(const char* path) {
  GpuLibrary library(path);
  if (!library.is_open()) return Error(ErrorCode::kDeviceMissing, "no NVIDIA driver: ", library.missing(), kRemedy);
  auto api = std::make_unique<CudaApi>();
#define TES_GPU(member, parameters, cuda, hip) library.Bind(api->member, #cuda);
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) library.Bind(api->member, #cuda, /*optional=*/true);
#define TES_CUDA(symbol, parameters) library.Bind(api->symbol, #symbol);
#define TES_CUDA_OPTIONAL(symbol, parameters) library.Bind(api->symbol, #symbol, /*optional=*/true);
#include "runtime/drivers/cuda_functions.def"
#include "runtime/drivers/gpu_functions.def"
#undef TES_GPU
#undef TES_GPU_OPTIONAL
#undef TES_CUDA
#undef TES_CUDA_OPTIONAL
  if (!library.missing().empty()) {
    return Error(ErrorCode::kDeviceMissing, path, " has no ", library.missing(),
                 ": the driver is too old; install one of CUDA 12");
  }
  if (const Status started = api->Check(api->Init(0), api->Init, "starting the driver"); !started.ok()) {
    return Error(ErrorCode::kDeviceMissing, started.message(), kRemedy);
  }
  int count = 0;
  RETURN_IF_ERROR(api->Check(api->CountCards(&count), api->CountCards, "counting cards"));
  if (count == 0) return Error(ErrorCode::kDeviceMissing, "the NVIDIA driver sees no card", kRemedy);
  return api.release();  // for the life of the process, as the driver itself
}

StatusOr<const CudaApi*> OpenCuda() {
  static const StatusOr<const CudaApi*>& api = *new StatusOr<const CudaApi*>(Open());
  return api;
}

StatusOr<int> CudaOrdinal(std::string_view device) { return GpuOrdinal("cuda", device); }

StatusOr<int> CudaCapability(int ordinal) {
  ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
  CUdevice device = 0;
  int major = 0, minor = 0;
  const std::string what = "card " + std::to_string(ordinal);
  if (const Status found = cuda->Check(cuda->cuDeviceGet(&device, ordinal), cuda->cuDeviceGet, what); !found.ok()) {
    return Status(ErrorCode::kDeviceMissing, found.message());
  }
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(&major, kCudaCapabilityMajor, device),
                              cuda->cuDeviceGetAttribute, "the compute capability of " + what));
  RETURN_IF_ERROR(cuda->Check(cuda->cuDeviceGetAttribute(&minor, kCudaCapabilityMinor, device),
                              cuda->cuDeviceGetAttribute, "the compute capability of " + what));
  return major * 10 + minor;
}

}  // namespace tessera
