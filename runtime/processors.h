// How many processors this process may really use: the fewest of those that exist, those that it is bound to (taskset,
// cpuset) and those that its control groups pay for (docker --cpus=1.5, a Kubernetes limit).
//
//   const double share = AvailableProcessors();        // 1.5
//
// A thread that spins needs a processor of its own: with fewer processors than threads it keeps the one that it waits
// for from running, and burns the quota of both.  Tested by processors_test.cc.
#ifndef TESSERA_RUNTIME_PROCESSORS_H_
#define TESSERA_RUNTIME_PROCESSORS_H_

#include <optional>
#include <string>
#include <string_view>

namespace tessera {

// At least a small positive number. Reads files of /proc and /sys at every call.
double AvailableProcessors();

// Threads of an inference for which `asked` were asked: 0 is as many as AvailableProcessors(), rounded down, at
// least 1.
int ThreadsToUse(int asked);

// The parts of it that are text, for tests.
// The group's quota from cgroup v2's cpu.max ("150000 100000" is 1.5); nothing for "max 100000" or what does not parse.
// One line for reports: the processor's name as the system gives it, and how many this process may use.
std::string DescribeProcessor();

std::optional<double> ParseCpuMax(std::string_view text);
// The path of this process within a hierarchy from /proc/self/cgroup, whose lines are "number:controllers:path": that
// of the line with `controller` (cgroup v1), or with an empty list (v2) when `controller` is empty.
std::optional<std::string> ParseCgroupPath(std::string_view text, std::string_view controller);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_PROCESSORS_H_
