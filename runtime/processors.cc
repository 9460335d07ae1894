#include "runtime/processors.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"

namespace tessera {
namespace {

constexpr uint64_t kMaxControlFileBytes = 1 << 20;

// Small files of the kernel: absent is as good as unreadable.
std::string ReadOrEmpty(const std::string& path) {
  StatusOr<std::string> text = ReadFile(path, kMaxControlFileBytes);
  return text.ok() ? *std::move(text) : std::string();
}

std::optional<int64_t> TakeInteger(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\n')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return value;
}

std::optional<double> Quota(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// A group is bounded by its own quota and those of all groups around it. `read` gives the quota of one folder.
template <typename Read>
void TakeQuotasUpwards(const std::string& root, std::string path, Read read, double* processors) {
  while (true) {
    if (const std::optional<double> quota = read(root + path)) *processors = std::min(*processors, *quota);
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

}  // namespace

std::optional<double> ParseCpuMax(std::string_view text) {
  const std::optional<int64_t> quota = TakeInteger(text);
  return Quota(quota, TakeInteger(text));
}

std::optional<std::string> ParseCgroupPath(std::string_view text, std::string_view controller) {
  while (!text.empty()) {
    const size_t line_end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, line_end);
    text.remove_prefix(std::min(line_end + 1, text.size()));
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = line.substr(second + 1);
    if (controller.empty() && controllers.empty()) return std::string(path);
    while (!controllers.empty()) {
      const size_t comma = std::min(controllers.find(','), controllers.size());
      if (!controller.empty() && controllers.substr(0, comma) == controller) return std::string(path);
      controllers.remove_prefix(std::min(comma + 1, controllers.size()));
    }
  }
  return std::nullopt;
}

double AvailableProcessors() {
  double processors = static_cast<double>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L));
  cpu_set_t bound;
  if (sched_getaffinity(0, sizeof(bound), &bound) == 0) {
    processors = std::min(processors, static_cast<double>(std::max(CPU_COUNT(&bound), 1)));
  }
  const std::string groups = ReadOrEmpty("/proc/self/cgroup");
  // In a container the path may be the one outside, where it does not exist: then only the root's quota is found, which
  // is the container's own.
  if (const std::optional<std::string> path = ParseCgroupPath(groups, "")) {
    TakeQuotasUpwards(
        "/sys/fs/cgroup", *path == "/" ? "" : *path,
        [](const std::string& folder) { return ParseCpuMax(ReadOrEmpty(folder + "/cpu.max")); }, &processors);
  }
  if (const std::optional<std::string> path = ParseCgroupPath(groups, "cpu")) {
    auto read = [](const std::string& folder) {
      std::string quota = ReadOrEmpty(folder + "/cpu.cfs_quota_us"),
                  period = ReadOrEmpty(folder + "/cpu.cfs_period_us");
      std::string_view quota_text = quota, period_text = period;
      return Quota(TakeInteger(quota_text), TakeInteger(period_text));
    };
    TakeQuotasUpwards("/sys/fs/cgroup/cpu", *path == "/" ? "" : *path, read, &processors);
  }
  return std::max(processors, 0.01);
}

int ThreadsToUse(int asked) { return asked > 0 ? asked : std::max(1, static_cast<int>(AvailableProcessors())); }

std::string DescribeProcessor() {
  std::string name = "unknown processor";
  if (StatusOr<std::string> text = ReadFile("/proc/cpuinfo"); text.ok()) {
    constexpr std::string_view kKey = "model name";
    const size_t at = text->find(kKey);
    const size_t colon = at == std::string::npos ? at : text->find(": ", at);
    if (colon != std::string::npos) name = text->substr(colon + 2, text->find('\n', colon) - colon - 2);
  }
  std::ostringstream out;
  out << name << ", " << AvailableProcessors() << " processors";
  return out.str();
}

}  // namespace tessera
