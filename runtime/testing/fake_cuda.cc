// The library's side of fake_cuda.h: a libcuda that computes on the host. It keeps to what cuda.h promises where
// Tessera's driver relies on it, and is stricter where a real one would let a mistake pass.
#include "runtime/testing/fake_cuda.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>

#include "runtime/drivers/cuda_api.h"

namespace tessera {
namespace {

constexpr int kCards = 2;
constexpr uint64_t kTensorMapMark = 0x70616d726f736e65;  // the first word of a map

struct Kernel {
  std::string name;
  std::vector<bool> params;  // of each: is it a tensor map?
  int max_shared = 48 << 10;
};
struct Module {
  std::map<std::string, Kernel> kernels;
};
struct Node {
  FakeLaunch launch;
  std::vector<Node*> before;
};
struct Graph {
  ~Graph() {
    for (Node* node : nodes) delete node;
  }
  std::vector<Node*> nodes;
};
struct Exec {
  std::vector<FakeLaunch> order;
};

class Fake : public FakeCuda {
 public:
  void Reset(Hook hook) override {
    const std::lock_guard lock(mutex_);
    hook_ = hook;
    calls_.clear();
    faults_.clear();
    launches_.clear();
    // What a test left because giving it back was made to fail.
    for (const auto& [handle, owned] : owned_) owned.destroy(handle);
    owned_.clear();
    misuse_.clear();
    memory_.clear();
    tensor_maps_.clear();
    contexts_ = 0;
    capability_ = 90;
    left_ = int64_t{1} << 40;
  }
  void Fail(const std::string& function, int nth, int code, bool for_good) override {
    const std::lock_guard lock(mutex_);
    faults_[function] = {calls_[function] + nth, code, for_good};
  }
  std::map<std::string, int> Calls() override { return calls_; }
  std::vector<FakeLaunch> Launches() override { return launches_; }
  std::string Owned() override {
    std::string text;
    for (const auto& [handle, owned] : owned_) text += owned.what + "\n";
    if (contexts_ != 0) text += "context\n";
    return text;
  }
  std::string Misuse() override { return misuse_; }
  void SetCapability(int capability) override { capability_ = capability; }
  void SetMemory(int64_t bytes) override { left_ = bytes; }

  // Counts a call; the code that it is to return, 0 for none. Most calls need a current context.
  int Enter(const char* function, bool needs_context = true) {
    const int call = ++calls_[function];
    if (needs_context && current_ == 0) Wrong(function, "without a current context");
    const auto fault = faults_.find(function);
    if (fault == faults_.end()) return 0;
    const auto [nth, code, for_good] = fault->second;
    return call == nth || (for_good && call > nth) ? code : 0;
  }
  void Wrong(const std::string& function, const std::string& what) { misuse_ += function + ": " + what + "\n"; }

  template <typename T, typename Handle>
  int Give(Handle* handle, T* object, const std::string& what) {
    *handle = reinterpret_cast<Handle>(object);
    owned_[object] = {what, [](const void* it) { delete static_cast<const T*>(it); }};
    return 0;
  }
  int Take(const char* function, const void* handle) {
    const auto found = owned_.find(handle);
    if (found == owned_.end()) {
      Wrong(function, "given back what it never gave, or twice");
      return 400;  // CUDA_ERROR_INVALID_HANDLE
    }
    found->second.destroy(handle);
    owned_.erase(found);
    return 0;
  }
  bool Owns(const char* function, const void* handle) {
    if (owned_.count(handle) != 0) return true;
    Wrong(function, "of a handle that is not one");
    return false;
  }

  // Whether [at, at + bytes) lies in the memory of a card; wrong where it starts there and ends elsewhere.
  bool OnCard(const char* function, CUdeviceptr at, size_t bytes) {
    const auto next = memory_.upper_bound(at);
    if (next == memory_.begin()) return false;
    const auto& [start, size] = *std::prev(next);
    if (at >= start + size) return false;
    if (at + bytes > start + size) Wrong(function, "copies across the end of a buffer");
    return true;
  }

  // What a launch of `kernel` would be refused for; 0 for nothing.
  int CheckLaunch(const Kernel& kernel, const CudaKernelNode& k) {
    const bool fits = k.grid_x >= 1 && k.grid_y >= 1 && k.grid_z >= 1 && k.grid_x <= 2147483647u && k.grid_y <= 65535 &&
                      k.grid_z <= 65535 && k.block_x >= 1 && k.block_y == 1 && k.block_z == 1 && k.block_x <= 1024;
    if (!fits) return kCudaInvalidValue;
    return static_cast<int>(k.shared_bytes) > kernel.max_shared ? 701 : 0;
  }
  FakeLaunch LaunchOf(const Kernel& kernel, const CudaKernelNode& k) {
    FakeLaunch launch = {.kernel = kernel.name,
                         .grid = {k.grid_x, k.grid_y, k.grid_z},
                         .threads = k.block_x,
                         .shared_bytes = k.shared_bytes,
                         .params = {}};
    for (size_t p = 0; p < kernel.params.size(); ++p) {
      const auto* words = static_cast<const uint64_t*>(k.params[p]);
      if (!kernel.params[p]) {
        launch.params.push_back(words[0]);
      } else if (words[0] == kTensorMapMark && words[1] < tensor_maps_.size()) {
        launch.tensor_maps.push_back(tensor_maps_[words[1]]);
      } else {
        Wrong("a launch", "of '" + kernel.name + "' with a tensor map that nobody encoded");
      }
    }
    return launch;
  }
  void Execute(const FakeLaunch& launch) {
    launches_.push_back(launch);
    if (hook_ != nullptr) hook_(launch);
  }

  std::recursive_mutex mutex_;
  Hook hook_ = nullptr;
  std::map<std::string, int> calls_;
  struct Fault {
    int nth, code;
    bool for_good;
  };
  std::map<std::string, Fault> faults_;
  std::vector<FakeLaunch> launches_;
  std::vector<FakeTensorMap> tensor_maps_;
  struct OwnedThing {
    std::string what;
    void (*destroy)(const void* handle);
  };
  std::map<const void*, OwnedThing> owned_;
  std::map<CUdeviceptr, size_t> memory_;
  std::vector<std::unique_ptr<std::string>> all_memory_;  // also what was given back: see cuMemFree
  std::string misuse_;
  int contexts_ = 0;
  int capability_ = 90;
  int64_t left_ = 0;
  static thread_local int current_;
};

thread_local int Fake::current_ = 0;

Fake& fake() {
  static Fake& the = *new Fake;
  return the;
}

// The entries of PTX, with how many parameters each has.
Module* Parse(const std::string& ptx) {
  auto* module = new Module;
  const std::string mark = ".entry ";
  for (size_t at = ptx.find(mark); at != std::string::npos; at = ptx.find(mark, at + 1)) {
    const size_t open = ptx.find('(', at), close = ptx.find(')', at);
    Kernel kernel = {.name = ptx.substr(at + mark.size(), open - at - mark.size())};
    for (size_t p = ptx.find(".param", open); p < close; p = ptx.find(".param", p + 1)) {
      kernel.params.push_back(ptx.substr(p, std::min(ptx.find(',', p), close) - p).find("[128]") != std::string::npos);
    }
    module->kernels[kernel.name] = kernel;
  }
  return module;
}

}  // namespace

extern "C" {

FakeCuda* TesseraFakeCuda() { return &fake(); }

// Each function: one at a time, counted, and failing where it was told to.
#define FAKE(...)                            \
  const std::lock_guard lock(fake().mutex_); \
  if (const int fault = fake().Enter(__VA_ARGS__); fault != 0) return fault

CUresult cuInit(unsigned) {
  FAKE("cuInit", false);
  return 0;
}
CUresult cuDriverGetVersion(int* version) {
  FAKE("cuDriverGetVersion", false);
  *version = 13000;
  return 0;
}
CUresult cuGetErrorName(CUresult error, const char** text) {
  FAKE("cuGetErrorName", false);
  *text = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_FAKE";
  return 0;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
  FAKE("cuGetErrorString", false);
  *text = error == 2 ? "out of memory" : "a fault that a test asked for";
  return 0;
}
CUresult cuDeviceGetCount(int* count) {
  FAKE("cuDeviceGetCount", false);
  *count = kCards;
  return 0;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  FAKE("cuDeviceGet", false);
  if (ordinal < 0 || ordinal >= kCards) return 101;
  *device = ordinal;
  return 0;
}
CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  FAKE("cuDeviceGetName", false);
  std::strncpy(name, device == 0 ? "Fake card 0" : "Fake card 1", static_cast<size_t>(length));
  return 0;
}
CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice) {
  FAKE("cuDeviceGetAttribute", false);
  if (attribute == kCudaCapabilityMajor) *value = fake().capability_ / 10;
  if (attribute == kCudaCapabilityMinor) *value = fake().capability_ % 10;
  if (attribute == kCudaMaxSharedPerBlockOptin) *value = 227 << 10;
  return 0;
}
CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  FAKE("cuDeviceTotalMem_v2", false);
  *bytes = size_t{80} << 30;
  return 0;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  FAKE("cuDevicePrimaryCtxRetain", false);
  ++fake().contexts_;
  *context = reinterpret_cast<CUcontext>(static_cast<intptr_t>(device + 1));
  return 0;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  FAKE("cuDevicePrimaryCtxRelease_v2", false);
  if (--fake().contexts_ < 0) fake().Wrong("cuDevicePrimaryCtxRelease_v2", "more often than retained");
  return 0;
}
CUresult cuCtxPushCurrent_v2(CUcontext context) {
  FAKE("cuCtxPushCurrent_v2", false);
  if (context == nullptr) return 201;
  ++Fake::current_;
  return 0;
}
CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  FAKE("cuCtxPopCurrent_v2");
  *context = nullptr;
  --Fake::current_;
  return 0;
}

// A link holds the PTX; its cubin is the same text behind a mark.
CUresult cuLinkCreate_v2(unsigned, int*, void**, CUlinkState* state) {
  FAKE("cuLinkCreate_v2");
  return fake().Give(state, new std::string("FAKECUBIN"), "link");
}
CUresult cuLinkAddData_v2(CUlinkState state, int type, void* data, size_t size, const char*, unsigned, int*, void**) {
  FAKE("cuLinkAddData_v2");
  if (!fake().Owns("cuLinkAddData_v2", state)) return 400;
  if (type != 1 || size == 0 || static_cast<const char*>(data)[size - 1] != '\0') return 218;
  reinterpret_cast<std::string*>(state)->append(static_cast<const char*>(data), size);
  return 0;
}
CUresult cuLinkComplete(CUlinkState state, void** cubin, size_t* size) {
  FAKE("cuLinkComplete");
  if (!fake().Owns("cuLinkComplete", state)) return 400;
  auto* text = reinterpret_cast<std::string*>(state);
  *cubin = text->data();
  *size = text->size();
  return 0;
}
CUresult cuLinkDestroy(CUlinkState state) {
  FAKE("cuLinkDestroy");
  return fake().Take("cuLinkDestroy", state);
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  FAKE("cuModuleLoadData");
  if (std::strncmp(static_cast<const char*>(image), "FAKECUBIN", 9) != 0) return 200;
  return fake().Give(module, Parse(static_cast<const char*>(image) + 9), "module");
}
CUresult cuModuleUnload(CUmodule module) {
  FAKE("cuModuleUnload");
  return fake().Take("cuModuleUnload", module);
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  FAKE("cuModuleGetFunction");
  if (!fake().Owns("cuModuleGetFunction", module)) return 400;
  auto& kernels = reinterpret_cast<Module*>(module)->kernels;
  const auto found = kernels.find(name);
  if (found == kernels.end()) {
    // A sanitizer reports it, so that one must know where to look.
    fake().Wrong("cuModuleGetFunction", std::string("of a module without '") + name + "'");
    return kCudaNotFound;
  }
  *function = reinterpret_cast<CUfunction>(&found->second);
  return 0;
}
CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  FAKE("cuFuncSetAttribute");
  if (attribute != kCudaMaxDynamicSharedBytes || value > 227 << 10) return kCudaInvalidValue;
  reinterpret_cast<Kernel*>(function)->max_shared = value;
  return 0;
}

CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  FAKE("cuMemGetInfo_v2");
  *free_bytes = static_cast<size_t>(fake().left_);
  *total_bytes = size_t{80} << 30;
  return 0;
}
CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  FAKE("cuMemAlloc_v2");
  if (bytes == 0) return kCudaInvalidValue;
  if (static_cast<int64_t>(bytes) > fake().left_) return kCudaOutOfMemory;
  fake().left_ -= static_cast<int64_t>(bytes);
  // What nobody has written is not 0.
  const std::string& memory = *fake().all_memory_.emplace_back(std::make_unique<std::string>(bytes, '\xa5'));
  *pointer = reinterpret_cast<CUdeviceptr>(memory.data());
  fake().memory_[*pointer] = bytes;
  fake().owned_[memory.data()] = {"memory of " + std::to_string(bytes) + " bytes", [](const void*) {}};
  return 0;
}
CUresult cuMemFree_v2(CUdeviceptr pointer) {
  FAKE("cuMemFree_v2");
  if (fake().memory_.erase(pointer) == 0) {
    fake().Wrong("cuMemFree_v2", "given back what it never gave, or twice");
    return kCudaInvalidValue;
  }
  fake().owned_.erase(reinterpret_cast<const void*>(pointer));
  return 0;  // the bytes stay, so that a late write does no harm to the test itself
}
CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  FAKE("cuMemHostAlloc");
  *pointer = std::malloc(bytes);
  fake().owned_[*pointer] = {"pinned memory", [](const void* it) { std::free(const_cast<void*>(it)); }};
  return 0;
}
CUresult cuMemFreeHost(void* pointer) {
  FAKE("cuMemFreeHost");
  return fake().Take("cuMemFreeHost", pointer);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  FAKE("cuMemcpyAsync");
  if (!fake().Owns("cuMemcpyAsync", stream)) return 400;
  const bool into = fake().OnCard("cuMemcpyAsync", to, bytes), out_of = fake().OnCard("cuMemcpyAsync", from, bytes);
  if (!into && !out_of) fake().Wrong("cuMemcpyAsync", "from the host to the host");
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return 0;
}
CUresult cuPointerGetAttributes(unsigned count, const int* attributes, void** values, CUdeviceptr pointer) {
  FAKE("cuPointerGetAttributes");
  if (count != 1 || attributes[0] != kCudaPointerMemoryType) return kCudaInvalidValue;
  const auto pinned = fake().owned_.find(reinterpret_cast<const void*>(pointer));
  int type = 0;
  if (pinned != fake().owned_.end() && pinned->second.what == "pinned memory") type = 1;
  if (fake().OnCard("cuPointerGetAttributes", pointer, 0)) type = 2;
  *static_cast<int*>(values[0]) = type;
  return 0;
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  FAKE("cuStreamCreate");
  return fake().Give(stream, new int(0), "stream");
}
CUresult cuStreamDestroy_v2(CUstream stream) {
  FAKE("cuStreamDestroy_v2");
  return fake().Take("cuStreamDestroy_v2", stream);
}
CUresult cuStreamSynchronize(CUstream stream) {
  FAKE("cuStreamSynchronize");
  return fake().Owns("cuStreamSynchronize", stream) ? 0 : 400;
}

CUresult cuGraphCreate(CUgraph* graph, unsigned) {
  FAKE("cuGraphCreate");
  return fake().Give(graph, new Graph, "graph");
}
CUresult cuGraphAddKernelNode_v2(CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies, size_t count,
                                 const CudaKernelNode* kernel) {
  FAKE("cuGraphAddKernelNode_v2");
  if (!fake().Owns("cuGraphAddKernelNode_v2", graph)) return 400;
  const auto& function = *reinterpret_cast<const Kernel*>(kernel->function);
  if (const int refused = fake().CheckLaunch(function, *kernel); refused != 0) return refused;
  auto* added = new Node{.launch = fake().LaunchOf(function, *kernel), .before = {}};
  for (size_t d = 0; d < count; ++d) added->before.push_back(reinterpret_cast<Node*>(dependencies[d]));
  added->launch.edges = static_cast<int>(count);
  reinterpret_cast<Graph*>(graph)->nodes.push_back(added);
  *node = reinterpret_cast<CUgraphNode>(added);
  return 0;
}
CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                                   const CudaGraphEdge* edges, size_t count) {
  FAKE("cuGraphAddDependencies_v2");
  if (!fake().Owns("cuGraphAddDependencies_v2", graph)) return 400;
  for (size_t e = 0; e < count; ++e) {
    auto* node = reinterpret_cast<Node*>(to[e]);
    node->before.push_back(reinterpret_cast<Node*>(from[e]));
    ++node->launch.edges;
    if (edges[e].type == 1 && edges[e].from_port == 1) ++node->launch.programmatic_edges;
  }
  return 0;
}
// Refuses what the manual of cuTensorMapEncodeTiled does.
CUresult cuTensorMapEncodeTiled(CudaTensorMap* map, int type, unsigned rank, void* address, const uint64_t* dims,
                                const uint64_t* strides, const unsigned* box, const unsigned* element_strides,
                                int interleave, int swizzle, int, int fill) {
  FAKE("cuTensorMapEncodeTiled");
  constexpr uint64_t kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  constexpr uint64_t kSpans[] = {256 * 8, 32, 64, 128};
  bool good = reinterpret_cast<uintptr_t>(map) % 64 == 0 && reinterpret_cast<uintptr_t>(address) % 16 == 0 &&
              type >= 0 && type < 13 && rank >= 1 && rank <= 5 && interleave == 0 && swizzle >= 0 && swizzle < 4 &&
              fill == 0;
  for (unsigned d = 0; good && d < rank; ++d) {
    good = dims[d] >= 1 && dims[d] <= uint64_t{1} << 32 && box[d] >= 1 && box[d] <= 256 && element_strides[d] == 1;
    if (d > 0) good &= strides[d - 1] % 16 == 0 && strides[d - 1] < uint64_t{1} << 40;
  }
  if (!good) return kCudaInvalidValue;
  const uint64_t row = box[0] * kElementBytes[type];
  if (row % 16 != 0 || row > kSpans[swizzle]) return kCudaInvalidValue;
  if (!fake().OnCard("cuTensorMapEncodeTiled", reinterpret_cast<CUdeviceptr>(address), 1)) {
    fake().Wrong("cuTensorMapEncodeTiled", "of memory that is not the card's");
  }
  map->words[0] = kTensorMapMark;
  map->words[1] = fake().tensor_maps_.size();
  fake().tensor_maps_.push_back({.address = reinterpret_cast<uint64_t>(address),
                                 .type = type,
                                 .swizzle = swizzle,
                                 .dims = {dims, dims + rank},
                                 .strides = {strides, strides + rank - 1},
                                 .box = {box, box + rank}});
  return 0;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  FAKE("cuGraphInstantiateWithFlags");
  if (!fake().Owns("cuGraphInstantiateWithFlags", graph)) return 400;
  auto* made = new Exec;
  const std::vector<Node*>& nodes = reinterpret_cast<Graph*>(graph)->nodes;
  std::set<const Node*> done;
  while (done.size() < nodes.size()) {
    // The last added that may run.
    const size_t before = done.size();
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
      const bool ready = std::all_of((*node)->before.begin(), (*node)->before.end(),
                                     [&](const Node* other) { return done.count(other) != 0; });
      if (done.count(*node) != 0 || !ready) continue;
      done.insert(*node);
      made->order.push_back((*node)->launch);
      break;
    }
    if (done.size() == before) return delete made, kCudaInvalidValue;  // a circle
  }
  return fake().Give(exec, made, "executable graph");
}
CUresult cuGraphUpload(CUgraphExec exec, CUstream) {
  FAKE("cuGraphUpload");
  return fake().Owns("cuGraphUpload", exec) ? 0 : 400;
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  FAKE("cuGraphLaunch");
  if (!fake().Owns("cuGraphLaunch", exec) || !fake().Owns("cuGraphLaunch", stream)) return 400;
  for (const FakeLaunch& launch : reinterpret_cast<Exec*>(exec)->order) fake().Execute(launch);
  return 0;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  FAKE("cuGraphExecDestroy");
  return fake().Take("cuGraphExecDestroy", exec);
}
CUresult cuGraphDestroy(CUgraph graph) {
  FAKE("cuGraphDestroy");
  return fake().Take("cuGraphDestroy", graph);
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  FAKE("cuEventCreate");
  return fake().Give(event, new int(0), "event");
}
CUresult cuEventRecord(CUevent event, CUstream) {
  FAKE("cuEventRecord");
  return fake().Owns("cuEventRecord", event) ? 0 : 400;
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent) {
  FAKE("cuEventElapsedTime");
  *milliseconds = 0.5f;
  return fake().Owns("cuEventElapsedTime", start) ? 0 : 400;
}
CUresult cuEventDestroy_v2(CUevent event) {
  FAKE("cuEventDestroy_v2");
  return fake().Take("cuEventDestroy_v2", event);
}
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** params,
                        void**) {
  FAKE("cuLaunchKernel");
  if (!fake().Owns("cuLaunchKernel", stream)) return 400;
  const auto& kernel = *reinterpret_cast<const Kernel*>(function);
  const CudaKernelNode launch = {function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, params};
  if (const int refused = fake().CheckLaunch(kernel, launch); refused != 0) return refused;
  fake().Execute(fake().LaunchOf(kernel, launch));
  return 0;
}

}  // extern "C"

}  // namespace tessera
