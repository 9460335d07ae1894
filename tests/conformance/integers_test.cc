// Random quantised networks through all passes and the whole compiled path: kernels give what the interpreter gives, to
// the last bit, with the emitters that selection takes and with the generic one, on each processor level that this
// machine can run. The seed is printed; TESSERA_TEST_SEED repeats it alone.
#include <gtest/gtest.h>

#include <cstdlib>

#include "codegen/testing/run_compiled.h"
#include "graph/passes/pipeline.h"
#include "graph/testing/random_quantized.h"
#include "graph/text.h"

namespace tessera {
namespace {

constexpr uint64_t kNetworks = 8;

void ExpectBits(const QuantizedOptions& network, const std::string& level, const std::string& emitter) {
  const char* only = std::getenv("TESSERA_TEST_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t last = only != nullptr ? first : kNetworks;
  for (uint64_t seed = first; seed <= last && !testing::Test::HasFailure(); ++seed) {
    QuantizedCase c = RandomQuantized(seed, network);
    const Status status = OptimizeForHost(c.graph);
    ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status;
    EXPECT_TRUE(CompiledAgrees(c.graph, c.inputs, level, {.only_emitter = emitter}, 0))
        << "seed " << seed << " " << level << " " << emitter << "\n"
        << PrintGraph(c.graph);
  }
}

class IntegersTest : public testing::TestWithParam<std::string> {};

// On GPUs' chips as the host runs their kernels: dp4a and tensor cores of each generation, and warpgroups.
std::vector<std::string> Levels() {
  std::vector<std::string> levels = RunnableLevels();
  for (const char* chip : {"nvptx:sm_75", "nvptx:sm_80:random", "nvptx:sm_90a", "amdgpu:gfx942"}) {
    levels.push_back(std::string("simt:") + chip);
  }
  return levels;
}

TEST_P(IntegersTest, GenericKernelsGiveTheInterpretersBits) { ExpectBits({.plain = true}, GetParam(), "generic"); }
TEST_P(IntegersTest, ChosenKernelsGiveTheInterpretersBits) {
  ExpectBits({.plain = true}, GetParam(), "");
  ExpectBits({.exact = true}, GetParam(), "");
}

INSTANTIATE_TEST_SUITE_P(Levels, IntegersTest, testing::ValuesIn(Levels()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace tessera
