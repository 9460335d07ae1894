// CudaApi: NVIDIA's driver, opened when it is first asked for. Nothing links against it, and nothing is needed of it
// where no NVIDIA card is used.
//
//   ASSIGN_OR_RETURN(const CudaApi* cuda, OpenCuda());
//   RETURN_IF_ERROR(cuda->Check(cuda->cuMemAlloc_v2(&pointer, bytes), "cuMemAlloc", "the arena"));
//
// $TESSERA_LIBCUDA names another library in place of libcuda.so.1. Thread-safe. Tested by cuda_api_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_API_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_API_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace tessera {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = uint64_t;
using CUcontext = struct CUctx*;
using CUlinkState = struct CUlink*;
using CUmodule = struct CUmod*;
using CUfunction = struct CUfunc*;
using CUstream = struct CUstr*;
using CUevent = struct CUev*;
using CUgraph = struct CUgr*;
using CUgraphNode = struct CUgrNode*;
using CUgraphExec = struct CUgrExec*;

// cuda.h's CUDA_KERNEL_NODE_PARAMS_v2.
struct CudaKernelNode {
  CUfunction function = nullptr;
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
inline constexpr CUresult kCudaInvalidValue = 1, kCudaOutOfMemory = 2, kCudaNotFound = 500;
inline constexpr int kCudaMaxSharedPerBlockOptin = 97, kCudaCapabilityMajor = 75, kCudaCapabilityMinor = 76;
inline constexpr int kCudaMaxDynamicSharedBytes = 8;  // of a function
inline constexpr int kCudaPointerMemoryType = 2;
inline constexpr unsigned kCudaNonBlockingStream = 1;

struct CudaApi {
#define TES_CUDA(symbol, parameters) CUresult(*symbol) parameters = nullptr;
#define TES_CUDA_OPTIONAL(symbol, parameters) TES_CUDA(symbol, parameters)
#include "runtime/drivers/cuda_functions.def"
#undef TES_CUDA
#undef TES_CUDA_OPTIONAL

  // OK, or what the driver says of a call, what it was for, and what to do about it.
  Status Check(CUresult result, std::string_view call, std::string_view what) const;
};

// kDeviceMissing: no driver, one that lacks a function, or one that does not start.
StatusOr<const CudaApi*> OpenCuda();
// A given library, opened anew.
StatusOr<const CudaApi*> OpenCudaAt(const char* path);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_API_H_
