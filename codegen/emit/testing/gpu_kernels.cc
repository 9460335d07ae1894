#include "codegen/emit/testing/gpu_kernels.h"

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "base/hash.h"
#include "codegen/emitter.h"

namespace tessera {

StatusOr<std::string> PtxOf(const Graph& graph, const std::string& target_name, const std::string& emitter) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget(target_name));
  ASSIGN_OR_RETURN(const CompileResult compiled, Compile(graph, target, {.threads = 1, .only_emitter = emitter}));
  std::string text;
  for (const auto& image : compiled.program->images) {
    text.append(reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size());
  }
  if (const char* directory = std::getenv("TESSERA_PTX_DIR"); directory != nullptr && !text.empty()) {
    const std::string name = emitter + "-" + HashBytes(text).ToHex().substr(0, 8) + target_name.substr(5) + ".ptx";
    RETURN_IF_ERROR(WriteFileAtomically(std::string(directory) + "/" + name, text));
  }
  return text;
}

testing::AssertionResult AgreesOnGpu(const Graph& graph, std::span<const Tensor> inputs, const std::string& emitter,
                                     double allowed) {
  bool taken = false;
  for (const char* chip : {"cuda:sm_75", "cuda:sm_90"}) {
    const StatusOr<Target> target = MakeTarget(chip);
    if (!target.ok()) return testing::AssertionFailure() << target.status();
    for (const Node& node : graph.nodes) {
      taken |= SelectEmitter(graph, node, *target, emitter, nullptr).emitter->name == emitter;
    }
    const StatusOr<std::string> text = PtxOf(graph, chip, emitter);
    if (!text.ok()) return testing::AssertionFailure() << graph.name << ", " << chip << ": " << text.status();
    for (const char* bad : {".extern .func", ".local"}) {
      if (text->find(bad) != std::string::npos) {
        return testing::AssertionFailure() << graph.name << ", " << chip << ": " << bad << " in\n" << *text;
      }
    }
  }
  if (!taken) return testing::AssertionFailure() << graph.name << ": no node takes " << emitter;
  const testing::AssertionResult agrees =
      CompiledAgrees(graph, inputs, "simt:nvptx:sm_90", {.only_emitter = emitter}, allowed);
  if (!agrees) return testing::AssertionFailure() << graph.name << ": " << agrees.message();
  // AMD's waves of 64 lanes are two warps for what is written here.
  const std::string amd = "simt:amdgpu:gfx90a";
  const Target target = *MakeTarget(amd);
  const bool takes = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    return SelectEmitter(graph, node, target, emitter, nullptr).emitter->name == emitter;
  });
  if (!takes) return testing::AssertionSuccess();
  const testing::AssertionResult agrees_there = CompiledAgrees(graph, inputs, amd, {.only_emitter = emitter}, allowed);
  if (!agrees_there) return testing::AssertionFailure() << graph.name << ", " << amd << ": " << agrees_there.message();
  return testing::AssertionSuccess();
}

}  // namespace tessera
