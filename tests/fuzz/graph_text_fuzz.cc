// Fuzzes the text form of graphs: any text gives a graph or an error with a place; what parses prints and parses to the
// same text again, and verifying it never faults. The seeds hold every op with random parameters.
#include <random>

#include "graph/op_names.h"
#include "graph/testing/random_graph.h"
#include "graph/testing/random_node.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "tests/fuzz/target.h"

namespace tessera {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  std::mt19937_64 rng(2);
  for (size_t op = 0; op < std::size(kOpNames); ++op) {
    for (int k = 0; k < 3; ++k) {
      RandomCase c = RandomNode(static_cast<Op>(op), rng);
      if (k == 0 && c.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(c, rng);
      seeds.push_back(PrintGraph(c.graph));
    }
  }
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    seeds.push_back(PrintGraph(RandomGraph(random, {.max_nodes = 10})));
  }
  seeds.push_back(R"(graph "g" {
    %w: f32[64,8] tesa(2:4[1] kept 50%) = constant random(seed = 1, stddev = 0.02)
    %v: i8[8] quant(scales=[0.5], zero_points=[3]) = constant splat(3)
    %z: f32[2] tesa(layers 32: grid[1] 2x01 | 8:) = constant zeros
    order [2,0,1]
    return %z, %w
  })");
  return seeds;
}

}  // namespace tessera

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const StatusOr<Graph> graph = ParseGraph(text, {.max_constant_bytes = 1 << 24, .max_values = 1 << 16});
  if (!graph.ok()) return 0;
  static_cast<void>(Verify(*graph).ok());
  const std::string printed = PrintGraph(*graph);
  const StatusOr<Graph> again = ParseGraph(printed);
  TES_CHECK(again.ok(), again.status(), "\n", printed);
  TES_CHECK(PrintGraph(*again) == printed, "printed and parsed differs\n", printed);
  return 0;
}
