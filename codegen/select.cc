// Picks the emitter of a node: the lowest estimate wins; the generic one is always a candidate.
#include <iomanip>
#include <sstream>
#include <vector>

#include "codegen/emitter.h"

namespace tessera {

#define TES_EMITTER(name, text, targets)                                                                              \
  extern const std::string_view k##name##Doc;                                                                         \
  std::optional<double> Estimate##name(const Graph& graph, const Node& node, const Target& target, std::string* why); \
  Status Plan##name(const Node& node, PlanBuilder& builder);
#include "codegen/emit/emitters.def"
#undef TES_EMITTER

std::span<const Emitter> AllEmitters() {
  static const std::vector<Emitter>& emitters = *new std::vector<Emitter>{
#define TES_EMITTER(name, text, targets) \
  Emitter{text, k##name##Doc, EmitterTargets::targets, Estimate##name, Plan##name},
#include "codegen/emit/emitters.def"
#undef TES_EMITTER
  };
  return emitters;
}

std::optional<double> EstimateWith(const Emitter& emitter, const Graph& graph, const Node& node, const Target& target,
                                   std::string* why) {
  if (emitter.targets == EmitterTargets::kHost && target.IsGpu()) {
    *why = "for processors only";
    return std::nullopt;
  }
  return emitter.estimate(graph, node, target, why);
}

const Emitter& SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                             std::string* report) {
  const Emitter* best = nullptr;
  double best_us = 0;
  std::ostringstream lines;
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    const std::optional<double> us = EstimateWith(emitter, graph, node, target, &why);
    lines << "; " << emitter.name << ": ";
    if (!us) {
      lines << why;
      continue;
    }
    lines << std::fixed << std::setprecision(1) << *us << " us";
    if (!why.empty()) lines << " (" << why << ")";
    const bool forced = emitter.name == only;
    if (best == nullptr || forced || (*us < best_us && best->name != only)) {
      best = &emitter;
      best_us = *us;
    }
  }
  TES_CHECK(best != nullptr, "no emitter for ", node.name);
  if (report != nullptr) *report = "node '" + node.name + "': " + std::string(best->name) + lines.str();
  return *best;
}

}  // namespace tessera
