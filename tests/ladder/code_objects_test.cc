// The static rung for AMD's chips: every distinct kernel of the catalog's networks, of the ladder's and of every op as
// a linked code object, taken apart. Nothing spills, nothing lies in scratch memory, nothing is undefined, there are no
// hidden arguments, launches are within the chip's limits, as many blocks fit on a compute unit as the schedule counts
// on, and products have the instructions that the chip has for them.
//
// TESSERA_LADDER=all (`./check --all`) looks at every combination of the ladder instead of a few.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "codegen/testing/code_object.h"
#include "gtest/gtest.h"
#include "tests/ladder/distinct_kernels.h"
#include "tests/ladder/ladder_network.h"

namespace tessera {
namespace {

bool Everything() {
  const char* wanted = std::getenv("TESSERA_LADDER");
  return wanted != nullptr && std::string_view(wanted) == "all";
}

// Batches as the published measurements have them; a transformer's layers are alike.
std::vector<std::string> Networks() {
  std::vector<std::string> networks = {"mlp:1", "mlp:32", "mobilenet_v1:1", "bert_base:1:layers=1", "ops:1"};
  if (!Everything()) {
    for (const char* rest : {"mlp/90%:fine/f32", "bert/80%:64x64/f16", "bert/2:4/i8", "mobilenet_v1/90%:4x1/i8"}) {
      networks.push_back(std::string("ladder:") + rest);
    }
    return networks;
  }
  networks.insert(networks.end(), {"mlp:1024", "mobilenet_v1:32", "mobilenet_v2:1", "resnet18:1",
                                   "bert_base:32:layers=1", "minilm:1:layers=1", "ops:3", "device_ops"});
  for (std::string_view network : LadderNetworks()) {
    for (std::string_view pattern : LadderPatterns()) {
      for (std::string_view precision : LadderPrecisions()) {
        networks.push_back("ladder:" + std::string(network) + "/" + std::string(pattern) + "/" +
                           std::string(precision));
      }
    }
  }
  return networks;
}

class CodeObjectsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const StatusOr<Target> target = MakeTarget(std::string("hip:") + GetParam());
    ASSERT_TRUE(target.ok()) << target.status();
    target_ = *target;
  }

  // What the code objects of these networks hold, by symbol.
  void Read(KernelCollection& kernels, const std::vector<std::string>& networks,
            std::map<std::string, KernelCode>& code) {
    for (const std::string& network : networks) {
      const Status added = kernels.Add(network);
      ASSERT_TRUE(added.ok()) << network << ": " << added;
    }
    const auto files = kernels.Compile(/*per_file=*/16);
    ASSERT_TRUE(files.ok()) << files.status();
    for (const std::vector<std::byte>& file : *files) {
      const StatusOr<CodeObject> object = ReadCodeObject(file, target_);
      ASSERT_TRUE(object.ok()) << object.status();
      for (const std::string& symbol : object->undefined) ADD_FAILURE() << "nobody defines '" << symbol << "'";
      for (const KernelCode& kernel : object->kernels) code.emplace(kernel.name, kernel);
    }
  }

  Target target_;
};

TEST_P(CodeObjectsTest, EveryKernelKeepsTheRules) {
  const auto start = std::chrono::steady_clock::now();
  KernelCollection kernels(target_);
  std::map<std::string, KernelCode> code;
  ASSERT_NO_FATAL_FAILURE(Read(kernels, Networks(), code));
  int64_t most_vgprs = 0, code_bytes = 0, fewest_waves = 100;
  std::string hungriest;
  for (const DistinctKernel* kernel : kernels.kernels()) {
    const auto found = code.find(kernel->symbol);
    ASSERT_NE(found, code.end()) << kernel->symbol;
    SCOPED_TRACE(kernel->symbol + " (" + kernel->node + ")");
    const bool by_blocks = kernel->spec.block_threads > 0;
    for (const std::string& fault : FaultsOf(found->second, kernel->spec.num_args + (by_blocks ? 0 : 2), target_)) {
      ADD_FAILURE() << fault;
    }
    EXPECT_LE(kernel->threads, 1024);
    EXPECT_LE(kernel->threads, found->second.max_threads);
    EXPECT_LE(kernel->blocks[0], kMaxBlocksX);
    EXPECT_LE(std::max(kernel->blocks[1], kernel->blocks[2]), kMaxBlocksYZ);
    EXPECT_LE(kernel->shared_bytes, 64 << 10);
    EXPECT_GE(BlocksPerUnit(found->second, kernel->threads, kernel->shared_bytes, target_),
              std::max(1, kernel->spec.blocks_per_unit))
        << found->second.vgprs << " vgprs, " << found->second.agprs << " agprs, " << kernel->threads << " threads, "
        << kernel->shared_bytes << " bytes of shared memory";
    code_bytes += found->second.code_bytes;
    fewest_waves = std::min(fewest_waves, WavesPerSimd(found->second, target_));
    if (found->second.vgprs > most_vgprs) most_vgprs = found->second.vgprs, hungriest = kernel->symbol;
  }
  EXPECT_GE(code.size(), 20u) << "the collection has lost some";
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("| %s | %zu | %lld | %lld (%s) | %lld | %.1f |\n", GetParam(), code.size(),
              static_cast<long long>(code_bytes), static_cast<long long>(most_vgprs), hungriest.c_str(),
              static_cast<long long>(fewest_waves), seconds.count());
}

// What a chip computes large products with, as they are chosen: beginnings of mnemonics, of which the kernel has at
// least one. Products of every pair of types by the emitter that is asked for: codegen/amdgpu_test.cc.
struct Expectation {
  const char *chip, *type;
  std::vector<const char*> any_of;
};

const std::vector<Expectation>& Expectations() {
  static const auto& rows = *new std::vector<Expectation>{
      {"gfx906", "f32", {"v_fma_f32", "v_fmac_f32"}},
      {"gfx906", "f16", {"v_fma_mix_f32", "v_fma_f32", "v_fmac_f32"}},
      {"gfx906", "i8", {"v_dot4_i32_i8"}},
      {"gfx908", "f32", {"v_mfma_f32_16x16x4f32", "v_mfma_f32_32x32x2f32"}},
      {"gfx908", "f16", {"v_mfma_f32_16x16x16f16"}},
      {"gfx908", "i8", {"v_mfma_i32_16x16x16i8"}},
      {"gfx90a", "f32", {"v_mfma_f32_16x16x4f32", "v_mfma_f32_32x32x2f32"}},
      {"gfx90a", "f16", {"v_mfma_f32_16x16x16f16"}},
      {"gfx90a", "i8", {"v_mfma_i32_16x16x16i8"}},
      {"gfx942", "f32", {"v_mfma_f32_16x16x4_f32", "v_mfma_f32_32x32x2_f32"}},
      {"gfx942", "f16", {"v_mfma_f32_16x16x16_f16"}},
      {"gfx942", "i8", {"v_mfma_i32_16x16x32_i8"}},
      {"gfx1100", "f32", {"v_fma_f32", "v_fmac_f32", "v_dual_fmac_f32"}},
      {"gfx1100", "f16", {"v_wmma_f32_16x16x16_f16"}},
      {"gfx1100", "i8", {"v_wmma_i32_16x16x16_iu8"}},
  };
  return rows;
}

TEST_P(CodeObjectsTest, ProductsHaveTheChipsInstructions) {
  int looked_at = 0;
  for (const Expectation& row : Expectations()) {
    if (std::string(GetParam()) != row.chip) continue;
    ++looked_at;
    KernelCollection kernels(target_);
    std::map<std::string, KernelCode> code;
    ASSERT_NO_FATAL_FAILURE(Read(kernels, {std::string("product:") + row.type + ":m=1024:n=1024:k=1024"}, code));
    int count = 0;
    for (const auto& [name, kernel] : code) {
      for (const char* prefix : row.any_of) count += kernel.Count(prefix);
    }
    EXPECT_GT(count, 0) << row.chip << ", " << row.type << ": no kernel has " << row.any_of[0];
  }
  EXPECT_EQ(static_cast<int>(LadderPrecisions().size()), looked_at);
}

INSTANTIATE_TEST_SUITE_P(Chips, CodeObjectsTest, testing::Values("gfx906", "gfx908", "gfx90a", "gfx942", "gfx1100"));

}  // namespace
}  // namespace tessera
