// LadderNetwork: the networks that the ladder of evidence runs, each in every pattern of sparsity and every precision,
// and the chips that it runs them for.
//
//   ASSIGN_OR_RETURN(Graph graph, BuildLadderGraph("mobilenet_v1", "90%:fine", "i8"));
//   for (std::string_view chip : LadderChips()) MakeTarget("simt:" + std::string(chip));
//
// Names come from these lists alone. Weights and masks are seeded; a network of Fashion-MNIST in a pattern that it was
// trained with is the trained one. Ranges of integers are those of noise. Pure functions. Tested by
// simt_matrix_test.cc.
#ifndef TESSERA_TESTS_LADDER_LADDER_NETWORK_H_
#define TESSERA_TESTS_LADDER_LADDER_NETWORK_H_

#include <span>
#include <string_view>

#include "base/status.h"
#include "graph/graph.h"

namespace tessera {

// "nvptx:sm_75", …, "amdgpu:gfx942", …: with "simt:" in front, targets.
std::span<const std::string_view> LadderChips();
// "mlp", the one of the SparTA paper; "mobilenet_v1" of 32x32 pixels; "bert" of 2 layers, 128 wide, 32 long;
// "fashion_mlp", "fashion_mobilenet".
std::span<const std::string_view> LadderNetworks();
// "none", "90%:fine", "2:4", … (models/prune/prune.h).
std::span<const std::string_view> LadderPatterns();
// "f32", "f16", "i8".
std::span<const std::string_view> LadderPrecisions();

StatusOr<Graph> BuildLadderGraph(std::string_view network, std::string_view pattern, std::string_view precision);

}  // namespace tessera

#endif  // TESSERA_TESTS_LADDER_LADDER_NETWORK_H_
