#include "runtime/timed_rounds.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

namespace tessera {
namespace {

// A run that writes its name where it was not the last to do so, and takes `ms`.
std::function<Status()> Spin(char name, double ms, std::string& order) {
  return [=, &order] {
    if (order.empty() || order.back() != name) order += name;
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < ms / 1000) continue;
    return OkStatus();
  };
}

TEST(TimeRoundsTest, TakesTurnsFromBothEndsAndTellsTheTimeOfOneRun) {
  std::string order;
  const std::function<Status()> runs[] = {Spin('a', 0.1, order), Spin('b', 0.4, order), Spin('c', 0.1, order)};
  const StatusOr<RoundTimes> times = TimeRounds(runs, 4, 0.001);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(order, "abcbabcba") << "neighbours of two rounds are the same contender";
  ASSERT_EQ(times->size(), 3u);
  for (const std::vector<double>& own : *times) ASSERT_EQ(own.size(), 4u);
  for (double us : (*times)[1]) EXPECT_GE(us, 400);
  EXPECT_GE(MedianOf((*times)[0]), 100);
}

TEST(TimeRoundsTest, OneRunIsEnoughAndNoneIsNothing) {
  int count = 0;
  const std::function<Status()> runs[] = {[&] {
    ++count;
    return OkStatus();
  }};
  EXPECT_TRUE(TimeRounds(runs, 0, 1)->at(0).empty());
  EXPECT_EQ(count, 0);
  EXPECT_EQ(TimeRounds(runs, 2, 0)->at(0).size(), 2u);
  EXPECT_GE(count, 4) << "each time is of one run that counts and of one before it";
}

TEST(TimeRoundsTest, ContendersMayTellTheirTime) {
  int calls = 0;
  const std::function<StatusOr<double>()> clocks[] = {[&] { return StatusOr<double>(++calls); },
                                                      [&] { return StatusOr<double>(10.0 * ++calls); }};
  const StatusOr<RoundTimes> times = TimeRounds(clocks, 2);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(*times, RoundTimes({{1, 4}, {20, 30}}));
}

TEST(TimeRoundsTest, RoundsTakenAgainCountOnce) {
  // Whether any is depends on who else runs; on two threads with one processor most are.
  std::atomic<bool> stop = false;
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  std::thread other([&] {
    while (!stop) continue;
  });
  int count = 0;
  const std::function<Status()> runs[] = {[&] {
    ++count;
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(20)) continue;
    return OkStatus();
  }};
  const StatusOr<RoundTimes> times = TimeRounds(runs, 3, 0, 4);
  stop = true;
  other.join();
  sched_setaffinity(0, sizeof(all), &all);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(times->at(0).size(), 3u);
  EXPECT_GT(count, 6) << "two runs for each round, and some again";
  EXPECT_LE(count, 14);
}

TEST(TimeRoundsTest, AnErrorEndsIt) {
  int count = 0;
  const std::function<Status()> runs[] = {
      [&] { return ++count < 3 ? OkStatus() : Status(Error(ErrorCode::kDeviceFailed, "it broke")); }};
  EXPECT_EQ(TimeRounds(runs, 100, 1).status().code(), ErrorCode::kDeviceFailed);
  EXPECT_EQ(count, 3);
}

TEST(MedianOfTest, IsTheMiddle) {
  EXPECT_EQ(MedianOf({3}), 3);
  EXPECT_EQ(MedianOf({5, 1, 9}), 5);
  EXPECT_EQ(MedianOf({4, 1, 9, 2}), 4);
}

}  // namespace
}  // namespace tessera
