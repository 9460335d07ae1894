// What only AMD's driver has of fake_gpu.h. It keeps to what hip_runtime_api.h promises where Tessera's driver relies
// on it. Its cards take code objects of one chip, gfx942 unless a test says otherwise.
#include <elf.h>

#include <cstring>
#include <mutex>
#include <string>

#include "runtime/drivers/code_object.h"
#include "runtime/drivers/hip_api.h"
#include "runtime/testing/fake_gpu_core.h"

namespace tessera {
namespace {

constexpr int64_t kLdsBytes = 64 << 10;

thread_local int current = 0;

class FakeHip : public FakeGpuCore {
 public:
  const char* variable() const override { return "TESSERA_LIBAMDHIP64"; }
  void SetChip(std::string_view chip) override { chip_ = chip; }
  int CurrentCard() const override { return current; }
  int version() const override { return 60241133; }
  uint64_t max_threads_x() const override { return 0xffffffff; }
  void ResetVendor() override {
    chip_ = "gfx942:sramecc+:xnack-";
    current = 0;
  }

  // As the real one it gets no size, and takes the header's word for it.
  GpuResult Parse(const void* image, FakeModule* module) const override {
    Elf64_Ehdr header;
    std::memcpy(&header, image, sizeof(header));
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return 200;
    const size_t bytes = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
    const StatusOr<CodeObject> object = ReadCodeObject({static_cast<const std::byte*>(image), bytes}, "a module");
    if (!object.ok()) return 200;
    if (object->chip != chip_.substr(0, chip_.find(':'))) return 209;
    for (const CodeObjectKernel& kernel : object->kernels) {
      const auto params = static_cast<size_t>(kernel.kernarg_bytes / 8);
      module->kernels[kernel.name] = {.name = kernel.name,
                                      .params = std::vector<bool>(params),
                                      .max_shared = static_cast<int>(kLdsBytes - kernel.shared_bytes)};
    }
    return 0;
  }

  std::string chip_ = "gfx942:sramecc+:xnack-";
};

FakeHip& fake() {
  static FakeHip& the = *new FakeHip;
  return the;
}

template <typename Properties>
GpuResult Describe(Properties* properties, int ordinal) {
  if (ordinal < 0 || ordinal >= kFakeCards) return kHipInvalidDevice;
  std::strcpy(properties->name, ordinal == 0 ? "Fake card 0" : "Fake card 1");
  std::strncpy(properties->arch, fake().chip_.c_str(), sizeof(properties->arch) - 1);
  properties->memory_bytes = size_t{64} << 30;
  properties->shared_bytes = kLdsBytes;
  return 0;
}

}  // namespace

FakeGpuCore& FakeCore() { return fake(); }

extern "C" {

const char* hipGetErrorName(GpuResult error) {
  const std::lock_guard lock(fake().mutex_);
  fake().Enter("hipGetErrorName", false);
  return error == 2 ? "hipErrorOutOfMemory" : error == 700 ? "hipErrorIllegalAddress" : "hipErrorFake";
}
const char* hipGetErrorString(GpuResult error) {
  const std::lock_guard lock(fake().mutex_);
  fake().Enter("hipGetErrorString", false);
  return error == 2 ? "out of memory" : "a fault that a test asked for";
}
GpuResult hipGetDevice(int* ordinal) {
  TES_FAKE("hipGetDevice");
  *ordinal = current;
  return 0;
}
GpuResult hipSetDevice(int ordinal) {
  TES_FAKE("hipSetDevice");
  if (ordinal < 0 || ordinal >= kFakeCards) return kHipInvalidDevice;
  current = ordinal;
  return 0;
}
GpuResult hipGetDevicePropertiesR0600(HipProperties6* properties, int ordinal) {
  TES_FAKE("hipGetDevicePropertiesR0600");
  return Describe(properties, ordinal);
}
GpuResult hipGetDeviceProperties(HipProperties5* properties, int ordinal) {
  TES_FAKE("hipGetDeviceProperties");
  return Describe(properties, ordinal);
}
GpuResult hipMemcpyAsync(GpuAddress to, GpuAddress from, size_t bytes, int kind, GpuStream stream) {
  TES_FAKE("hipMemcpyAsync");
  if (kind != kHipMemcpyDefault) return 21;
  return fake().Copy("hipMemcpyAsync", to, from, bytes, stream);
}
GpuResult hipPointerGetAttributes(HipPointer* attributes, const void* pointer) {
  TES_FAKE("hipPointerGetAttributes");
  const bool on_card = fake().OnCard("hipPointerGetAttributes", reinterpret_cast<GpuAddress>(pointer), 0);
  if (!on_card && !fake().IsPinned(pointer)) return kGpuInvalidValue;
  attributes->type = on_card ? 2 : 1;
  return 0;
}
GpuResult hipGraphAddKernelNode(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* dependencies, size_t count,
                                const HipKernelNode* kernel) {
  TES_FAKE("hipGraphAddKernelNode");
  const HipKernelNode& k = *kernel;
  if (k.block[1] != 1 || k.block[2] != 1) return kGpuInvalidValue;
  return fake().AddNode("hipGraphAddKernelNode", node, graph, dependencies, count,
                        {k.function, k.grid[0], k.grid[1], k.grid[2], k.block[0], k.shared_bytes, k.params});
}

}  // extern "C"

}  // namespace tessera
