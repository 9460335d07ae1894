#include "runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <new>
#include <thread>
#include <vector>

#include "runtime/processors.h"
#include "runtime/testing/allocation_counter.h"

namespace tessera {
namespace {

std::unique_ptr<ThreadPool> MakePool(int threads, int spin_us = 100) {
  StatusOr<std::unique_ptr<ThreadPool>> pool = ThreadPool::Create({.num_threads = threads, .spin_us = spin_us});
  if (!pool.ok()) {
    ADD_FAILURE() << pool.status();
    std::abort();
  }
  return *std::move(pool);
}

TEST(ThreadPoolTest, EveryThreadRunsOnceAndTheCallerIsTheFirst) {
  for (int threads : {1, 2, 3, 8}) {
    auto pool = MakePool(threads);
    EXPECT_EQ(pool->num_threads(), threads);
    const std::thread::id caller = std::this_thread::get_id();
    std::vector<int> calls(threads, 0);
    for (int region = 1; region <= 50; ++region) {
      pool->RunRegion([&](int thread, int count, SpinBarrier& barrier) {
        ++calls[thread];
        EXPECT_EQ(count, threads);
        EXPECT_EQ(barrier.num_threads(), threads);
        EXPECT_EQ(thread == 0, std::this_thread::get_id() == caller);
      });
      EXPECT_EQ(calls, std::vector<int>(threads, region));
    }
  }
}

TEST(ThreadPoolTest, WritesBeforeTheBarrierAreSeenAfterIt) {
  for (int threads : {2, 3, 5}) {
    auto pool = MakePool(threads);
    constexpr int kRounds = 2000;
    // Plain memory: a missing order is a race that ThreadSanitizer reports.
    std::vector<int64_t> shares(threads * 16, 0);
    int64_t total = 0;
    pool->RunRegion([&](int thread, int count, SpinBarrier& barrier) {
      for (int round = 0; round < kRounds; ++round) {
        shares[thread * 16] = total + thread;
        barrier.Wait();
        if (thread == round % count) {
          int64_t sum = 0;
          for (int i = 0; i < count; ++i) sum += shares[i * 16];
          total = sum % 1000003;
        }
        barrier.Wait();
      }
    });
    int64_t expected = 0;
    for (int round = 0; round < kRounds; ++round)
      expected = (expected * threads + threads * (threads - 1) / 2) % 1000003;
    EXPECT_EQ(total, expected);
  }
}

TEST(ThreadPoolTest, UnevenWorkAndSleepBetweenRegions) {
  auto pool = MakePool(3, /*spin_us=*/50);
  std::atomic<int> sum{0};
  for (int region = 0; region < 200; ++region) {
    // Now and then long enough that the workers sleep, or the caller waits, or the barrier yields.
    if (region % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50 * (region % 40)));
    pool->RunRegion([&](int thread, int, SpinBarrier& barrier) {
      if (region % 20 == thread) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      sum.fetch_add(1, std::memory_order_relaxed);
      barrier.Wait();
      if (region % 30 == thread) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    ASSERT_EQ(sum.load(), 3 * (region + 1));
  }
}

TEST(ThreadPoolTest, SteadyStateAllocatesNothing) {
  const int64_t start = AllocationCount();
  ::operator delete(::operator new(1));  // unlike a new expression, never optimised away
  ASSERT_GT(AllocationCount(), start) << "the counter does not count";
  for (int spin_us : {0, 100}) {
    auto pool = MakePool(2, spin_us);
    int64_t work[64] = {};
    auto region = [&](int thread, int, SpinBarrier& barrier) {
      for (int i = 0; i < 3; ++i) {
        ++work[thread * 32];
        barrier.Wait();
      }
    };
    pool->RunRegion(region);
    const int64_t before = AllocationCount();
    for (int i = 0; i < 500; ++i) {
      pool->RunRegion(region);
      if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(AllocationCount() - before, 0) << "spin_us " << spin_us;
    EXPECT_EQ(work[0], 501 * 3);
    EXPECT_EQ(work[32], 501 * 3);
  }
}

TEST(ThreadPoolTest, RegionsOfSeveralCallersRunOneAfterTheOther) {
  auto pool = MakePool(2);
  int64_t counter = 0;  // plain: two regions at once would race
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        pool->RunRegion([&](int thread, int, SpinBarrier& barrier) {
          if (thread == 1) ++counter;
          barrier.Wait();
          if (thread == 0) ++counter;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(counter, 4 * 200 * 2);
}

TEST(ThreadPoolTest, MoreThreadsThanProcessorsStillFinishSoon) {
  const int threads = 4 * static_cast<int>(AvailableProcessors() + 1);
  auto pool = MakePool(threads);
  EXPECT_TRUE(pool->oversubscribed());
  std::atomic<int64_t> sum{0};
  const auto begin = std::chrono::steady_clock::now();
  for (int region = 0; region < 20; ++region) {
    pool->RunRegion([&](int, int, SpinBarrier& barrier) {
      for (int i = 0; i < 20; ++i) {
        sum.fetch_add(1, std::memory_order_relaxed);
        barrier.Wait();
      }
    });
  }
  EXPECT_EQ(sum.load(), int64_t{20} * 20 * threads);
  // A spin that does not yield needs a whole time slice (milliseconds) for every thread at each of 400 barriers.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

// Two threads on one processor, as they come to be beside another program: each waits for one that is not running.
TEST(SpinBarrierTest, ThreadsThatShareAProcessorMeetSoon) {
  constexpr int kWaits = 2000;
  constexpr int64_t kYieldAfterNs = 200'000;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  SpinBarrier barrier(2, kYieldAfterNs);
  const auto meet = [&] {
    EXPECT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    for (int k = 0; k < kWaits; ++k) barrier.Wait();
  };
  const std::clock_t start = std::clock();
  std::thread first(meet), second(meet);
  first.join();
  second.join();
  // Of the process, whatever else the processor does; spinning each time would be twice as much.
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, kWaits * kYieldAfterNs * 1e-9 / 2);
}

TEST(ThreadPoolTest, PoolsComeAndGo) {
  for (int i = 0; i < 100; ++i) {
    auto pool = MakePool(1 + i % 4, i % 3 == 0 ? 0 : 20);
    if (i % 5 == 0) continue;  // destroyed before its first region, perhaps before its workers begin
    std::atomic<int> calls{0};
    pool->RunRegion([&](int, int, SpinBarrier&) { calls.fetch_add(1); });
    EXPECT_EQ(calls.load(), pool->num_threads());
  }
}

TEST(ThreadPoolTest, TwoPoolsAtOnce) {
  auto first = MakePool(2), second = MakePool(2);
  std::atomic<int> calls{0};
  auto run = [&](ThreadPool* pool) {
    for (int i = 0; i < 300; ++i) {
      pool->RunRegion([&](int, int, SpinBarrier& barrier) {
        calls.fetch_add(1);
        barrier.Wait();
      });
    }
  };
  std::thread other(run, second.get());
  run(first.get());
  other.join();
  EXPECT_EQ(calls.load(), 2 * 2 * 300);
}

TEST(ThreadPoolTest, WorkersSleepWhenThereIsNothingToDo) {
  auto pool = MakePool(2, /*spin_us=*/100);
  pool->RunRegion([](int, int, SpinBarrier&) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::clock_t before = std::clock();  // processor time of all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.05);
}

TEST(ThreadPoolTest, TheDefaultIsOneThreadPerProcessor) {
  auto pool = MakePool(0);
  EXPECT_EQ(pool->num_threads(), std::max(1, static_cast<int>(AvailableProcessors())));
  EXPECT_EQ(pool->oversubscribed(), AvailableProcessors() < 1);
}

TEST(ThreadPoolTest, ImpossibleNumbersOfThreadsAreErrors) {
  for (int threads : {-1, 1025, 1 << 30}) {
    const Status status = ThreadPool::Create({.num_threads = threads}).status();
    EXPECT_EQ(status.code(), ErrorCode::kUsageInvalid) << status;
    EXPECT_NE(status.message().find(std::to_string(threads)), std::string::npos) << status;
  }
}

TEST(ThreadPoolDeathTest, RegionsDoNotNest) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        auto pool = MakePool(1);
        pool->RunRegion([&](int, int, SpinBarrier&) { pool->RunRegion([](int, int, SpinBarrier&) {}); });
      },
      "inside a parallel region");
}

}  // namespace
}  // namespace tessera
