// LinkCodeObject: what LLVM writes for an AMD chip becomes what HIP loads.
//
//   ASSIGN_OR_RETURN(std::vector<std::byte> loadable, LinkCodeObject(object));
//
// lld runs in this process, one link at a time; files in between lie in the system's folder for temporary ones and are
// gone afterwards. Tested by codegen/amdgpu_test.cc.
#ifndef TESSERA_CODEGEN_TARGETS_AMDGPU_LINK_H_
#define TESSERA_CODEGEN_TARGETS_AMDGPU_LINK_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tessera {

// kInternal, with lld's words, for an object that asks for what is not in it.
StatusOr<std::vector<std::byte>> LinkCodeObject(std::string_view object);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TARGETS_AMDGPU_LINK_H_
