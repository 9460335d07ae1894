// GpuCode: what all executables of a program share on a card: its kernels, loaded, and its constants.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<GpuCode> code, GpuCode::Load(card, program, cache_dir));
//   kernel.function = code->function(step.kernel);
//
// The card is current for everything here (GpuCurrent). Immutable once loaded, shared freely between threads.
// Tested by cuda_device_test.cc and hip_device_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_GPU_CODE_H_
#define TESSERA_RUNTIME_DRIVERS_GPU_CODE_H_

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/device.h"
#include "runtime/drivers/gpu_card.h"
#include "runtime/program.h"

namespace tessera {

// "program 'mlp'", "kernel 'tessera_gemm_3' of node 'fc1'": how errors name them.
std::string ProgramName(const Program& program);
std::string KernelName(const Program& program, const Step& step);

class GpuCode {
 public:
  // What is assembled is kept in `cache_dir` between processes; empty: not.
  static StatusOr<std::shared_ptr<GpuCode>> Load(std::shared_ptr<GpuCard> card, std::shared_ptr<const Program> program,
                                                 const std::string& cache_dir);
  ~GpuCode();
  GpuCode(const GpuCode&) = delete;
  GpuCode& operator=(const GpuCode&) = delete;

  const Program& program() const { return *program_; }
  GpuFunction function(int kernel) const { return functions_[static_cast<size_t>(kernel)]; }
  GpuAddress constants() const { return constants_.address(); }
  // Bytes of code and constants, and how the code was made.
  const ExecutableInfo& info() const { return info_; }

 private:
  GpuCode(std::shared_ptr<GpuCard> card, std::shared_ptr<const Program> program);
  Status LoadModules(const std::vector<GpuBinary>& binaries);
  Status FindFunctions(const std::vector<GpuBinary>& binaries);
  Status CopyConstants();

  std::shared_ptr<GpuCard> card_;
  const GpuApi& api_;
  std::shared_ptr<const Program> program_;
  std::vector<GpuModule> modules_;
  std::vector<GpuFunction> functions_;  // of each kernel
  GpuMemory constants_;
  int64_t code_bytes_ = 0;
  ExecutableInfo info_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_GPU_CODE_H_
