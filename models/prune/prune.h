// prune: gives a network a pattern to try: the weights of its matmuls and convolutions lose what a seeded mask drops.
//
//   ASSIGN_OR_RETURN(PruneSpec spec, ParsePruneSpec("90%:16x16"));
//   Prune(graph, spec, seed);                                  // each weight declares and obeys its mask
//
// For measuring latency, not accuracy: nothing is trained. Patterns are those of MEASURE.md: `fine` drops each element
// independently, `4x1` each block of the weight as a matrix [out, in…], `channels` each output channel, `2:4` keeps 2
// at random in each group of 4 along the axis that is summed over. Weights are floats, or i8 (also where they are
// dequantised first), of which 0 stands for 0. Depthwise weights stay, as publications leave them.
// Not for one graph on several threads. Tested by prune_test.cc.
#ifndef TESSERA_MODELS_PRUNE_PRUNE_H_
#define TESSERA_MODELS_PRUNE_PRUNE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "graph/graph.h"
#include "tesa/pattern.h"

namespace tessera {

struct PruneSpec {
  double dropped = 0;  // share of elements, blocks or channels
  Pattern pattern;     // axis 0: output channels, axis 1: what is summed over
  bool none = true;    // leaves everything as it is
  std::string text = "none";
};

// "none", "90%:fine", "90%:channels", "90%:32x64", "2:4" (also "50%:2:4"). TES-2001 otherwise.
StatusOr<PruneSpec> ParsePruneSpec(std::string_view text);

// Prunes every weight; a weight's mask depends on the seed and its name only. Returns how many were pruned.
int Prune(Graph& graph, const PruneSpec& spec, uint64_t seed);

}  // namespace tessera

#endif  // TESSERA_MODELS_PRUNE_PRUNE_H_
