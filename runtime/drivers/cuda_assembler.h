// From PTX to a cubin, the form that a card executes: by nvJitLink where the machine has it, else by the driver.
//
//   CudaAssembler assembler(*cuda, cache_dir);
//   ASSIGN_OR_RETURN(Cubin cubin, assembler.Assemble(ptx, /*capability=*/90, "program 'mlp'"));
//
// nvJitLink (libnvJitLink.so.13 or .12, of the CUDA toolkit and of PyPI's nvidia-nvjitlink) needs no card, runs on many
// threads at once and knows newer PTX than an old driver; $TESSERA_NVJITLINK names another file, "off" does without.
// Cubins are kept in `cache_dir` (empty: not), named by the hash of the PTX, the chip and the assembler's version, so
// that an update of any of them never meets another's code. A file that was cut short or changed is assembled anew.
//
// Neither assembler can be stopped from within a process: a kernel of tens of thousands of instructions takes tens of
// seconds, and Cubin::seconds says so. The cache makes it once for each machine.
// Thread-safe. Tested by cuda_assembler_test.cc, and by tests/ptx with the real nvJitLink.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_ASSEMBLER_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_ASSEMBLER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/drivers/cuda_api.h"

namespace tessera {

using NvJitLinkHandle = struct NvJitLinkState*;

struct NvJitLink {
#define TES_NVJITLINK(name, parameters) int(*name) parameters = nullptr;
#include "runtime/drivers/nvjitlink_functions.def"
#undef TES_NVJITLINK
  int major = 0, minor = 0;

  // The bytes of a cubin for `arch` ("sm_90a"). kDeviceFailed has the assembler's words.
  StatusOr<std::string> Assemble(std::string_view ptx, const std::string& arch, std::string_view what) const;
};

// kDeviceMissing says which files were looked for.
StatusOr<const NvJitLink*> OpenNvJitLink();
StatusOr<const NvJitLink*> OpenNvJitLinkAt(const char* path);

struct Cubin {
  std::string bytes;
  std::string assembler;  // "nvJitLink 13.0", "driver 13.0"
  bool from_cache = false;
  double seconds = 0;
};

// The chip that a card of `capability` (90) needs this PTX assembled for: "sm_90a" where it asks for that, otherwise
// the card's own. kTargetUnsupported where the PTX is for another or a newer chip.
StatusOr<std::string> ArchFor(std::string_view ptx, int capability, std::string_view what);

class CudaAssembler {
 public:
  // Both are borrowed by nobody else; `nvjitlink` may be null. The driver assembles in the current context.
  CudaAssembler(const CudaApi& cuda, const NvJitLink* nvjitlink, std::string cache_dir);

  // `ptx` ends without a zero byte. `what` names it in errors.
  StatusOr<Cubin> Assemble(std::string_view ptx, int capability, std::string_view what) const;

 private:
  StatusOr<std::string> ByDriver(std::string_view ptx, std::string_view what) const;

  const CudaApi& cuda_;
  const NvJitLink* nvjitlink_;
  std::string driver_name_;
  std::string cache_dir_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_ASSEMBLER_H_
