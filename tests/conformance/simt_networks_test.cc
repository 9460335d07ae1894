// Whole networks of the catalog as an NVIDIA chip would run them, on the host under supervision: every kernel keeps the
// rules of its device in every order of threads, and the outputs are the interpreter's.
//
// The MLP is the paper's; the others are small. TESSERA_SIMT_CHIPS lists the chips, sm_80 if it is not set.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "codegen/testing/run_compiled.h"
#include "graph/passes/pipeline.h"
#include "models/catalog/catalog.h"

namespace tessera {
namespace {

std::vector<std::string> Chips() {
  const char* list = std::getenv("TESSERA_SIMT_CHIPS");
  std::istringstream names(list == nullptr ? "sm_80" : list);
  std::vector<std::string> chips;
  for (std::string chip; names >> chip;) chips.push_back(chip);
  return chips;
}

// Runs the network in a forward and a random order of threads, under other seeds of inputs.
void ExpectAgrees(std::string_view network, const CatalogOptions& options) {
  StatusOr<Graph> graph = BuildCatalogModel(network, options);
  ASSERT_TRUE(graph.ok()) << graph.status();
  const Status passes = OptimizeForHost(*graph);
  ASSERT_TRUE(passes.ok()) << passes;
  uint64_t seed = 0;
  for (const std::string& chip : Chips()) {
    for (const char* order : {"", ":random:7"}) {
      const auto start = std::chrono::steady_clock::now();
      constexpr double kNetworkBound = 1e-4;  // f32, MEASURE.md
      EXPECT_TRUE(CompiledAgrees(*graph, RandomInputs(*graph, ++seed), "simt:nvptx:" + chip + order, {}, kNetworkBound))
          << network;
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::cout << network << " simt:nvptx:" << chip << order << ": " << seconds.count()
                << " s, interpreter included\n";
    }
  }
}

TEST(SimtNetworksTest, Mlp) { ExpectAgrees("mlp", {.batch = 3}); }
TEST(SimtNetworksTest, MobileNet) {
  ExpectAgrees("mobilenet_v1", {.parameters = {{"size", 32}, {"width", 25}, {"classes", 10}}});
}
TEST(SimtNetworksTest, Bert) {
  ExpectAgrees("bert_base",
               {.parameters = {{"layers", 2}, {"hidden", 128}, {"heads", 2}, {"inner", 512}, {"seq", 32}}});
}

}  // namespace
}  // namespace tessera
