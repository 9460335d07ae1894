// Picks how a node is computed: of all ways of all emitters the one with the lowest expected time; the generic one is
// always a candidate.
#include <iomanip>
#include <map>
#include <optional>
#include <sstream>
#include <vector>

#include "codegen/emitter.h"
#include "codegen/single_node.h"

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

namespace {

// `times` (may be null) are measured ones.
Choice Select(const Graph& graph, const Node& node, const Target& target, const std::map<std::string, double>* times,
              std::string_view only, std::string* report) {
  // Asked for, measured, expected: the first of these that holds for any way decides.
  const auto rank = [&](const Choice& choice) {
    if (!only.empty() && (choice.emitter->name == only || choice.ToString() == only)) return 2;
    return times != nullptr && times->count(choice.ToString()) > 0 ? 1 : 0;
  };
  Choice best;
  int best_rank = 0;
  std::ostringstream lines;
  lines << std::fixed << std::setprecision(1);
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    const std::vector<Way> ways = WaysOf(emitter, graph, node, target, &why);
    if (ways.empty()) lines << "; " << emitter.name << ": " << why;
    for (const Way& way : ways) {
      Choice choice = {&emitter, way};
      lines << "; " << choice.ToString() << ": " << way.us << " us";
      if (times != nullptr && times->count(choice.ToString()) > 0) {
        choice.way.us = times->at(choice.ToString());
        lines << ", measured " << choice.way.us << " us";
      }
      if (!way.why.empty()) lines << " (" << way.why << ")";
      const int own_rank = rank(choice);
      if (best.emitter == nullptr || own_rank > best_rank || (own_rank == best_rank && choice.way.us < best.way.us)) {
        best = choice;
        best_rank = own_rank;
      }
    }
  }
  TES_CHECK(best.emitter != nullptr, "no emitter for ", node.name);
  if (report != nullptr) *report = "node '" + node.name + "': " + best.ToString() + lines.str();
  return best;
}

}  // namespace

Choice SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                     std::string* report) {
  return Select(graph, node, target, nullptr, only, report);
}

Choice SelectTuned(const Graph& graph, const Node& node, const Target& target, const TuningRecords& records,
                   int threads, std::string_view only, std::string* report) {
  const std::string key = NodeKey(TakeOut(graph, node), target, threads);
  return Select(graph, node, target, records.Find(key), only, report);
}

}  // namespace tessera
