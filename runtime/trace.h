// Trace: what ran when, on which thread, recorded without disturbing what it measures.
//
//   Trace trace({.num_threads = 2, .events_per_thread = 4096});
//   const Trace::Name conv1 = trace.AddName("conv1", "conv2d");    // while preparing
//   {
//     TraceScope scope(&trace, thread, conv1);                     // two clock readings and 24 bytes
//     ...
//   }
//   RETURN_IF_ERROR(trace.WriteChromeTrace("trace.json"));         // opens in https://ui.perfetto.dev,
//   chrome://tracing
//
// Every thread has a ring of events of its own, allocated beforehand; when it is full the oldest events go, and the
// file says how many.  Tested by trace_test.cc, which counts allocations.
#ifndef TESSERA_RUNTIME_TRACE_H_
#define TESSERA_RUNTIME_TRACE_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tessera {

struct TraceOptions {
  int num_threads = 1;
  // Rounded up to a power of two; 24 bytes each.
  int events_per_thread = 1 << 14;
};

// AddName, Clear and everything that reads need the recording threads to be between runs; Record may be called by
// thread i for index i, all threads at once.
class Trace {
 public:
  using Name = int32_t;

  // An interval in nanoseconds of NowNs().
  struct Event {
    int64_t start_ns = 0;
    int64_t end_ns = 0;
    Name name = -1;
    int32_t thread = 0;
  };

  // What all events of one name took.
  struct Total {
    Name name = -1;
    int64_t count = 0;
    int64_t total_ns = 0;
    int64_t min_ns = 0;
    int64_t max_ns = 0;
  };

  explicit Trace(const TraceOptions& options);

  // A label for events, and a category by which viewers colour and filter. Equal labels may be added twice.
  Name AddName(std::string_view name, std::string_view category = "step");
  const std::string& NameText(Name name) const { return names_[static_cast<size_t>(name)].text; }

  // A steady clock; about 25 ns a call.
  static int64_t NowNs() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  // Adds an event to the ring of `thread`, which must be below num_threads. Allocates nothing, locks nothing.
  void Record(int thread, Name name, int64_t start_ns, int64_t end_ns) {
    Ring& ring = rings_[static_cast<size_t>(thread)];
    ring.events[ring.count++ & mask_] = Event{start_ns, end_ns, name, thread};
  }

  // The events that are left, by start.
  std::vector<Event> Events() const;
  // One for each name that has events, in the order in which names were added.
  std::vector<Total> Totals() const;
  // Events that were overwritten because their ring was full.
  int64_t dropped() const;
  // Forgets all events and keeps the names.
  void Clear();

  // The "JSON object" form of the Trace Event Format: complete events ("ph":"X"), times in microseconds from the first
  // event, a named row for each thread.
  std::string ToChromeTrace() const;
  Status WriteChromeTrace(const std::string& path) const;

 private:
  struct Label {
    std::string text;
    std::string category;
  };
  // On its own cache lines: `count` is written with every event.
  struct alignas(128) Ring {
    uint64_t count = 0;
    std::vector<Event> events;
  };

  uint64_t mask_;
  std::vector<Ring> rings_;
  std::vector<Label> names_;
};

// Records from its construction to its destruction; does nothing when `trace` is null.
class TraceScope {
 public:
  TraceScope(Trace* trace, int thread, Trace::Name name)
      : trace_(trace), thread_(thread), name_(name), start_ns_(trace != nullptr ? Trace::NowNs() : 0) {}
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;
  ~TraceScope() {
    if (trace_ != nullptr) trace_->Record(thread_, name_, start_ns_, Trace::NowNs());
  }

 private:
  Trace* const trace_;
  const int thread_;
  const Trace::Name name_;
  const int64_t start_ns_;
};

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TRACE_H_
