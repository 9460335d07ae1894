#include "codegen/runs_on.h"

#include <memory>
#include <string>

#include "llvm/ADT/StringMap.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/TargetParser/Host.h"

namespace tessera {
namespace {

std::unique_ptr<llvm::MCSubtargetInfo> InfoOf(const Target& target) {
  std::string message;
  const llvm::Target* found = llvm::TargetRegistry::lookupTarget(target.triple, message);
  TES_CHECK(found != nullptr, message);
  return std::unique_ptr<llvm::MCSubtargetInfo>(
      found->createMCSubtargetInfo(target.triple, target.cpu, target.features));
}

}  // namespace

bool RunsOn(const Target& program, const Target& machine) {
  const std::unique_ptr<llvm::MCSubtargetInfo> needs = InfoOf(program), has = InfoOf(machine);
  // What a processor can be asked for: the instruction sets, none of the habits that LLVM also calls features.
  for (const auto& feature : llvm::sys::getHostCPUFeatures()) {
    const std::string name = "+" + feature.first().str();
    if (needs->checkFeatures(name) && !has->checkFeatures(name)) return false;
  }
  return true;
}

}  // namespace tessera
