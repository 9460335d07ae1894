// What only NVIDIA's driver has of fake_gpu.h. It keeps to what cuda.h promises where Tessera's driver relies on it.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/drivers/cuda_api.h"
#include "runtime/testing/fake_gpu_core.h"

namespace tessera {
namespace {

thread_local std::vector<int> current;  // contexts, the one in use last

class FakeCuda : public FakeGpuCore {
 public:
  const char* variable() const override { return "TESSERA_LIBCUDA"; }
  void SetChip(std::string_view chip) override {
    std::from_chars(chip.data() + 3, chip.data() + chip.size(), capability_);  // "sm_90"
  }
  int CurrentCard() const override { return current.empty() ? -1 : current.back(); }
  int version() const override { return 13000; }
  uint64_t max_threads_x() const override { return ~uint64_t{0}; }
  void ResetVendor() override {
    capability_ = 90;
    current.clear();
  }

  // The entries of PTX behind the mark of a fake cubin, with what parameters each has.
  GpuResult Parse(const void* image, FakeModule* module) const override {
    const std::string text = static_cast<const char*>(image), mark = ".entry ";
    if (text.rfind("FAKECUBIN", 0) != 0) return 200;
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
      const size_t open = text.find('(', at), close = text.find(')', at);
      FakeKernel kernel = {.name = text.substr(at + mark.size(), open - at - mark.size())};
      for (size_t p = text.find(".param", open); p < close; p = text.find(".param", p + 1)) {
        const std::string param = text.substr(p, std::min(text.find(',', p), close) - p);
        kernel.params.push_back(param.find("[128]") != std::string::npos);
      }
      module->kernels[kernel.name] = kernel;
    }
    return 0;
  }

  int capability_ = 90;
};

FakeCuda& fake() {
  static FakeCuda& the = *new FakeCuda;
  return the;
}

}  // namespace

FakeGpuCore& FakeCore() { return fake(); }

extern "C" {

GpuResult cuGetErrorName(GpuResult error, const char** text) {
  TES_FAKE("cuGetErrorName", false);
  *text = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_FAKE";
  return 0;
}
GpuResult cuGetErrorString(GpuResult error, const char** text) {
  TES_FAKE("cuGetErrorString", false);
  *text = error == 2 ? "out of memory" : "a fault that a test asked for";
  return 0;
}
GpuResult cuDeviceGet(CUdevice* device, int ordinal) {
  TES_FAKE("cuDeviceGet", false);
  if (ordinal < 0 || ordinal >= kFakeCards) return 101;
  *device = ordinal;
  return 0;
}
GpuResult cuDeviceGetName(char* name, int length, CUdevice device) {
  TES_FAKE("cuDeviceGetName", false);
  std::strncpy(name, device == 0 ? "Fake card 0" : "Fake card 1", static_cast<size_t>(length));
  return 0;
}
GpuResult cuDeviceGetAttribute(int* value, int attribute, CUdevice) {
  TES_FAKE("cuDeviceGetAttribute", false);
  if (attribute == kCudaCapabilityMajor) *value = fake().capability_ / 10;
  if (attribute == kCudaCapabilityMinor) *value = fake().capability_ % 10;
  if (attribute == kCudaMaxSharedPerBlockOptin) *value = 227 << 10;
  return 0;
}
GpuResult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  TES_FAKE("cuDeviceTotalMem_v2", false);
  *bytes = size_t{80} << 30;
  return 0;
}
GpuResult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  TES_FAKE("cuDevicePrimaryCtxRetain", false);
  ++fake().contexts_;
  *context = reinterpret_cast<CUcontext>(static_cast<intptr_t>(device + 1));
  return 0;
}
GpuResult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  TES_FAKE("cuDevicePrimaryCtxRelease_v2", false);
  if (--fake().contexts_ < 0) fake().Wrong("cuDevicePrimaryCtxRelease_v2", "more often than retained");
  return 0;
}
GpuResult cuCtxPushCurrent_v2(CUcontext context) {
  TES_FAKE("cuCtxPushCurrent_v2", false);
  if (context == nullptr) return 201;
  current.push_back(static_cast<int>(reinterpret_cast<intptr_t>(context)) - 1);
  return 0;
}
GpuResult cuCtxPopCurrent_v2(CUcontext* context) {
  TES_FAKE("cuCtxPopCurrent_v2");
  *context = nullptr;
  if (!current.empty()) current.pop_back();
  return 0;
}

// A link holds the PTX; its cubin is the same text behind a mark.
GpuResult cuLinkCreate_v2(unsigned, int*, void**, CUlinkState* state) {
  TES_FAKE("cuLinkCreate_v2");
  return fake().Give(state, new std::string("FAKECUBIN"), "link");
}
GpuResult cuLinkAddData_v2(CUlinkState state, int type, void* data, size_t size, const char*, unsigned, int*, void**) {
  TES_FAKE("cuLinkAddData_v2");
  if (!fake().Owns("cuLinkAddData_v2", state)) return kGpuInvalidHandle;
  if (type != 1 || size == 0 || static_cast<const char*>(data)[size - 1] != '\0') return 218;
  reinterpret_cast<std::string*>(state)->append(static_cast<const char*>(data), size);
  return 0;
}
GpuResult cuLinkComplete(CUlinkState state, void** cubin, size_t* size) {
  TES_FAKE("cuLinkComplete");
  if (!fake().Owns("cuLinkComplete", state)) return kGpuInvalidHandle;
  auto* text = reinterpret_cast<std::string*>(state);
  *cubin = text->data();
  *size = text->size();
  return 0;
}
GpuResult cuLinkDestroy(CUlinkState state) {
  TES_FAKE("cuLinkDestroy");
  return fake().Take("cuLinkDestroy", state);
}

GpuResult cuFuncSetAttribute(GpuFunction function, int attribute, int value) {
  TES_FAKE("cuFuncSetAttribute");
  if (attribute != kCudaMaxDynamicSharedBytes || value > 227 << 10) return kGpuInvalidValue;
  reinterpret_cast<FakeKernel*>(function)->max_shared = value;
  return 0;
}
GpuResult cuMemcpyAsync(GpuAddress to, GpuAddress from, size_t bytes, GpuStream stream) {
  TES_FAKE("cuMemcpyAsync");
  return fake().Copy("cuMemcpyAsync", to, from, bytes, stream);
}
GpuResult cuPointerGetAttributes(unsigned count, const int* attributes, void** values, GpuAddress pointer) {
  TES_FAKE("cuPointerGetAttributes");
  if (count != 1 || attributes[0] != kCudaPointerMemoryType) return kGpuInvalidValue;
  const bool on_card = fake().OnCard("cuPointerGetAttributes", pointer, 0);
  *static_cast<int*>(values[0]) = on_card ? 2 : fake().IsPinned(reinterpret_cast<const void*>(pointer)) ? 1 : 0;
  return 0;
}
GpuResult cuGraphAddKernelNode_v2(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* dependencies, size_t count,
                                  const CudaKernelNode* kernel) {
  TES_FAKE("cuGraphAddKernelNode_v2");
  const CudaKernelNode& k = *kernel;
  if (k.block_y != 1 || k.block_z != 1) return kGpuInvalidValue;
  return fake().AddNode("cuGraphAddKernelNode_v2", node, graph, dependencies, count,
                        {k.function, k.grid_x, k.grid_y, k.grid_z, k.block_x, k.shared_bytes, k.params});
}
GpuResult cuGraphAddDependencies_v2(GpuGraph graph, const GpuGraphNode* from, const GpuGraphNode* to,
                                    const CudaGraphEdge* edges, size_t count) {
  TES_FAKE("cuGraphAddDependencies_v2");
  if (!fake().Owns("cuGraphAddDependencies_v2", graph)) return kGpuInvalidHandle;
  for (size_t e = 0; e < count; ++e) {
    auto* node = reinterpret_cast<FakeNode*>(to[e]);
    node->before.push_back(reinterpret_cast<FakeNode*>(from[e]));
    ++node->launch.edges;
    if (edges[e].type == 1 && edges[e].from_port == 1) ++node->launch.programmatic_edges;
  }
  return 0;
}
// Refuses what the manual of cuTensorMapEncodeTiled does.
GpuResult cuTensorMapEncodeTiled(CudaTensorMap* map, int type, unsigned rank, void* address, const uint64_t* dims,
                                 const uint64_t* strides, const unsigned* box, const unsigned* element_strides,
                                 int interleave, int swizzle, int, int fill) {
  TES_FAKE("cuTensorMapEncodeTiled");
  constexpr uint64_t kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  constexpr uint64_t kSpans[] = {256 * 8, 32, 64, 128};
  bool good = reinterpret_cast<uintptr_t>(map) % 64 == 0 && reinterpret_cast<uintptr_t>(address) % 16 == 0 &&
              type >= 0 && type < 13 && rank >= 1 && rank <= 5 && interleave == 0 && swizzle >= 0 && swizzle < 4 &&
              fill == 0;
  for (unsigned d = 0; good && d < rank; ++d) {
    good = dims[d] >= 1 && dims[d] <= uint64_t{1} << 32 && box[d] >= 1 && box[d] <= 256 && element_strides[d] == 1;
    if (d > 0) good &= strides[d - 1] % 16 == 0 && strides[d - 1] < uint64_t{1} << 40;
  }
  if (!good) return kGpuInvalidValue;
  const uint64_t row = box[0] * kElementBytes[type];
  if (row % 16 != 0 || row > kSpans[swizzle]) return kGpuInvalidValue;
  if (!fake().OnCard("cuTensorMapEncodeTiled", reinterpret_cast<GpuAddress>(address), 1)) {
    fake().Wrong("cuTensorMapEncodeTiled", "of memory that is not the card's");
  }
  map->words[0] = kFakeTensorMapMark;
  map->words[1] = fake().tensor_maps_.size();
  fake().tensor_maps_.push_back({.address = reinterpret_cast<uint64_t>(address),
                                 .type = type,
                                 .swizzle = swizzle,
                                 .dims = {dims, dims + rank},
                                 .strides = {strides, strides + rank - 1},
                                 .box = {box, box + rank}});
  return 0;
}

}  // extern "C"

}  // namespace tessera
