// pipeline: from a network as it was read to one that is ready for the host's kernels: simplify, propagate, shrink,
// lower.
//
//   ASSIGN_OR_RETURN(PrepareReport report, Prepare(graph));
//   report.shrink.lines;                                       // "conv 'dw3': channels 64 -> 19", …
//
// Stages stand between the passes of graph/passes/pipeline.h: `propagate` finds what is known and needed and changes
// nothing, `shrink` makes the graph smaller by it. A network in which nothing can be found (no declared sparsity, no
// slice of zeros, nothing cut away) is not propagated at all: a glance at each slice of its weights tells. Engine and
// tools go through here. The graph computes the same function afterwards and keeps its inputs and outputs. Not for
// sharing between threads. Tested by pipeline_test.cc.
#ifndef TESSERA_PROPAGATE_PIPELINE_H_
#define TESSERA_PROPAGATE_PIPELINE_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/pass.h"
#include "graph/passes/pipeline.h"
#include "propagate/propagate.h"
#include "propagate/rule_book.h"
#include "propagate/shrink/shrink.h"

namespace tessera {

struct PrepareOptions {
  MachineKind machine = MachineKind::kProcessor;
  bool propagate = true;  // off: passes only
  // Exact rules need no runs of the ops; that learned ones agree with them is a test (agreement_test.cc).
  RuleMode rules = RuleMode::kExact;
  OnCollapse on_collapse = OnCollapse::kKeep;
  // stop_after and print_after know the names of StageNames() beside those of passes.
  PassOptions passes = {};
};

struct PrepareReport {
  bool propagated = false;  // there was something to look for
  ShrinkReport shrink;
  double propagate_ms = 0;  // propagating and shrinking
  // Of a quantised network, what does not run on integers, and why: "softmax 'att': no integer form; …".
  std::vector<std::string> in_float;
};

// Passes and stages in order, each name once.
struct StageInfo {
  std::string_view name, doc;
};
std::vector<StageInfo> PrepareStages();

StatusOr<PrepareReport> Prepare(Graph& graph, const PrepareOptions& options = {});

// Is there anything for propagation to begin with? Its cost is that of the extents of the weights, for dense ones.
bool MayShrink(const Graph& graph);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_PIPELINE_H_
