#include "runtime/timed_rounds.h"

#include <algorithm>
#include <chrono>

namespace tessera {
namespace {

constexpr double kWarmSeconds = 150e-6;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

StatusOr<double> MicrosecondsOf(const std::function<Status()>& run, double seconds) {
  const Clock::time_point warm = Clock::now();
  do {
    RETURN_IF_ERROR(run());
  } while (SecondsSince(warm) < kWarmSeconds);
  const Clock::time_point start = Clock::now();
  int runs = 0;
  do {
    RETURN_IF_ERROR(run());
    ++runs;
  } while (SecondsSince(start) < seconds);
  return SecondsSince(start) * 1e6 / runs;
}

}  // namespace

StatusOr<RoundTimes> TimeRounds(std::span<const std::function<Status()>> contenders, int rounds, double seconds) {
  std::vector<std::function<StatusOr<double>()>> timed;
  for (const std::function<Status()>& run : contenders) {
    timed.emplace_back([&run, seconds] { return MicrosecondsOf(run, seconds); });
  }
  return TimeRounds(timed, rounds);
}

StatusOr<RoundTimes> TimeRounds(std::span<const std::function<StatusOr<double>()>> contenders, int rounds) {
  RoundTimes times(contenders.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t k = 0; k < contenders.size(); ++k) {
      const size_t at = round % 2 == 0 ? k : contenders.size() - 1 - k;
      ASSIGN_OR_RETURN(const double us, contenders[at]());
      times[at].push_back(us);
    }
  }
  return times;
}

double MedianOf(std::vector<double> values) {
  TES_CHECK(!values.empty(), "the median of nothing");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace tessera
