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

enum class EmitterTargets : uint8_t { kEvery, kHost, kGpu };

struct Way {
  std::string name;  // empty where an emitter has only one
  double us = 0;     // expected time, of all threads of an inference together
  std::string why;   // what the time rests on ("scattered, 10 % kept"), for the decision report; may be empty
  // Of machine code that grows with what is kept; 0 for kernels of a few KiB. A budget for code is held by these.
  double code_bytes = 0;
  // Does the plan ask PlanBuilder::PlanesOf where planes lie, for the first operand, operands of the epilogue and the
  // result? Then the result may lie in bands too, with operands of its shape alike.
  bool padded_planes = false;
  // Of such a plan whose first operand may lie in bands: the rows beside a band that the tasks of one touch; -1: it may
  // not.
  int64_t band_halo = -1;
  // May each operand of the epilogue that is an image, and the result, lie in bands or not as it likes? Otherwise those
  // of one shape lie alike.
  bool bands_apart = false;
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

struct SelectOptions {
  // The emitter, or emitter and way ("sparse:loop"), to use where it applies, for tests and comparisons; may be empty.
  std::string_view only = {};
  // Measured times, which go before expected ones: of the ways of a node that were measured the quickest is taken,
  // whatever was expected of the others. Borrowed, may be null. `threads`: of an inference, as given to Tune.
  const TuningRecords* tuning = nullptr;
  int threads = 0;
  // Leaves out emitters whose ways take longer to decide on than to run for a while.
  bool first_tier = false;
};

// Every way to compute a node, the one to take first. `report` (optional) receives one line with all of them, and why
// emitters that are not among them do not apply. Never empty.
std::vector<Choice> RankWays(const Graph& graph, const Node& node, const Target& target, const SelectOptions& options,
                             std::string* report);

// The first of them.
Choice SelectEmitter(const Graph& graph, const Node& node, const Target& target, std::string_view only,
                     std::string* report);

// ranked[n] are the ways of node n. Moves others to the front, those that lose least time for each byte of code that
// they save first, until the code of all that stand in front is within `max_code_bytes`, or nothing smaller is left.
// Says on `lines[n]` what it did to node n.
void KeepCodeWithin(double max_code_bytes, std::span<std::vector<Choice>> ranked, std::span<std::string> lines);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMITTER_H_
