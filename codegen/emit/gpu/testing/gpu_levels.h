// GpuLevels: the targets on which tests of GPU emitters run: the host's stand-ins for a card that starts steps one
// after the other, for one whose steps overlap and for an AMD chip, and the card of this machine if there is one; and
// an emitter by its name. Tested through its users.
#ifndef TESSERA_CODEGEN_EMIT_GPU_TESTING_GPU_LEVELS_H_
#define TESSERA_CODEGEN_EMIT_GPU_TESTING_GPU_LEVELS_H_

#include <cctype>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "gtest/gtest.h"

namespace tessera {

inline std::vector<std::string> GpuLevels(const std::string& amd = "gfx942") {
  std::vector<std::string> levels = {"simt:nvptx:sm_80", "simt:nvptx:sm_90"};
  if (!amd.empty()) levels.push_back("simt:amdgpu:" + amd);
  if (MakeTarget("cuda").ok()) levels.push_back("cuda");
  return levels;
}

inline std::string GpuLevelName(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

inline const Emitter& EmitterNamed(std::string_view name) {
  for (const Emitter& emitter : AllEmitters()) {
    if (emitter.name == name) return emitter;
  }
  TES_CHECK(false, "no emitter ", name);
}

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_TESTING_GPU_LEVELS_H_
