// Small networks through the drivers cuda and hip on cards that are not there (runtime/testing/fake_gpu.h), whose
// kernels the host computes under supervision (runtime/simt): what the driver loads, copies, orders and launches is
// what the network needs, to the last argument. The program that the driver gets is the chip's own, PTX or code
// objects; a second one, for simt, has the same kernels under the same names, and a launch of one runs the other.
#include <gtest/gtest.h>

#include "codegen/compile.h"
#include "codegen/testing/run_compiled.h"
#include "graph/interpreter.h"
#include "graph/passes/pipeline.h"
#include "models/catalog/catalog.h"
#include "runtime/device.h"
#include "runtime/simt/block.h"
#include "runtime/simt/code.h"
#include "runtime/testing/fake_gpu.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

struct Card {
  const char* library;
  const char* device;
  const char* chip;  // as the card calls itself
  const char* target;
  const char* simt;
};

constexpr Card kCards[] = {
    {"runtime/testing/fake_libcuda.so", "cuda", "sm_80", "cuda:sm_80", "simt:nvptx:sm_80"},
    {"runtime/testing/fake_libamdhip64.so", "hip", "gfx906:sramecc+:xnack-", "hip:gfx906", "simt:amdgpu:gfx906"},
    {"runtime/testing/fake_libamdhip64.so", "hip", "gfx942:sramecc+:xnack-", "hip:gfx942", "simt:amdgpu:gfx942"},
    {"runtime/testing/fake_libamdhip64.so", "hip", "gfx1100", "hip:gfx1100", "simt:amdgpu:gfx1100"},
};

// What the hook of the fake driver, a plain function, has to know.
struct Host {
  FakeGpu* card = nullptr;
  std::unique_ptr<SimtCode> code;
  std::unique_ptr<SimtBlock> block;
  Status status;
};
Host* host = nullptr;

void Launch(const FakeLaunch& fake) {
  SimtLaunch launch;
  launch.kernel = launch.node = fake.kernel;
  launch.params = fake.params;
  launch.grid = {fake.grid[0], fake.grid[1], fake.grid[2]};
  launch.threads = static_cast<int>(fake.threads);
  launch.shared_bytes = fake.shared_bytes;
  if (host->status.ok()) host->status = host->code->Bind(&launch);
  // A kernel may touch what its arguments point into, each to the end of the allocation.
  for (const uint64_t param : fake.params) {
    const int64_t bytes = host->card->BytesFrom(param);
    if (bytes == 0) continue;
    launch.ranges.push_back({.name = "an argument",
                             .begin = reinterpret_cast<const std::byte*>(param),
                             .bytes = bytes,
                             .writes = true,
                             .early = true});
  }
  for (int64_t z = 0; z < launch.grid[2]; ++z) {
    for (int64_t y = 0; y < launch.grid[1]; ++y) {
      for (int64_t x = 0; x < launch.grid[0] && host->status.ok(); ++x) {
        host->status = host->block->Run(launch, {x, y, z}, {});
      }
    }
  }
}

class FakeCardNetworksTest : public testing::TestWithParam<Card> {
 protected:
  void ExpectAgrees(std::string_view network, const CatalogOptions& options) {
    StatusOr<Graph> graph = BuildCatalogModel(network, options);
    ASSERT_TRUE(graph.ok()) << graph.status();
    const Status passes = OptimizeForHost(*graph);
    ASSERT_TRUE(passes.ok()) << passes;
    const std::vector<Tensor> inputs = RandomInputs(*graph, 5);
    const StatusOr<std::vector<RefTensor>> expected = Interpret(*graph, inputs);
    ASSERT_TRUE(expected.ok()) << expected.status();

    const StatusOr<CompileResult> emulated = Compile(*graph, *MakeTarget(GetParam().simt), {.threads = 1});
    ASSERT_TRUE(emulated.ok()) << emulated.status();
    Host the_host;
    host = &the_host;
    StatusOr<std::unique_ptr<SimtCode>> code = SimtCode::Load(*emulated->program);
    ASSERT_TRUE(code.ok()) << code.status();
    the_host.code = *std::move(code);
    the_host.block = *SimtBlock::Make();

    FakeGpu& card = FakeGpu::Use(GetParam().library);
    card.Reset(Launch);
    card.SetChip(GetParam().chip);
    the_host.card = &card;
    {
      const StatusOr<std::vector<Tensor>> found = RunCompiled(*graph, inputs, GetParam().target, {.threads = 1});
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_TRUE(the_host.status.ok()) << the_host.status;
      for (size_t k = 0; k < found->size(); ++k) {
        constexpr double kNetworkBound = 1e-4;  // f32, MEASURE.md
        EXPECT_TRUE(Close((*found)[k], (*expected)[k].ToTensor(), kNetworkBound)) << "output " << k;
      }
    }
    EXPECT_FALSE(card.Launches().empty());
    EXPECT_EQ("", card.Owned());
    EXPECT_EQ("", card.Misuse());
    host = nullptr;
  }
};

TEST_P(FakeCardNetworksTest, Mlp) { ExpectAgrees("mlp", {.batch = 3}); }

TEST_P(FakeCardNetworksTest, MobileNet) {
  ExpectAgrees("mobilenet_v1", {.parameters = {{"size", 32}, {"width", 25}, {"classes", 10}}});
}

TEST_P(FakeCardNetworksTest, Bert) {
  ExpectAgrees("bert_base", {.parameters = {{"layers", 1}, {"hidden", 64}, {"heads", 2}, {"inner", 128}, {"seq", 16}}});
}

INSTANTIATE_TEST_SUITE_P(Cards, FakeCardNetworksTest, testing::ValuesIn(kCards), [](const auto& info) {
  const std::string target = info.param.target;
  return target.substr(target.find(':') + 1);
});

}  // namespace
}  // namespace tessera
