#include "codegen/targets/x86.h"

#include <unistd.h>

#include <set>
#include <string>

#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"

namespace tessera {
namespace {

constexpr std::string_view kTriple = "x86_64-unknown-linux-gnu";

// The features that any of Target's fields look at.
constexpr const char* kFeatures[] = {"sse4.1",     "avx",        "avx2",     "fma",      "f16c",
                                     "avx512f",    "avx512bw",   "avx512dq", "avx512vl", "avx512vnni",
                                     "avx512bf16", "avx512vbmi", "avxvnni"};

StatusOr<std::set<std::string>> FeaturesOf(const std::string& cpu, const std::string& attributes) {
  std::string message;
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(std::string(kTriple), message);
  if (target == nullptr) return Error(ErrorCode::kInternal, "LLVM has no x86-64 back end: ", message);
  std::unique_ptr<llvm::MCSubtargetInfo> info(target->createMCSubtargetInfo(std::string(kTriple), cpu, attributes));
  if (!info->isCPUStringValid(cpu)) {
    return Error(ErrorCode::kTargetUnknown, "target 'host:", cpu,
                 "': LLVM knows no x86-64 processor of that name; try "
                 "host, host:x86-64, host:x86-64-v3, host:x86-64-v4 or host:znver4");
  }
  std::set<std::string> found;
  for (const char* feature : kFeatures) {
    if (info->checkFeatures(std::string("+") + feature)) found.insert(feature);
  }
  return found;
}

int64_t CacheBytes(int name, int64_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? bytes : otherwise;
}

}  // namespace

StatusOr<Target> MakeX86Target(std::string_view spec) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  Target target;
  target.kind = TargetKind::kX86;
  target.name = std::string(spec);
  target.triple = std::string(kTriple);
  if (spec == "host") {
    target.cpu = llvm::sys::getHostCPUName().str();
    // A virtual machine may hide features that the processor's name promises: state each one, present or not.
    for (const auto& feature : llvm::sys::getHostCPUFeatures()) {
      target.features +=
          (target.features.empty() ? "" : ",") + std::string(feature.second ? "+" : "-") + feature.first().str();
    }
  } else {
    target.cpu = std::string(spec.substr(5));
  }
  ASSIGN_OR_RETURN(const std::set<std::string> has, FeaturesOf(target.cpu, target.features));
  const auto with = [&](const char* feature) { return has.count(feature) > 0; };
  target.has_avx512 = with("avx512f") && with("avx512bw") && with("avx512dq") && with("avx512vl");
  target.vector_bits = target.has_avx512 ? 512 : (with("avx2") ? 256 : 128);
  target.vector_registers = target.has_avx512 ? 32 : 16;
  target.has_fma = with("fma") || target.has_avx512;
  target.has_f16c = with("f16c") || target.has_avx512;
  target.has_masked_memory = with("avx2");
  target.has_vnni = target.has_avx512 && with("avx512vnni");
  target.has_avx_vnni = with("avx2") && with("avxvnni");
  target.has_vbmi = target.has_avx512 && with("avx512vbmi");
  target.has_bf16 = target.has_avx512 && with("avx512bf16");
  // LLVM prefers 256-bit vectors on some processors; emitters choose widths themselves.
  if (target.has_avx512) target.features += std::string(target.features.empty() ? "" : ",") + "-prefer-256-bit";
  target.l1d_bytes = CacheBytes(_SC_LEVEL1_DCACHE_SIZE, target.l1d_bytes);
  target.l2_bytes = CacheBytes(_SC_LEVEL2_CACHE_SIZE, target.l2_bytes);
  return target;
}

}  // namespace tessera
