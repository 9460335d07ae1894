// FindProcessor: what LLVM knows of a processor by its name, for targets that are made from one.
//
//   ASSIGN_OR_RETURN(const std::unique_ptr<llvm::MCSubtargetInfo> info, FindProcessor(target, "x86-64",
//   "host:znver4")); target.has_fma = info->checkFeatures("+fma");
//
// The back end must be initialised. Tested by target_test.cc and arm64_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_PROCESSOR_H_
#define TESSERA_CODEGEN_TARGETS_PROCESSOR_H_

#include <memory>
#include <string_view>

#include "codegen/target.h"
#include "llvm/MC/MCSubtargetInfo.h"

namespace tessera {

// Of target.cpu with target.features, in the back end of target.triple. kTargetUnknown names target.name and, of
// `architecture`, what to try instead.
StatusOr<std::unique_ptr<llvm::MCSubtargetInfo>> FindProcessor(const Target& target, std::string_view architecture,
                                                               std::string_view try_instead);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_PROCESSOR_H_
