// Picks how a node is computed: of all ways of all emitters the one with the lowest expected time; the generic one is
// always a candidate.
#include <iomanip>
#include <optional>
#include <sstream>
#include <vector>

#include "codegen/emitter.h"

namespace tessera {

#define TES_EMITTER(name, text, targets)                                                                              \
  extern const std::string_view k##name##Doc;                                                                         \
  std::optional<double> Estimate##name(const Graph& graph, const Node& node, const Target& target, std::string* why); \
  Status Plan##name(const Node& node, PlanBuilder& builder);
#define TES_EMITTER_WITH_WAYS(name, text, targets)                                                           \
  extern const std::string_view k##name##Doc;                                                                \
  std::vector<Way> Ways##name(const Graph& graph, const Node& node, const Target& target, std::string* why); \
  Status Plan##name(const Node& node, const std::string& way, PlanBuilder& builder);
#include "codegen/emit/emitters.def"
#undef TES_EMITTER
#undef TES_EMITTER_WITH_WAYS

namespace {

// An emitter with one way, which needs no name.
template <auto estimate>
std::vector<Way> OneWay(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<double> us = estimate(graph, node, target, why);
  if (!us) return {};
  return {{.name = "", .us = *us, .why = std::move(*why)}};
}

template <auto plan>
Status PlanOneWay(const Node& node, const std::string& way, PlanBuilder& builder) {
  TES_CHECK(way.empty(), way);
  return plan(node, builder);
}

}  // namespace

std::span<const Emitter> AllEmitters() {
  static const std::vector<Emitter>& emitters = *new std::vector<Emitter>{
#define TES_EMITTER(name, text, targets) \
  Emitter{text, k##name##Doc, EmitterTargets::targets, OneWay<&Estimate##name>, PlanOneWay<&Plan##name>},
#define TES_EMITTER_WITH_WAYS(name, text, targets) \
  Emitter{text, k##name##Doc, EmitterTargets::targets, Ways##name, Plan##name},
#include "codegen/emit/emitters.def"
#undef TES_EMITTER
#undef TES_EMITTER_WITH_WAYS
  };
  return emitters;
}

std::vector<Way> WaysOf(const Emitter& emitter, const Graph& graph, const Node& node, const Target& target,
                        std::string* why) {
  if (emitter.targets == EmitterTargets::kHost && target.IsGpu()) {
    *why = "for processors only";
    return {};
  }
  return emitter.ways(graph, node, target, why);
}

std::string Choice::ToString() const {
  return way.name.empty() ? std::string(emitter->name) : std::string(emitter->name) + ":" + way.name;
}

Choice SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                     std::string* report) {
  Choice best;
  bool best_forced = false;
  std::ostringstream lines;
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    const std::vector<Way> ways = WaysOf(emitter, graph, node, target, &why);
    if (ways.empty()) lines << "; " << emitter.name << ": " << why;
    for (const Way& way : ways) {
      const Choice choice = {&emitter, way};
      lines << "; " << choice.ToString() << ": " << std::fixed << std::setprecision(1) << way.us << " us";
      if (!way.why.empty()) lines << " (" << way.why << ")";
      const bool forced = !only.empty() && (emitter.name == only || choice.ToString() == only);
      const bool better = best.emitter == nullptr || way.us < best.way.us;
      if (forced == best_forced ? better : forced) {
        best = choice;
        best_forced = forced;
      }
    }
  }
  TES_CHECK(best.emitter != nullptr, "no emitter for ", node.name);
  if (report != nullptr) *report = "node '" + node.name + "': " + best.ToString() + lines.str();
  return best;
}

}  // namespace tessera
