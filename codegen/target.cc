#include "codegen/target.h"

#include "codegen/targets/arm64.h"
#include "codegen/targets/nvptx.h"
#include "codegen/targets/x86.h"

namespace tessera {

std::string Target::Key() const {
  return triple + "|" + cpu + "|" + features + "|" + std::to_string(vector_bits) + "|" + std::to_string(l1d_bytes) +
         "|" + std::to_string(l2_bytes) + (allow_tf32 ? "|tf32" : "") + (IsEmulated() ? "|simt" : "");
}

StatusOr<Target> MakeTarget(std::string_view spec) {
  constexpr std::string_view kTf32 = "+tf32";
  if (spec.size() > kTf32.size() && spec.substr(spec.size() - kTf32.size()) == kTf32) {
    ASSIGN_OR_RETURN(Target target, MakeTarget(spec.substr(0, spec.size() - kTf32.size())));
    if (target.capability < 80) {
      return Error(ErrorCode::kTargetUnknown, "target '", spec,
                   "': expected +tf32 behind an NVIDIA chip from sm_80 on");
    }
    target.name = std::string(spec);
    target.allow_tf32 = true;
    return target;
  }
  if (spec == "host" || spec.substr(0, 5) == "host:") return MakeX86Target(spec);
  if (spec == "cuda" || spec.substr(0, 5) == "cuda:") return MakeNvptxTarget(spec);
  constexpr std::string_view kSimtNvptx = "simt:nvptx:";
  if (spec.substr(0, kSimtNvptx.size()) == kSimtNvptx) {
    const std::string_view rest = spec.substr(kSimtNvptx.size()), chip = rest.substr(0, rest.find(':'));
    StatusOr<Target> chips_target = MakeNvptxTarget("cuda:" + std::string(chip));
    if (!chips_target.ok()) return chips_target.status().WithContext("target '" + std::string(spec) + "'");
    Target target = *std::move(chips_target);
    target.name = std::string(spec);
    target.device = "simt" + std::string(rest.substr(chip.size()));
    return target;
  }
  if (spec == "arm64" || spec.substr(0, 6) == "arm64:") return MakeArm64Target(spec);
  return Error(ErrorCode::kTargetUnknown, "target '", spec,
               "': expected host, host:CPU (x86-64, x86-64-v3, znver4, …), cuda, cuda:CHIP (sm_75, sm_80, sm_90, …), "
               "simt:nvptx:CHIP, which runs that chip's kernels on the host, or, "
               "to look at its code, arm64:CPU (neoverse-n1, apple-m1, …)");
}

}  // namespace tessera
