#include "codegen/targets/x86.h"

#include <unistd.h>

#include <memory>
#include <string>

#include "codegen/targets/processor.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"

namespace tessera {
namespace {

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
  target.triple = "x86_64-unknown-linux-gnu";
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
  ASSIGN_OR_RETURN(const std::unique_ptr<llvm::MCSubtargetInfo> info,
                   FindProcessor(target, "x86-64", "host, host:x86-64, host:x86-64-v3, host:x86-64-v4 or host:znver4"));
  const auto with = [&](const char* feature) { return info->checkFeatures(std::string("+") + feature); };
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
