// Log: what the library tells people who did not ask for an error. Silent below warnings unless somebody listens.
//
//   TES_LOG(kInfo, "loaded ", tensors.size(), " tensors from '", path, "'");
//   SetLogLevel(LogLevel::kInfo);                                              // a tool's --verbose
//   SetLogSink([&](LogLevel level, std::string_view message) { ... });         // an application's own log
//
// The pieces are evaluated and joined only when the level is enabled. Errors are returned, not logged: a message here
// is for what went well (info), what the user may want to change (warning) and what we follow while searching (debug).
// Safe from several threads; one message is never mixed with another.  Tested by log_test.cc.
#ifndef TESSERA_BASE_LOG_H_
#define TESSERA_BASE_LOG_H_

#include <atomic>
#include <functional>
#include <optional>
#include <string_view>

#include "base/status.h"

namespace tessera {

// In order of weight. kSilent is only a level to set.
enum class LogLevel : int { kDebug, kInfo, kWarning, kError, kSilent };

// "debug", "info", "warning", "error", "silent".
std::string_view LogLevelName(LogLevel level);
// The level of that name, for flags.
std::optional<LogLevel> ParseLogLevel(std::string_view name);

// Messages below `level` are dropped. The level at the start is kWarning.
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// Receives a message, without a line end. Calls come one at a time and must not log.
using LogSink = std::function<void(LogLevel level, std::string_view message)>;
// Replaces the sink; an empty one restores "tessera: warning: message" on stderr. Returns after a running call has
// ended.
void SetLogSink(LogSink sink);

namespace internal {
extern std::atomic<int> log_level;
void WriteLog(LogLevel level, std::string_view message);
}  // namespace internal

inline bool LogEnabled(LogLevel level) {
  return static_cast<int>(level) >= internal::log_level.load(std::memory_order_relaxed);
}

}  // namespace tessera

#define TES_LOG(level, ...)                                                                              \
  do {                                                                                                   \
    if (::tessera::LogEnabled(::tessera::LogLevel::level)) {                                             \
      ::tessera::internal::WriteLog(::tessera::LogLevel::level, ::tessera::internal::Join(__VA_ARGS__)); \
    }                                                                                                    \
  } while (false)

#endif  // TESSERA_BASE_LOG_H_
