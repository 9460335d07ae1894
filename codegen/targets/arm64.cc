#include "codegen/targets/arm64.h"

#include <memory>
#include <string>

#include "codegen/targets/processor.h"
#include "llvm/Support/TargetSelect.h"

namespace tessera {

StatusOr<Target> MakeArm64Target(std::string_view spec) {
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  Target target;
  target.kind = TargetKind::kArm64;
  target.name = std::string(spec);
  target.triple = "aarch64-unknown-linux-gnu";
  target.cpu = spec == "arm64" ? "neoverse-n1" : std::string(spec.substr(6));
  ASSIGN_OR_RETURN(const std::unique_ptr<llvm::MCSubtargetInfo> info,
                   FindProcessor(target, "AArch64", "arm64, arm64:cortex-a76, arm64:neoverse-v1 or arm64:apple-m1"));
  target.vector_bits = 128;
  target.vector_registers = 32;
  target.has_fma = true;
  target.has_f16c = true;
  target.has_i8mm = info->checkFeatures("+i8mm");
  // Of the cores that are common in servers: 64 KiB and 1 MiB.
  target.l1d_bytes = 64 << 10;
  target.l2_bytes = 1 << 20;
  return target;
}

}  // namespace tessera
