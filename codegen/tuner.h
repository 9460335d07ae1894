// Tune: measures, on this machine, the ways in which each node of a network could be computed, and remembers the times.
//
//   ASSIGN_OR_RETURN(TuneReport report, Tune(graph, target, {.threads = 2, .budget_seconds = 30}, records));
//   Compile(graph, target, {.tuning = &records, .tuning_threads = 2});          // takes what was quickest
//
// Every distinct node (single_node.h) whose emitters offer more than one way worth trying is compiled once for each and
// run alone, the ways in turn, round after round, so that a slow phase of the machine meets all of them; the median of
// the rounds counts. A way is worth trying when its estimate is within `factor` of the best, and the best dense way is
// tried always: what sparsity or precision brings is then a measured fact, never a hope. Results are compared before
// times are taken; a way whose result differs from the first one's is reported and gets no time. Nodes that promise
// most, by estimate and number of times they occur, come first, so that a budget is spent where it counts. A node whose
// ways are all in `records` is not measured again. Not thread-safe; keep the machine quiet. Tested by tuner_test.cc.
//
// On a card (target "cuda") ways are all that emitters have for the chip (Target::whole_space), and times are the
// card's own: replays of a graph that holds the node's steps so often that its launch is a small part. Keys are of the
// chip, so that records of several kinds of card are merged into one file. The target simt has no time: Tune refuses
// it, and what is measured on a card decides there too, by --target=cuda:CHIP.
#ifndef TESSERA_CODEGEN_TUNER_H_
#define TESSERA_CODEGEN_TUNER_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "codegen/target.h"
#include "codegen/tuning_records.h"
#include "graph/graph.h"

namespace tessera {

struct TuneOptions {
  int threads = 1;             // of an inference; times on a processor are kept for this number only
  double budget_seconds = 60;  // nodes that are not reached keep their estimates
  int rounds = 15;
  double round_ms = 2;  // for each way, at least one run
  double factor = 4;
  uint64_t seed = 1;  // of the inputs
};

struct TunedNode {
  std::string name;  // of the first node that is like this in the network
  std::string what;
  int count = 1;                // nodes of the network that are alike
  std::string estimated, best;  // ways: by estimate, and by measurement
  double estimated_us = 0;      // measured times of the two
  double best_us = 0;
  bool measured = false;  // in this call; otherwise all was known
};

struct TuneReport {
  std::vector<TunedNode> nodes;       // those with something to choose, in the order of measurement
  std::vector<std::string> problems;  // ways that failed or gave a wrong result
  int ways_measured = 0;
  int nodes_left = 0;  // not reached within the budget
};

// `graph` as it is compiled: behind all passes. Adds to `records`. kTargetUnsupported where `target` has no time.
StatusOr<TuneReport> Tune(const Graph& graph, const Target& target, const TuneOptions& options, TuningRecords& records);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_TUNER_H_
