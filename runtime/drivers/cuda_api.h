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
using CUmodule = struct CUmod*;
using CUfunction = struct CUfunc*;
using CUstream = struct CUstr*;
using CUevent = struct CUev*;
using CUgraph = struct CUgr*;
using CUgraphExec = struct CUgrExec*;

struct CudaApi {
#define TES_CUDA(symbol, parameters) CUresult(*symbol) parameters = nullptr;
#include "runtime/drivers/cuda_functions.def"
#undef TES_CUDA

  // OK, or what the driver says of a call, what it was for, and what to do about it.
  Status Check(CUresult result, std::string_view call, std::string_view what) const;
};

// kDeviceMissing: no driver, one that lacks a function, or one that does not start.
StatusOr<const CudaApi*> OpenCuda();
// A given library, opened anew.
StatusOr<const CudaApi*> OpenCudaAt(const char* path);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_API_H_
