// CudaApi: NVIDIA's driver, opened when it is first asked for. Nothing links against it, and nothing is needed of it
// where no NVIDIA card is used.
//
//   ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
//   RETURN_IF_ERROR(cuda->Check(cuda->Allocate(&pointer, bytes), cuda->Allocate, "the arena"));
//
// $TESSERA_LIBCUDA names another library in place of libcuda.so.1. Thread-safe. Tested by cuda_api_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_API_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_API_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "runtime/drivers/gpu_api.h"

namespace tessera {

using CUdevice = int;
using CUcontext = struct CUctx*;
using CUlinkState = struct CUlink*;

// cuda.h's CUDA_KERNEL_NODE_PARAMS_v2.
struct CudaKernelNode {
  GpuFunction function = nullptr;
  unsigned grid_x = 1, grid_y = 1, grid_z = 1;
  unsigned block_x = 1, block_y = 1, block_z = 1;
  unsigned shared_bytes = 0;
  void** params = nullptr;
  void** extra = nullptr;
  void* kernel = nullptr;
  CUcontext context = nullptr;
};

// cuda.h's CUgraphEdgeData. Of type programmatic, from a kernel's programmatic port: what follows may start before what
// came first has ended, and waits by itself (griddepcontrol.wait) before it touches anything of it.
struct CudaGraphEdge {
  unsigned char from_port = 0, to_port = 0, type = 0;
  unsigned char reserved[5] = {};
};
inline constexpr CudaGraphEdge kProgrammaticEdge = {.from_port = 1, .to_port = 0, .type = 1};

// cuda.h's CUtensorMap.
struct alignas(64) CudaTensorMap {
  uint64_t words[16] = {};
};

// The numbers of cuda.h that are used here.
inline constexpr int kCudaMaxSharedPerBlockOptin = 97, kCudaCapabilityMajor = 75, kCudaCapabilityMinor = 76;
inline constexpr int kCudaMaxDynamicSharedBytes = 8;  // of a function
inline constexpr int kCudaPointerMemoryType = 2;

struct CudaApi : GpuApi {
#define TES_CUDA(symbol, parameters) GpuCall<GpuResult parameters> symbol;
#define TES_CUDA_OPTIONAL(symbol, parameters) TES_CUDA(symbol, parameters)
#include "runtime/drivers/cuda_functions.def"
#undef TES_CUDA
#undef TES_CUDA_OPTIONAL

  GpuErrorWords WordsFor(GpuResult result) const override;
  GpuResult Copy(GpuAddress to, GpuAddress from, size_t bytes, GpuStream stream) const override;
  std::string_view copy_name() const override { return cuMemcpyAsync; }
  bool IsReachable(const void* address) const override;
  GpuResult AddKernelNode(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* before, size_t count,
                          const GpuKernelNode& kernel) const override;
  std::string_view add_kernel_node_name() const override { return cuGraphAddKernelNode_v2; }
  bool has_programmatic_edges() const override { return cuGraphAddDependencies_v2.is_bound(); }
  GpuResult AddProgrammaticEdges(GpuGraph graph, const GpuGraphNode* from, GpuGraphNode to,
                                 size_t count) const override;
  std::string_view add_edges_name() const override { return cuGraphAddDependencies_v2; }
};

// kDeviceMissing: no driver, one that lacks a function, or one that does not start.
StatusOr<const CudaApi*> OpenCuda();
// A given library, opened anew.
StatusOr<const CudaApi*> OpenCudaAt(const char* path);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_API_H_
