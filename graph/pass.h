// Pass: a named rewrite of a graph, and the runner that keeps a list of them honest.
//
//   constexpr Pass kPasses[] = {
//       {"fold_constants", "evaluates nodes whose operands are all constants", FoldConstants},
//       {"remove_dead_nodes", "drops nodes that nothing reads", RemoveDead}};
//   RETURN_IF_ERROR(RunPasses(graph, kPasses, {.stop_after = "fold_constants", .print_after = "all", .out =
//   &std::cout}));
//
// A pass is a function; its header shows a graph before and after and says when that is safe. The graph is verified
// before the first and after each one, so that a broken graph names the pass that broke it. One thread per graph.
// Tested by pass_test.cc.
#ifndef TESSERA_GRAPH_PASS_H_
#define TESSERA_GRAPH_PASS_H_

#include <ostream>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

struct Pass {
  std::string_view name;
  std::string_view doc;  // one sentence, no full stop
  Status (*run)(Graph& graph) = nullptr;
};

struct PassOptions {
  // Run nothing behind the pass of this name; empty: run all. A name that is not in the list is an error.
  std::string stop_after = {};
  // Print the graph after the pass of this name, after each that changed it ("changed"), or after each ("all").
  std::string print_after = {};
  std::ostream* out = nullptr;  // where to; nothing is printed without it
  bool elide = true;            // print without the data of constants
  bool verify = true;
};

// Runs the passes in order. On error the message begins with the pass' name, and the graph is what the pass left.
Status RunPasses(Graph& graph, std::span<const Pass> passes, const PassOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASS_H_
