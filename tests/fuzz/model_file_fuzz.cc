// Fuzzes model files: any bytes give a graph or an error; a graph that was read is valid, and writing and reading it
// once more gives it again. The seeds hold every op with random parameters, so damage also meets each op's type
// inference.
#include <cstring>
#include <memory>
#include <random>

#include "graph/model_file.h"
#include "graph/op_names.h"
#include "graph/testing/random_graph.h"
#include "graph/testing/random_node.h"
#include "graph/verifier.h"
#include "tests/fuzz/target.h"

namespace tessera {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  const auto add = [&](const Graph& graph, bool kept_only) {
    StatusOr<std::string> bytes = WriteModelToString(graph, {.kept_only = kept_only});
    TES_CHECK(bytes.ok(), bytes.status());
    seeds.push_back(*std::move(bytes));
  };
  std::mt19937_64 rng(1);
  for (size_t op = 0; op < std::size(kOpNames); ++op) {
    for (int k = 0; k < 3; ++k) {
      RandomCase c = RandomNode(static_cast<Op>(op), rng);
      if (k == 0 && c.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(c, rng);
      add(c.graph, false);
    }
  }
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    add(RandomGraph(random, {.max_nodes = 12}), seed % 2 == 1);
  }
  return seeds;
}

}  // namespace tessera

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  // Exactly as many bytes as there are, aligned as a mapped file is.
  auto owner = std::make_shared<Tensor>(DType::kU8, Shape({static_cast<int64_t>(size)}));
  if (size > 0) std::memcpy(owner->mutable_bytes().data(), data, size);
  const std::span<const std::byte> bytes = owner->bytes();
  const StatusOr<Graph> graph =
      ReadModelFromMemory(bytes, owner, {.max_bytes = 1 << 22, .max_bytes_per_file_byte = 16});
  if (!graph.ok()) {
    TES_CHECK(!graph.status().message().empty(), "an error without a message");
    return 0;
  }
  const StatusOr<std::string> again = WriteModelToString(*graph);
  TES_CHECK(again.ok(), again.status());
  auto copy = std::make_shared<std::string>(*again);
  const StatusOr<Graph> reread = ReadModelFromMemory(std::as_bytes(std::span<const char>(*copy)), copy);
  TES_CHECK(reread.ok(), reread.status());
  // A NaN in a body or a parameter is not equal to itself; its text is.
  TES_CHECK(*reread == *graph || PrintGraph(*reread) == PrintGraph(*graph), "written and read back differs");
  return 0;
}
