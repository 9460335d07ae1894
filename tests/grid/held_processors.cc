#include "tests/grid/held_processors.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace tessera {
namespace {

constexpr std::string_view kWorker = "tessera-";

void Hold(pid_t thread, int processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  sched_setaffinity(thread, sizeof(one), &one);
}

}  // namespace

HeldProcessors::HeldProcessors() {
  known_ = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0;
  if (!known_) return;
  std::vector<int> processors;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(processor, &allowed_)) processors.push_back(processor);
  }
  Hold(0, processors[0]);
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::string name;
    std::ifstream file(thread.path() / "comm");
    std::getline(file, name);
    if (!name.starts_with(kWorker)) continue;
    const size_t number = std::strtoul(name.c_str() + kWorker.size(), nullptr, 10);
    if (number >= processors.size()) continue;
    Hold(static_cast<pid_t>(std::atoi(thread.path().filename().c_str())), processors[number]);
  }
}

HeldProcessors::~HeldProcessors() {
  if (known_) sched_setaffinity(0, sizeof(allowed_), &allowed_);
}

}  // namespace tessera
