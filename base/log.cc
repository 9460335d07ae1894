#include "base/log.h"

#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

namespace tessera {
namespace {

constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "silent"};

// Never destroyed: destructors of other objects may still log while the process ends.
struct State {
  std::mutex mutex;
  LogSink sink;
};
State& GlobalState() {
  static State* state = new State;
  return *state;
}

void WriteToStderr(LogLevel level, std::string_view message) {
  // One write, so that lines of several processes on one terminal stay whole.
  std::string line = "tessera: ";
  line.append(LogLevelName(level)).append(": ").append(message).append("\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace

namespace internal {

std::atomic<int> log_level{static_cast<int>(LogLevel::kWarning)};

void WriteLog(LogLevel level, std::string_view message) {
  State& state = GlobalState();
  std::lock_guard<std::mutex> lock(state.mutex);
  if (state.sink) {
    state.sink(level, message);
  } else {
    WriteToStderr(level, message);
  }
}

}  // namespace internal

std::string_view LogLevelName(LogLevel level) { return kNames[static_cast<int>(level)]; }

std::optional<LogLevel> ParseLogLevel(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == name) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

void SetLogLevel(LogLevel level) { internal::log_level.store(static_cast<int>(level), std::memory_order_relaxed); }

void SetLogSink(LogSink sink) {
  State& state = GlobalState();
  std::lock_guard<std::mutex> lock(state.mutex);
  state.sink = std::move(sink);
}

}  // namespace tessera
