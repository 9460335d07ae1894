// CudaCode: what all executables of a program share on a card: its kernels, assembled and loaded, and its constants.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<CudaCode> code, CudaCode::Load(card, program, cache_dir));
//   kernel.function = code->function(step.kernel);
//
// Everything runs in the card's current context (CudaCurrent). Immutable once loaded, shared freely between threads.
// Tested by cuda_device_test.cc.
#ifndef TESSERA_RUNTIME_DRIVERS_CUDA_CODE_H_
#define TESSERA_RUNTIME_DRIVERS_CUDA_CODE_H_

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/device.h"
#include "runtime/drivers/cuda_assembler.h"
#include "runtime/drivers/cuda_card.h"
#include "runtime/program.h"

namespace tessera {

// "program 'mlp'", "kernel 'tessera_gemm_3' of node 'fc1'": how errors name them.
std::string ProgramName(const Program& program);
std::string KernelName(const Program& program, const Step& step);

class CudaCode {
 public:
  // Cubins are kept in `cache_dir` between processes; empty: not.
  static StatusOr<std::shared_ptr<CudaCode>> Load(std::shared_ptr<CudaCard> card,
                                                  std::shared_ptr<const Program> program, const std::string& cache_dir);
  ~CudaCode();
  CudaCode(const CudaCode&) = delete;
  CudaCode& operator=(const CudaCode&) = delete;

  const Program& program() const { return *program_; }
  CUfunction function(int kernel) const { return functions_[kernel]; }
  CUdeviceptr constants() const { return constants_.address(); }
  // Bytes of code and constants, and how the code was made.
  const ExecutableInfo& info() const { return info_; }

 private:
  CudaCode(std::shared_ptr<CudaCard> card, std::shared_ptr<const Program> program);
  StatusOr<std::vector<Cubin>> AssembleImages(const std::string& cache_dir) const;
  Status LoadModules(const std::string& cache_dir);
  Status FindFunctions();
  Status CopyConstants();

  std::shared_ptr<CudaCard> card_;
  const CudaApi& cuda_;
  std::shared_ptr<const Program> program_;
  std::vector<CUmodule> modules_;
  std::vector<CUfunction> functions_;  // of each kernel
  CudaMemory constants_;
  int64_t code_bytes_ = 0;
  ExecutableInfo info_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_DRIVERS_CUDA_CODE_H_
