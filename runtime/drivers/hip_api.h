// HipApi: AMD's driver, opened when it is first asked for. Nothing links against it, and nothing is needed of it where
// no AMD card is used.
//
//   ASSIGN_OR_RETURN(const HipApi* hip, OpenHip());
//   RETURN_IF_ERROR(hip->Check(hip->Allocate(&pointer, bytes), hip->Allocate, "the arena"));
//
// Libraries of ROCm 6 and 5 are looked for, libamdhip64.so.6, .5 and then .so; $TESSERA_LIBAMDHIP64 names another in
// their place. Thread-safe. Tested by hip_api_test.cc, also with Debian's library on a machine without a card.
#ifndef TESSERA_RUNTIME_DRIVERS_HIP_API_H_
#define TESSERA_RUNTIME_DRIVERS_HIP_API_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/drivers/gpu_api.h"

namespace tessera {

// hip_runtime_api.h's hipKernelNodeParams.
struct HipKernelNode {
  unsigned block[3] = {1, 1, 1};
  void** extra = nullptr;
  GpuFunction function = nullptr;
  unsigned grid[3] = {1, 1, 1};
  void** params = nullptr;
  unsigned shared_bytes = 0;
};

// What is used of hipDeviceProp_t, as libraries before and from HIP 6 lay it out; both have room for more than either
// writes.
struct HipProperties5 {
  char name[256] = {};
  size_t memory_bytes = 0;
  size_t shared_bytes = 0;  // of a work-group
  int registers = 0, wave = 0;
  char between[116] = {};
  char arch[256] = {};
  char rest[3444] = {};
};
struct HipProperties6 {
  char name[256] = {};
  char ids[32] = {};
  size_t memory_bytes = 0;
  size_t shared_bytes = 0;
  int registers = 0, wave = 0;
  char between[848] = {};
  char arch[256] = {};
  char rest[2680] = {};
};
static_assert(offsetof(HipProperties5, arch) == 396 && offsetof(HipProperties6, arch) == 1160);

// hipPointerAttribute_t, with room.
struct HipPointer {
  int type = 0, device = 0;
  char rest[120] = {};
};

// The numbers of hip_runtime_api.h that are used here.
inline constexpr GpuResult kHipNoDevice = 100, kHipInvalidDevice = 101, kHipInvalidDeviceFunction = 98;
inline constexpr int kHipMemcpyDefault = 4;

// What a card is.
struct HipCardFacts {
  std::string name;  // "AMD Instinct MI300X"
  std::string arch;  // "gfx942:sramecc+:xnack-"
  int64_t memory_bytes = 0;
  int64_t shared_bytes = 0;
  // "gfx942".
  std::string chip() const { return arch.substr(0, arch.find(':')); }
};

struct HipApi : GpuApi {
#define TES_HIP(symbol, parameters) GpuCall<GpuResult parameters> symbol;
#define TES_HIP_OPTIONAL(symbol, parameters) TES_HIP(symbol, parameters)
#define TES_HIP_TEXT(symbol, parameters) const char*(*symbol)parameters = nullptr;
#include "runtime/drivers/hip_functions.def"
#undef TES_HIP
#undef TES_HIP_OPTIONAL
#undef TES_HIP_TEXT

  GpuErrorWords WordsFor(GpuResult result) const override;
  GpuResult Copy(GpuAddress to, GpuAddress from, size_t bytes, GpuStream stream) const override;
  std::string_view copy_name() const override { return hipMemcpyAsync; }
  bool IsReachable(const void* address) const override;
  GpuResult AddKernelNode(GpuGraphNode* node, GpuGraph graph, const GpuGraphNode* before, size_t count,
                          const GpuKernelNode& kernel) const override;
  std::string_view add_kernel_node_name() const override { return hipGraphAddKernelNode; }
  bool RefusesGraphs(GpuResult result) const override;

  StatusOr<HipCardFacts> FactsOf(int ordinal) const;
};

// kDeviceMissing: no driver, one that lacks a function, one that does not start, or no card.
StatusOr<const HipApi*> OpenHip();
// A given library, opened anew.
StatusOr<const HipApi*> OpenHipAt(const char* path);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_HIP_API_H_
