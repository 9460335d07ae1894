// SimtCode: kernels of a program for simt, ready to be launched.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<SimtCode> code, SimtCode::Load(program));
//   SimtLaunch launch = {.kernel = "tessera_gemm_3", .node = "fc1"};
//   RETURN_IF_ERROR(code->Bind(&launch));             // entry, stand-ins, and the range of the kernel's constants
//
// Immutable once loaded; launches refer to it. Thread-safe. Tested by codegen/simt_test.cc, with compiled kernels.
#ifndef TESSERA_RUNTIME_SIMT_CODE_H_
#define TESSERA_RUNTIME_SIMT_CODE_H_

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/library.h"
#include "runtime/program.h"
#include "runtime/simt/block.h"

namespace tessera {

class SimtCode {
 public:
  // kProgramInvalid for a program that was compiled for another target, or calls a device op without a stand-in.
  static StatusOr<std::unique_ptr<SimtCode>> Load(const Program& program);

  // Of the launch's kernel. kProgramInvalid where no image defines it.
  Status Bind(SimtLaunch* launch) const;

 private:
  // Code of an image, with the stand-ins that its device ops call.
  struct Image {
    KernelLibrary library;
    std::vector<SimtStandIn> ops;
  };

  explicit SimtCode(std::string name) : name_(std::move(name)) {}

  const std::string name_;
  std::vector<std::unique_ptr<Image>> images_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_CODE_H_
