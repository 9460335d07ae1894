#include "engine/choose_program.h"

#include "gtest/gtest.h"

namespace tessera {
namespace {

const std::vector<std::string> kTargets = {"host:x86-64",     "host:x86-64-v4", "host:x86-64-v3", "cuda:sm_80",
                                           "cuda:sm_90a",     "cuda:sm_75",     "hip:gfx942",     "simt:amdgpu:gfx90a",
                                           "cuda:sm_80+tf32", "hip:gfx1100",    "cuda:sm_90"};

std::vector<std::string> Ranked(const std::string& machine, const std::vector<std::string>& targets = kTargets) {
  const StatusOr<Target> target = MakeTarget(machine);
  TES_CHECK(target.ok(), target.status());
  std::vector<std::string> names;
  for (size_t k : RankPrograms(targets, *target)) names.push_back(targets[k]);
  return names;
}

using Names = std::vector<std::string>;

TEST(ChooseProgramTest, AProcessorTakesTheHighestLevelThatItHas) {
  EXPECT_EQ((Names{"host:x86-64-v4", "host:x86-64-v3", "host:x86-64"}), Ranked("host:x86-64-v4"));
  EXPECT_EQ((Names{"host:x86-64-v3", "host:x86-64"}), Ranked("host:x86-64-v3"));
  EXPECT_EQ((Names{"host:x86-64", "host"}), Ranked("host", {"host", "host:x86-64"}));
}

TEST(ChooseProgramTest, ANvidiaCardTakesItsChipAndThenOlderOnes) {
  EXPECT_EQ((Names{"cuda:sm_90a", "cuda:sm_90", "cuda:sm_80", "cuda:sm_75"}), Ranked("cuda:sm_90a"));
  EXPECT_EQ((Names{"cuda:sm_80", "cuda:sm_75"}), Ranked("cuda:sm_80"));
  EXPECT_EQ((Names{"cuda:sm_80", "cuda:sm_75"}), Ranked("cuda:sm_89"));
  EXPECT_EQ((Names{"cuda:sm_80+tf32", "cuda:sm_80", "cuda:sm_75"}), Ranked("cuda:sm_80+tf32"));
}

TEST(ChooseProgramTest, AnAmdCardTakesItsChipOnly) {
  EXPECT_EQ((Names{"hip:gfx942"}), Ranked("hip:gfx942"));
  EXPECT_EQ((Names{}), Ranked("hip:gfx906"));
}

TEST(ChooseProgramTest, EmulatedChipsTakeTheirOwn) {
  EXPECT_EQ((Names{"simt:amdgpu:gfx90a"}), Ranked("simt:amdgpu:gfx90a"));
  EXPECT_EQ((Names{"simt:amdgpu:gfx90a"}), Ranked("simt:amdgpu:gfx90a:reverse"));
  EXPECT_EQ((Names{}), Ranked("simt:nvptx:sm_80"));
}

TEST(ChooseProgramTest, FeaturesAreSets) {
  EXPECT_TRUE(HasFeatures("+avx2,+fma,+f16c", "+fma"));
  EXPECT_TRUE(HasFeatures("+avx2", ""));
  EXPECT_TRUE(HasFeatures("+avx2", "-avx512f,+avx2"));
  EXPECT_FALSE(HasFeatures("+avx2", "+avx512f"));
}

}  // namespace
}  // namespace tessera
