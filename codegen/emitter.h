// Emitter: one family of ways to turn a node into steps. emitters.def lists them all; select.cc picks for each node the
// way with the lowest expected time, and writes down why the others lost.
//
//   Choice choice = SelectEmitter(graph, node, target, "", &report);
//   choice.ToString() == "sparse:blocks 32x32 + stream";          // an emitter, and the way it goes where it has
//   several choice.emitter->plan(node, choice.way.name, builder);
//
// The generic emitter applies to every node: it lowers the op's Compute as it stands. A special emitter is an
// optimisation and must beat it. Ways are what differs within one emitter: covers of a sparse operand, formats,
// schedules; a tuner measures them under their names, which therefore mean the same from one build to the next. An
// emitter is stateless; its functions may run on several threads at once for different nodes. Tested by select_test.cc
// and by tests/conformance, every way of every emitter on every op that it applies to.
#ifndef TESSERA_CODEGEN_EMITTER_H_
#define TESSERA_CODEGEN_EMITTER_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/plan.h"
#include "codegen/tuning_records.h"

namespace tessera {

enum class EmitterTargets : uint8_t { kEvery, kHost };

struct Way {
  std::string name;  // empty where an emitter has only one
  double us = 0;     // expected time on one core
  std::string why;   // what the time rests on ("scattered, 10 % kept"), for the decision report; may be empty
  // Does the plan ask PlanBuilder::PitchOf where planes lie, for the first operand, operands of the epilogue and the
  // result?
  bool padded_planes = false;
};

struct Emitter {
  std::string_view name;
  std::string_view doc;
  EmitterTargets targets;
  // Every way to compute `node`, in any order; none with the reason in *why ("expected f32, found i8").
  std::vector<Way> (*ways)(const Graph& graph, const Node& node, const Target& target, std::string* why);
  // Adds the steps of `node`. `way` is the name of one of `ways`.
  Status (*plan)(const Node& node, const std::string& way, PlanBuilder& builder);
};

std::span<const Emitter> AllEmitters();

// The emitter's ways, or none where it is not for this kind of target.
std::vector<Way> WaysOf(const Emitter& emitter, const Graph& graph, const Node& node, const Target& target,
                        std::string* why);

struct Choice {
  const Emitter* emitter = nullptr;
  Way way;
  std::string ToString() const;  // "matmul", "sparse:loop"
};

// The way with the lowest expected time; `report` (optional) receives one line with every candidate. `only` (may be
// empty) names the emitter, or emitter and way ("sparse:loop"), to use where it applies, for tests and comparisons.
Choice SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                     std::string* report);
// The same where ways of this node have been measured with `threads`: of those the quickest, whatever was expected of
// others.
Choice SelectTuned(const Graph& graph, const Node& node, const Target& target, const TuningRecords& records,
                   int threads, std::string_view only, std::string* report);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMITTER_H_
