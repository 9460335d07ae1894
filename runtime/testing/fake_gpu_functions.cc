// The functions that both vendors' drivers have, once for both: each library is built of this file under its vendor's
// names (TESSERA_FAKE_HIP). They keep to what the manuals promise where Tessera's drivers rely on it, and are stricter
// where a real driver would let a mistake pass. See fake_gpu.h.
#include <algorithm>
#include <set>

#include "runtime/testing/fake_gpu_core.h"

namespace tessera {
namespace {

// kAllocate is "cuMemAlloc_v2" or "hipMalloc".
#ifdef TESSERA_FAKE_HIP
#define TES_GPU(member, parameters, cuda, hip) constexpr char k##member[] = #hip;
#else
#define TES_GPU(member, parameters, cuda, hip) constexpr char k##member[] = #cuda;
#endif
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) TES_GPU(member, parameters, cuda, hip)
#include "runtime/drivers/gpu_functions.def"
#undef TES_GPU

}  // namespace

extern "C" {

// FakeAllocate is exported as cuMemAlloc_v2 or hipMalloc.
#ifdef TESSERA_FAKE_HIP
#define TES_GPU(member, parameters, cuda, hip) \
  GpuResult Fake##member parameters;           \
  GpuResult hip parameters __attribute__((alias("Fake" #member)));
#else
#define TES_GPU(member, parameters, cuda, hip) \
  GpuResult Fake##member parameters;           \
  GpuResult cuda parameters __attribute__((alias("Fake" #member)));
#endif
#include "runtime/drivers/gpu_functions.def"
#undef TES_GPU
#undef TES_GPU_OPTIONAL

GpuResult FakeInit(unsigned) {
  TES_FAKE(kInit, false);
  return 0;
}
GpuResult FakeCountCards(int* count) {
  TES_FAKE(kCountCards, false);
  *count = kFakeCards;
  return 0;
}
GpuResult FakeGetVersion(int* version) {
  TES_FAKE(kGetVersion, false);
  *version = FakeCore().version();
  return 0;
}

GpuResult FakeLoadModule(GpuModule* module, const void* image) {
  TES_FAKE(kLoadModule);
  auto loaded = std::make_unique<FakeModule>();
  if (const GpuResult refused = FakeCore().Parse(image, loaded.get()); refused != 0) return refused;
  return FakeCore().Give(module, loaded.release(), "module");
}
GpuResult FakeUnloadModule(GpuModule module) {
  TES_FAKE(kUnloadModule);
  return FakeCore().Take(kUnloadModule, module);
}
GpuResult FakeGetFunction(GpuFunction* function, GpuModule module, const char* name) {
  TES_FAKE(kGetFunction);
  if (!FakeCore().Owns(kGetFunction, module)) return kGpuInvalidHandle;
  auto& kernels = reinterpret_cast<FakeModule*>(module)->kernels;
  const auto found = kernels.find(name);
  if (found == kernels.end()) {
    // A sanitizer reports it, so that one must know where to look.
    FakeCore().Wrong(kGetFunction, std::string("of a module without '") + name + "'");
    return kGpuNotFound;
  }
  *function = reinterpret_cast<GpuFunction>(&found->second);
  return 0;
}

GpuResult FakeGetMemoryInfo(size_t* free_bytes, size_t* total_bytes) {
  TES_FAKE(kGetMemoryInfo);
  *free_bytes = static_cast<size_t>(FakeCore().left_);
  *total_bytes = size_t{80} << 30;
  return 0;
}
GpuResult FakeAllocate(GpuAddress* address, size_t bytes) {
  TES_FAKE(kAllocate);
  return FakeCore().GiveMemory(address, bytes);
}
GpuResult FakeFree(GpuAddress address) {
  TES_FAKE(kFree);
  return FakeCore().TakeMemory(kFree, address);
}
GpuResult FakeAllocateHost(void** address, size_t bytes, unsigned) {
  TES_FAKE(kAllocateHost);
  return FakeCore().GivePinned(address, bytes);
}
GpuResult FakeFreeHost(void* address) {
  TES_FAKE(kFreeHost);
  return FakeCore().Take(kFreeHost, address);
}

GpuResult FakeCreateStream(GpuStream* stream, unsigned) {
  TES_FAKE(kCreateStream);
  return FakeCore().Give(stream, new int(0), "stream");
}
GpuResult FakeDestroyStream(GpuStream stream) {
  TES_FAKE(kDestroyStream);
  return FakeCore().Take(kDestroyStream, stream);
}
GpuResult FakeSynchronizeStream(GpuStream stream) {
  TES_FAKE(kSynchronizeStream);
  return FakeCore().Owns(kSynchronizeStream, stream) ? 0 : kGpuInvalidHandle;
}

GpuResult FakeCreateGraph(GpuGraph* graph, unsigned) {
  TES_FAKE(kCreateGraph);
  return FakeCore().Give(graph, new FakeGraph, "graph");
}
GpuResult FakeInstantiateGraph(GpuGraphExec* exec, GpuGraph graph, unsigned long long) {
  TES_FAKE(kInstantiateGraph);
  if (!FakeCore().Owns(kInstantiateGraph, graph)) return kGpuInvalidHandle;
  auto made = std::make_unique<FakeExec>();
  const std::vector<FakeNode*>& nodes = reinterpret_cast<FakeGraph*>(graph)->nodes;
  std::set<const FakeNode*> done;
  while (done.size() < nodes.size()) {
    // The last added that may run.
    const size_t before = done.size();
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
      const bool ready = std::all_of((*node)->before.begin(), (*node)->before.end(),
                                     [&](const FakeNode* other) { return done.count(other) != 0; });
      if (done.count(*node) != 0 || !ready) continue;
      done.insert(*node);
      made->order.push_back((*node)->launch);
      break;
    }
    if (done.size() == before) return kGpuInvalidValue;  // a circle
  }
  return FakeCore().Give(exec, made.release(), "executable graph");
}
GpuResult FakeUploadGraph(GpuGraphExec exec, GpuStream) {
  TES_FAKE(kUploadGraph);
  return FakeCore().Owns(kUploadGraph, exec) ? 0 : kGpuInvalidHandle;
}
GpuResult FakeLaunchGraph(GpuGraphExec exec, GpuStream stream) {
  TES_FAKE(kLaunchGraph);
  if (!FakeCore().Owns(kLaunchGraph, exec) || !FakeCore().Owns(kLaunchGraph, stream)) return kGpuInvalidHandle;
  for (const FakeLaunch& launch : reinterpret_cast<FakeExec*>(exec)->order) FakeCore().Execute(launch);
  return 0;
}
GpuResult FakeDestroyGraphExec(GpuGraphExec exec) {
  TES_FAKE(kDestroyGraphExec);
  return FakeCore().Take(kDestroyGraphExec, exec);
}
GpuResult FakeDestroyGraph(GpuGraph graph) {
  TES_FAKE(kDestroyGraph);
  return FakeCore().Take(kDestroyGraph, graph);
}

GpuResult FakeCreateEvent(GpuEvent* event, unsigned) {
  TES_FAKE(kCreateEvent);
  return FakeCore().Give(event, new int(0), "event");
}
GpuResult FakeRecordEvent(GpuEvent event, GpuStream) {
  TES_FAKE(kRecordEvent);
  return FakeCore().Owns(kRecordEvent, event) ? 0 : kGpuInvalidHandle;
}
GpuResult FakeElapsedTime(float* milliseconds, GpuEvent start, GpuEvent) {
  TES_FAKE(kElapsedTime);
  *milliseconds = 0.5f;
  return FakeCore().Owns(kElapsedTime, start) ? 0 : kGpuInvalidHandle;
}
GpuResult FakeDestroyEvent(GpuEvent event) {
  TES_FAKE(kDestroyEvent);
  return FakeCore().Take(kDestroyEvent, event);
}
GpuResult FakeLaunchKernel(GpuFunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                           unsigned block_y, unsigned block_z, unsigned shared_bytes, GpuStream stream, void** params,
                           void**) {
  TES_FAKE(kLaunchKernel);
  if (!FakeCore().Owns(kLaunchKernel, stream)) return kGpuInvalidHandle;
  if (block_y != 1 || block_z != 1) return kGpuInvalidValue;
  const auto& kernel = *reinterpret_cast<const FakeKernel*>(function);
  const GpuKernelNode launch = {function, grid_x, grid_y, grid_z, block_x, shared_bytes, params};
  if (const GpuResult refused = FakeCore().CheckLaunch(kernel, launch); refused != 0) return refused;
  FakeCore().Execute(FakeCore().LaunchOf(kernel, launch));
  return 0;
}

}  // extern "C"

}  // namespace tessera
