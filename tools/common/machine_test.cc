#include "tools/common/machine.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace tessera {
namespace {

TEST(MachineTest, DescribesThisMachine) {
  const HostMachine machine = DescribeMachine();
  EXPECT_FALSE(machine.cpu.empty());
  EXPECT_GT(machine.processors, 0);
  EXPECT_FALSE(machine.isa.empty());
  EXPECT_GT(machine.clock_ghz, 0.1);  // a busy or emulated machine may be slow
  EXPECT_LT(machine.clock_ghz, 12);
  EXPECT_EQ(machine.os.compare(0, 5, "Linux"), 0) << machine.os;
}

TEST(MachineTest, PeaksAreOfThisWorld) {
  const HostMachine machine = DescribeMachine();
  const Peaks peaks = MeasurePeaks(1, 1 << 20);
  EXPECT_GT(peaks.flops, 1e8);
  EXPECT_GT(peaks.bytes, 1e8);
  // Two units of 16 lanes, two flops each, at the fastest clock there is.
  EXPECT_LT(peaks.flops, 64.0 * 8e9);
  EXPECT_LT(peaks.bytes, 1e13);
}

TEST(MachineTest, CommitFromLooseAndPackedReferencesAndWorkTrees) {
  const std::string root = testing::TempDir() + "/machine_test";
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root + "/.git/refs/heads");
  std::filesystem::create_directories(root + "/.git/worktrees/w");
  std::filesystem::create_directories(root + "/a/b");
  std::filesystem::create_directories(root + "/w");
  const std::string one(40, '1'), two(40, '2');
  ASSERT_TRUE(WriteFileAtomically(root + "/.git/HEAD", "ref: refs/heads/main\n").ok());
  ASSERT_TRUE(WriteFileAtomically(root + "/.git/refs/heads/main", one + "\n").ok());
  ASSERT_TRUE(WriteFileAtomically(root + "/.git/packed-refs", "# pack-refs\n" + two + " refs/heads/other\n").ok());
  EXPECT_EQ(CommitOf(root + "/a/b"), one);
  ASSERT_TRUE(WriteFileAtomically(root + "/w/.git", "gitdir: " + root + "/.git/worktrees/w\n").ok());
  ASSERT_TRUE(WriteFileAtomically(root + "/.git/worktrees/w/HEAD", "ref: refs/heads/other\n").ok());
  ASSERT_TRUE(WriteFileAtomically(root + "/.git/worktrees/w/commondir", "../..\n").ok());
  EXPECT_EQ(CommitOf(root + "/w"), two);
  ASSERT_TRUE(WriteFileAtomically(root + "/.git/HEAD", two + "\n").ok());
  EXPECT_EQ(CommitOf(root), two);
}

}  // namespace
}  // namespace tessera
