// GpuApi: what Tessera asks of a GPU's driver, whichever vendor's it is. NVIDIA's and AMD's have the same functions
// under other names; gpu_functions.def pairs them, and what differs more than that is virtual here.
//
//   RETURN_IF_ERROR(gpu.Check(gpu.Allocate(&address, bytes), gpu.Allocate, "the arena"));
//     "cuMemAlloc for the arena: CUDA_ERROR_OUT_OF_MEMORY (2, out of memory); free memory on the card, or …"
//
// Libraries are opened when they are first asked for and stay in the process. Thread-safe. Tested by cuda_api_test.cc
// and hip_api_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_GPU_API_H_
#define TESSERA_RUNTIME_DRIVERS_GPU_API_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tessera {

using GpuResult = int;  // CUresult, hipError_t: 0 is success, and the errors used here have equal numbers
using GpuAddress = uint64_t;
using GpuModule = struct GpuModuleState*;
using GpuFunction = struct GpuFunctionState*;
using GpuStream = struct GpuStreamState*;
using GpuEvent = struct GpuEventState*;
using GpuGraph = struct GpuGraphState*;
using GpuGraphNode = struct GpuGraphNodeState*;
using GpuGraphExec = struct GpuGraphExecState*;

inline constexpr GpuResult kGpuInvalidValue = 1, kGpuOutOfMemory = 2, kGpuInvalidHandle = 400, kGpuNotFound = 500,
                           kGpuNotSupported = 801;
inline constexpr unsigned kGpuNonBlockingStream = 1;

// A function of a library, with its name.
template <typename Function>
class GpuCall;
template <typename... Parameters>
class GpuCall<GpuResult(Parameters...)> {
 public:
  void Bind(void* function, std::string_view symbol) {
    function_ = reinterpret_cast<GpuResult (*)(Parameters...)>(function);
    // Error messages have the names of the manuals.
    name_ = symbol.ends_with("_v2") ? symbol.substr(0, symbol.size() - 3) : symbol;
  }
  bool is_bound() const { return function_ != nullptr; }
  GpuResult operator()(Parameters... parameters) const { return function_(parameters...); }
  operator std::string_view() const { return name_; }  // NOLINT: implicit on purpose, for Check

 private:
  GpuResult (*function_)(Parameters...) = nullptr;
  std::string_view name_;
};

// A kernel with its launch, as a node of a graph has it.
struct GpuKernelNode {
  GpuFunction function = nullptr;
  unsigned grid_x = 1, grid_y = 1, grid_z = 1;
  unsigned threads = 1;
  unsigned shared_bytes = 0;
  void** params = nullptr;
};

// What a driver calls an error, and what to do about it.
struct GpuErrorWords {
  const char* name = nullptr;
  const char* text = nullptr;
  std::string_view remedy;
};

struct GpuApi {
#define TES_GPU(member, parameters, cuda, hip) GpuCall<GpuResult parameters> member;
#define TES_GPU_OPTIONAL(member, parameters, cuda, hip) TES_GPU(member, parameters, cuda, hip)
#include "runtime/drivers/gpu_functions.def"
#undef TES_GPU
#undef TES_GPU_OPTIONAL

  virtual ~GpuApi() = default;
  virtual GpuErrorWords WordsFor(GpuResult result) const = 0;

  // To, from or between cards, in the order of the stream; either may lie on the host. `copy_name`: for Check.
  virtual GpuResult Copy(GpuAddress to, GpuAddress from, size_t bytes, GpuStream stream) const = 0;
  virtual std::string_view copy_name() const = 0;
  // Whether the card's copy engines reach `address` by themselves: memory of a card, or pinned.
  virtual bool IsReachable(const void* address) const = 0;
  virtual GpuResult AddKernelNode(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* before, size_t count,
                                  const GpuKernelNode& kernel) const = 0;
  virtual std::string_view add_kernel_node_name() const = 0;
  // Whether this result of AddKernelNode says that the driver's graphs take no kernels of loaded modules.
  virtual bool RefusesGraphs(GpuResult) const { return false; }
  // Edges to a kernel that waits for the others by itself, so that it may start while they end. A vendor may have none.
  virtual bool has_programmatic_edges() const { return false; }
  virtual GpuResult AddProgrammaticEdges(GpuGraph, GpuGraphNode const* /*from*/, GpuGraphNode /*to*/,
                                         size_t /*count*/) const {
    return kGpuNotSupported;
  }
  virtual std::string_view add_edges_name() const { return ""; }

  // OK, or what the driver says of a call, what it was for, and what to do about it.
  Status Check(GpuResult result, std::string_view call, std::string_view what) const;
};

// A driver's library while it is opened: finds functions and remembers the last that it lacks.
class GpuLibrary {
 public:
  // Null where there is none: see missing(), which then has the loader's words.
  explicit GpuLibrary(const char* path);
  bool is_open() const { return library_ != nullptr; }
  // The loader's words, or the name of a function that the library lacks; empty: nothing is missing.
  const std::string& missing() const { return missing_; }

  template <typename Function>
  void Bind(GpuCall<Function>& call, const char* symbol, bool optional = false) {
    call.Bind(Find(symbol, optional), symbol);
  }
  void* Find(const char* symbol, bool optional);

 private:
  void* library_;
  std::string missing_;
};

// The card that "cuda" (the first) or "cuda:1" names, counted as `vendor`'s driver does ("cuda", "hip").
// kTargetUnknown for anything else.
StatusOr<int> GpuOrdinal(std::string_view vendor, std::string_view device);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_GPU_API_H_
