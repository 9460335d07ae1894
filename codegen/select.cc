// Picks how a node is computed: of all ways of all emitters the one with the lowest expected time; the generic one is
// always a candidate.
#include <algorithm>
#include <iomanip>
#include <map>
#include <optional>
#include <sstream>
#include <utility>
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

// What these gain over a loop that reads the pattern as data they first lose by walking through it: half of the time in
// which a pruned BERT is compiled.
bool IsOfSecondTier(const Emitter& emitter) {
  return emitter.name == "sparse_stream" || emitter.name == "sparse_parts";
}

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
  if (emitter.targets == EmitterTargets::kGpu && !target.IsGpu()) {
    *why = "for GPUs only";
    return {};
  }
  return emitter.ways(graph, node, target, why);
}

std::string Choice::ToString() const {
  return way.name.empty() ? std::string(emitter->name) : std::string(emitter->name) + ":" + way.name;
}

std::vector<Choice> RankWays(const Graph& graph, const Node& node, const Target& target, const SelectOptions& options,
                             std::string* report) {
  const std::map<std::string, double>* times = nullptr;
  if (options.tuning != nullptr) {
    times = options.tuning->Find(NodeKey(TakeOut(graph, node), target, options.threads));
  }
  // Asked for, measured, expected: the first of these that holds decides.
  const auto rank = [&](const Choice& choice) {
    if (!options.only.empty() && (choice.emitter->name == options.only || choice.ToString() == options.only)) return 0;
    return times != nullptr && times->count(choice.ToString()) > 0 ? 1 : 2;
  };
  // What was measured, or is asked for by name, may be none of those that promise most.
  Target wide = target;
  wide.whole_space |= times != nullptr || options.only.find(':') != std::string_view::npos;
  std::vector<Choice> ranked;
  std::ostringstream lines;
  lines << std::fixed << std::setprecision(1);
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    if (options.first_tier && IsOfSecondTier(emitter) && options.only.find(emitter.name) != 0) {
      lines << "; " << emitter.name << ": left to the second tier";
      continue;
    }
    std::vector<Way> ways = WaysOf(emitter, graph, node, wide, &why);
    if (ways.empty()) lines << "; " << emitter.name << ": " << why;
    for (Way& way : ways) {
      Choice choice = {&emitter, std::move(way)};
      lines << "; " << choice.ToString() << ": " << choice.way.us << " us";
      if (times != nullptr && times->count(choice.ToString()) > 0) {
        choice.way.us = times->at(choice.ToString());
        lines << ", measured " << choice.way.us << " us";
      }
      if (!choice.way.why.empty()) lines << " (" << choice.way.why << ")";
      ranked.push_back(std::move(choice));
    }
  }
  TES_CHECK(!ranked.empty(), "no emitter for ", node.name);
  std::stable_sort(ranked.begin(), ranked.end(), [&](const Choice& a, const Choice& b) {
    return std::make_pair(rank(a), a.way.us) < std::make_pair(rank(b), b.way.us);
  });
  if (report != nullptr) *report = "node '" + node.name + "': " + ranked[0].ToString() + lines.str();
  return ranked;
}

Choice SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                     std::string* report) {
  return RankWays(graph, node, target, {.only = only}, report)[0];
}

void KeepCodeWithin(double max_code_bytes, std::span<std::vector<Choice>> ranked, std::span<std::string> lines) {
  double total = 0;
  for (const std::vector<Choice>& ways : ranked) total += ways[0].way.code_bytes;
  while (total > max_code_bytes) {
    double least = 0;
    std::vector<Choice>* node = nullptr;
    size_t other = 0;
    for (std::vector<Choice>& ways : ranked) {
      for (size_t w = 1; w < ways.size(); ++w) {
        const double saved = ways[0].way.code_bytes - ways[w].way.code_bytes;
        if (saved <= 0) continue;
        const double loss = (ways[w].way.us - ways[0].way.us) / saved;
        if (node != nullptr && loss >= least) continue;
        least = loss;
        node = &ways;
        other = w;
      }
    }
    if (node == nullptr) return;
    const Choice before = (*node)[0];
    std::rotate(node->begin(), node->begin() + static_cast<std::ptrdiff_t>(other),
                node->begin() + static_cast<std::ptrdiff_t>(other) + 1);
    const Choice& now = (*node)[0];
    total += now.way.code_bytes - before.way.code_bytes;
    lines[node - ranked.data()] +=
        internal::Join("; within the budget for code: ", now.ToString(), " instead of ", before.ToString(),
                       ", which takes ", static_cast<int64_t>(before.way.code_bytes) >> 10, " KiB");
  }
}

}  // namespace tessera
