// TimeRounds: contenders timed in turn, the one way to compare how quick things are on a machine that others use too.
//
//   const std::function<Status()> ways[] = {[&] { return dense.Run(x); }, [&] { return sparse.Run(x); }};
//   ASSIGN_OR_RETURN(const RoundTimes times, TimeRounds(ways, 15, 0.002));
//   MedianOf(times[1]) / MedianOf(times[0])                  // or ratios of one round: times[1][r] / times[0][r]
//
// In each round every contender is timed once, in every other round from the last to the first: a phase in which the
// machine is slow meets all of them, and none always follows the same one. A time is the mean of as many runs as fit,
// after some that are not counted, in which workers of the contender before fall asleep and caches fill with this one's
// weights. A round in which the system gave one of our processors to somebody else can be taken again. Tested by
// timed_rounds_test.cc.
#ifndef TESSERA_RUNTIME_TIMED_ROUNDS_H_
#define TESSERA_RUNTIME_TIMED_ROUNDS_H_

#include <functional>
#include <span>
#include <vector>

#include "base/status.h"

namespace tessera {

// Microseconds of a run, by contender and round.
using RoundTimes = std::vector<std::vector<double>>;

// `seconds`: of the counted runs of one contender in one round, one run at least. `again`: rounds at most that are
// taken again because a thread of this process was pushed aside meanwhile. The first error ends it.
StatusOr<RoundTimes> TimeRounds(std::span<const std::function<Status()>> contenders, int rounds, double seconds,
                                int again = 0);

// The same turns for contenders that tell their time themselves, in microseconds: by a device's clock.
StatusOr<RoundTimes> TimeRounds(std::span<const std::function<StatusOr<double>()>> contenders, int rounds);

// The upper one of two in the middle. Not of none.
double MedianOf(std::vector<double> values);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TIMED_ROUNDS_H_
