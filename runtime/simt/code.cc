#include "runtime/simt/code.h"

#include <algorithm>
#include <string_view>

#include "runtime/simt/stand_ins.h"

namespace tessera {

StatusOr<std::unique_ptr<SimtCode>> SimtCode::Load(const Program& program) {
  std::unique_ptr<SimtCode> self(new SimtCode(program.name));
  for (const ProgramImage& source : program.images) {
    auto image = std::make_unique<Image>();
    ASSIGN_OR_RETURN(image->library, KernelLibrary::Load(source.bytes, program.name));
    const auto* names = static_cast<const char*>(image->library.Lookup(kSimtOpsSymbol));
    if (names == nullptr) {
      return Error(ErrorCode::kProgramInvalid, "program '", program.name, "' was compiled for '", program.target,
                   "', expected simt:nvptx:CHIP or simt:amdgpu:CHIP");
    }
    const auto* end = reinterpret_cast<const char*>(image->library.code().data()) + image->library.size_bytes();
    std::string_view rest(names, static_cast<size_t>(end - names));
    while (!rest.empty() && rest[0] != '\0') {
      const std::string_view name = rest.substr(0, rest.find('\0'));
      rest.remove_prefix(std::min(rest.size(), name.size() + 1));
      const SimtStandIn stand_in = FindSimtStandIn(name);
      if (stand_in == nullptr) {
        return Error(ErrorCode::kProgramInvalid, "program '", program.name, "': the device op '", name,
                     "' has no stand-in in runtime/simt/stand_ins.cc");
      }
      image->ops.push_back(stand_in);
    }
    self->images_.push_back(std::move(image));
  }
  return self;
}

Status SimtCode::Bind(SimtLaunch* launch) const {
  for (const auto& image : images_) {
    launch->entry = reinterpret_cast<SimtKernel>(image->library.Lookup(launch->kernel));
    if (launch->entry == nullptr) continue;
    launch->ops = image->ops.data();
    launch->ranges.push_back({.name = "the kernel's constants",
                              .begin = image->library.code().data(),
                              .bytes = static_cast<int64_t>(image->library.size_bytes()),
                              .early = true});
    return OkStatus();
  }
  return Error(ErrorCode::kProgramInvalid, "program '", name_, "': no image defines the kernel '", launch->kernel, "'");
}

}  // namespace tessera
