#include "runtime/processors.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace tessera {
namespace {

TEST(ProcessorsTest, QuotasOfVersionTwo) {
  EXPECT_EQ(ParseCpuMax("150000 100000\n"), 1.5);
  EXPECT_EQ(ParseCpuMax("50000 100000"), 0.5);
  for (const char* none : {"max 100000\n", "", "100000", "x", "-1 100000", "1 0", "99999999999999999999 1"}) {
    EXPECT_EQ(ParseCpuMax(none), std::nullopt) << none;
  }
}

TEST(ProcessorsTest, PathsOfBothVersions) {
  const char* mixed = "12:pids:/a\n3:cpu,cpuacct:/docker/12\n1:cpuset:/c:d\n0::/user.slice/x\n";
  EXPECT_EQ(ParseCgroupPath(mixed, ""), "/user.slice/x");
  EXPECT_EQ(ParseCgroupPath(mixed, "cpu"), "/docker/12");
  EXPECT_EQ(ParseCgroupPath(mixed, "cpuacct"), "/docker/12");
  EXPECT_EQ(ParseCgroupPath(mixed, "cpuset"), "/c:d");
  EXPECT_EQ(ParseCgroupPath(mixed, "memory"), std::nullopt);
  EXPECT_EQ(ParseCgroupPath("1:cpuset:/", "cpu"), std::nullopt);
  EXPECT_EQ(ParseCgroupPath("", ""), std::nullopt);
  EXPECT_EQ(ParseCgroupPath("nonsense\n:\n\n0::/", ""), "/");
}

TEST(ProcessorsTest, BindingToOneProcessorCounts) {
  const double before = AvailableProcessors();
  EXPECT_GT(before, 0.0);
  cpu_set_t original;
  ASSERT_EQ(sched_getaffinity(0, sizeof(original), &original), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (!CPU_ISSET(i, &original)) continue;
    CPU_SET(i, &one);
    break;
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_LE(AvailableProcessors(), 1.0);
  ASSERT_EQ(sched_setaffinity(0, sizeof(original), &original), 0);
  EXPECT_EQ(AvailableProcessors(), before);
}

}  // namespace
}  // namespace tessera
