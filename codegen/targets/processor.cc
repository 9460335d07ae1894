#include "codegen/targets/processor.h"

#include <string>

#include "llvm/MC/TargetRegistry.h"

namespace tessera {

StatusOr<std::unique_ptr<llvm::MCSubtargetInfo>> FindProcessor(const Target& target, std::string_view architecture,
                                                               std::string_view try_instead) {
  std::string message;
  const llvm::Target* found = llvm::TargetRegistry::lookupTarget(target.triple, message);
  if (found == nullptr) return Error(ErrorCode::kInternal, "LLVM has no ", architecture, " back end: ", message);
  std::unique_ptr<llvm::MCSubtargetInfo> info(found->createMCSubtargetInfo(target.triple, target.cpu, target.features));
  if (info->isCPUStringValid(target.cpu)) return info;
  return Error(ErrorCode::kTargetUnknown, "target '", target.name, "': LLVM knows no ", architecture,
               " processor of the name '", target.cpu, "'; try ", try_instead);
}

}  // namespace tessera
