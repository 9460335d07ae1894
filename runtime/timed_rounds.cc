#include "runtime/timed_rounds.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>

namespace tessera {
namespace {

constexpr double kWarmSeconds = 150e-6;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// How often threads of this process have lost their processor while they had work.
int64_t TimesPushedAside() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

// `aside` grows by what happened during the counted runs; before them a worker that still spins may lose its processor
// to one of ours.
StatusOr<double> MicrosecondsOf(const std::function<Status()>& run, double seconds, int64_t& aside) {
  const Clock::time_point warm = Clock::now();
  do {
    RETURN_IF_ERROR(run());
  } while (SecondsSince(warm) < kWarmSeconds);
  const int64_t before = TimesPushedAside();
  const Clock::time_point start = Clock::now();
  int runs = 0;
  do {
    RETURN_IF_ERROR(run());
    ++runs;
  } while (SecondsSince(start) < seconds);
  const double us = SecondsSince(start) * 1e6 / runs;
  aside += TimesPushedAside() - before;
  return us;
}

// A round during which `aside` grew is taken again, `again` of them at most.
StatusOr<RoundTimes> Rounds(std::span<const std::function<StatusOr<double>()>> contenders, int rounds, int again,
                            const int64_t& aside) {
  RoundTimes times(contenders.size());
  for (int round = 0; round < rounds; ++round) {
    const int64_t before = aside;
    for (size_t k = 0; k < contenders.size(); ++k) {
      const size_t at = round % 2 == 0 ? k : contenders.size() - 1 - k;
      ASSIGN_OR_RETURN(const double us, contenders[at]());
      times[at].push_back(us);
    }
    if (again == 0 || aside == before) continue;
    for (std::vector<double>& own : times) own.pop_back();
    --round;
    --again;
  }
  return times;
}

}  // namespace

StatusOr<RoundTimes> TimeRounds(std::span<const std::function<Status()>> contenders, int rounds, double seconds,
                                int again) {
  int64_t aside = 0;
  std::vector<std::function<StatusOr<double>()>> timed;
  for (const std::function<Status()>& run : contenders) {
    timed.emplace_back([&run, &aside, seconds] { return MicrosecondsOf(run, seconds, aside); });
  }
  return Rounds(timed, rounds, again, aside);
}

StatusOr<RoundTimes> TimeRounds(std::span<const std::function<StatusOr<double>()>> contenders, int rounds) {
  return Rounds(contenders, rounds, 0, 0);
}

double MedianOf(std::vector<double> values) {
  TES_CHECK(!values.empty(), "the median of nothing");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace tessera
