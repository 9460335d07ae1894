// Emitter: one way to turn a node into steps. emitters.def lists them all; select.cc picks for each node the one with
// the lowest estimate, and writes down why the others lost.
//
// The generic emitter applies to every node: it lowers the op's Compute as it stands. A special emitter is an
// optimisation and must beat it. An emitter is stateless; its functions may run on several threads at once for
// different nodes. Tested by tests/conformance, every emitter on every op that it applies to.
#ifndef TESSERA_CODEGEN_EMITTER_H_
#define TESSERA_CODEGEN_EMITTER_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "codegen/plan.h"

namespace tessera {

enum class EmitterTargets : uint8_t { kEvery, kHost };

struct Emitter {
  std::string_view name;
  std::string_view doc;
  EmitterTargets targets;
  // Expected time on one core in microseconds, or nullopt with the reason in *why ("expected f32, found i8").
  // With a time, *why may say what it rests on ("scattered, 10 % kept"), for the decision report.
  std::optional<double> (*estimate)(const Graph& graph, const Node& node, const Target& target, std::string* why);
  // Adds the steps of `node`. Called only where estimate gave a time.
  Status (*plan)(const Node& node, PlanBuilder& builder);
};

std::span<const Emitter> AllEmitters();

// What estimate says, or that the emitter is not for this kind of target.
std::optional<double> EstimateWith(const Emitter& emitter, const Graph& graph, const Node& node, const Target& target,
                                   std::string* why);

// The emitter with the lowest estimate for a node; `report` (optional) receives one line with every candidate. `only`
// (may be empty) names the emitter to use where it applies, for tests and comparisons.
const Emitter& SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                             std::string* report);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMITTER_H_
