#include "codegen/target.h"

#include "codegen/targets/amdgpu.h"
#include "codegen/targets/arm64.h"
#include "codegen/targets/nvptx.h"
#include "codegen/targets/x86.h"

namespace tessera {
namespace {

// The target of a chip, with the host as its device: "simt:nvptx:sm_90", "simt:amdgpu:gfx942:reverse".
StatusOr<Target> MakeSimtTarget(std::string_view spec) {
  struct Vendor {
    std::string_view name, prefix;
    StatusOr<Target> (*make)(std::string_view);
  };
  constexpr Vendor kVendors[] = {{"nvptx", "cuda:", MakeNvptxTarget}, {"amdgpu", "hip:", MakeAmdgpuTarget}};
  std::string_view rest = spec.substr(spec.find(':') + 1);
  for (const Vendor& vendor : kVendors) {
    if (rest.substr(0, rest.find(':')) != vendor.name || rest.size() == vendor.name.size()) continue;
    rest.remove_prefix(vendor.name.size() + 1);
    const std::string_view chip = rest.substr(0, rest.find(':'));
    StatusOr<Target> target = vendor.make(std::string(vendor.prefix) + std::string(chip));
    if (!target.ok()) return target.status().WithContext("target '" + std::string(spec) + "'");
    target->name = std::string(spec);
    target->device = "simt" + std::string(rest.substr(chip.size()));
    return target;
  }
  return Error(ErrorCode::kTargetUnknown, "target '", spec, "': expected simt:nvptx:CHIP or simt:amdgpu:CHIP");
}

}  // namespace

std::string Target::Key() const {
  return triple + "|" + cpu + "|" + features + "|" + std::to_string(vector_bits) + "|" + std::to_string(l1d_bytes) +
         "|" + std::to_string(l2_bytes) + (allow_tf32 ? "|tf32" : "") + (IsEmulated() ? "|simt" : "");
}

StatusOr<Target> MakeTarget(std::string_view spec) {
  constexpr std::string_view kTf32 = "+tf32";
  if (spec.size() > kTf32.size() && spec.substr(spec.size() - kTf32.size()) == kTf32) {
    ASSIGN_OR_RETURN(Target target, MakeTarget(spec.substr(0, spec.size() - kTf32.size())));
    if (!target.has_tf32) {
      return Error(ErrorCode::kTargetUnknown, "target '", spec,
                   "': expected +tf32 behind an NVIDIA chip from sm_80 on");
    }
    target.name = std::string(spec);
    target.allow_tf32 = true;
    return target;
  }
  if (spec == "host" || spec.substr(0, 5) == "host:") return MakeX86Target(spec);
  if (spec == "cuda" || spec.substr(0, 5) == "cuda:") return MakeNvptxTarget(spec);
  if (spec == "hip" || spec.substr(0, 4) == "hip:") return MakeAmdgpuTarget(spec);
  if (spec.substr(0, 5) == "simt:") return MakeSimtTarget(spec);
  if (spec == "arm64" || spec.substr(0, 6) == "arm64:") return MakeArm64Target(spec);
  return Error(ErrorCode::kTargetUnknown, "target '", spec,
               "': expected host, host:CPU (x86-64, x86-64-v3, znver4, …), cuda, cuda:CHIP (sm_75, sm_80, sm_90, …), "
               "hip:CHIP (gfx90a, gfx942, gfx1100, …), simt:nvptx:CHIP or simt:amdgpu:CHIP, which run that chip's "
               "kernels on the host, or, "
               "to look at its code, arm64:CPU (neoverse-n1, apple-m1, …)");
}

}  // namespace tessera
