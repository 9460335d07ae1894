#include "tests/grid/held_processors.h"

#include <gtest/gtest.h>

#include "runtime/thread_pool.h"

namespace tessera {
namespace {

TEST(HeldProcessorsTest, ThreadsOfAPoolStayApartAndTheCallerIsLetGo) {
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  if (CPU_COUNT(&before) < 2) GTEST_SKIP() << "one processor";
  const StatusOr<std::unique_ptr<ThreadPool>> pool = ThreadPool::Create({.num_threads = 2});
  ASSERT_TRUE(pool.ok()) << pool.status();
  cpu_set_t allowed[2];
  int processor[2] = {-1, -1};
  {
    const HeldProcessors held;
    (*pool)->RunRegion([&](int thread, int, SpinBarrier&) {
      sched_getaffinity(0, sizeof(allowed[thread]), &allowed[thread]);
      processor[thread] = sched_getcpu();
    });
  }
  EXPECT_EQ(CPU_COUNT(&allowed[0]), 1);
  EXPECT_EQ(CPU_COUNT(&allowed[1]), 1);
  EXPECT_NE(processor[0], processor[1]);
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

}  // namespace
}  // namespace tessera
