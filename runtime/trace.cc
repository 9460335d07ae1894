#include "runtime/trace.h"

#include <algorithm>
#include <bit>

#include "base/file.h"
#include "base/json.h"

namespace tessera {

Trace::Trace(const TraceOptions& options) {
  TES_CHECK(options.num_threads > 0 && options.events_per_thread > 0, "a trace for ", options.num_threads,
            " threads and ", options.events_per_thread, " events");
  const uint64_t capacity = std::bit_ceil(static_cast<uint64_t>(options.events_per_thread));
  mask_ = capacity - 1;
  rings_.resize(static_cast<size_t>(options.num_threads));
  // Also touches the pages, which the first run would otherwise pay for.
  for (Ring& ring : rings_) ring.events.resize(capacity);
}

Trace::Name Trace::AddName(std::string_view name, std::string_view category) {
  names_.push_back(Label{std::string(name), std::string(category)});
  return static_cast<Name>(names_.size() - 1);
}

std::vector<Trace::Event> Trace::Events() const {
  std::vector<Event> events;
  for (const Ring& ring : rings_) {
    const size_t kept = std::min<uint64_t>(ring.count, ring.events.size());
    events.insert(events.end(), ring.events.begin(), ring.events.begin() + static_cast<int64_t>(kept));
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    if (a.start_ns != b.start_ns) return a.start_ns < b.start_ns;
    // What encloses another comes first; viewers nest by order.
    return a.end_ns != b.end_ns ? a.end_ns > b.end_ns : a.thread < b.thread;
  });
  return events;
}

std::vector<Trace::Total> Trace::Totals() const {
  std::vector<Total> by_name(names_.size());
  for (const Event& event : Events()) {
    Total& total = by_name[static_cast<size_t>(event.name)];
    const int64_t elapsed = event.end_ns - event.start_ns;
    total.min_ns = total.count == 0 ? elapsed : std::min(total.min_ns, elapsed);
    total.max_ns = std::max(total.max_ns, elapsed);
    total.total_ns += elapsed;
    ++total.count;
    total.name = event.name;
  }
  std::erase_if(by_name, [](const Total& total) { return total.count == 0; });
  return by_name;
}

int64_t Trace::dropped() const {
  uint64_t dropped = 0;
  for (const Ring& ring : rings_) dropped += ring.count - std::min<uint64_t>(ring.count, ring.events.size());
  return static_cast<int64_t>(dropped);
}

void Trace::Clear() {
  for (Ring& ring : rings_) ring.count = 0;
}

std::string Trace::ToChromeTrace() const {
  const std::vector<Event> events = Events();
  const int64_t origin = events.empty() ? 0 : events.front().start_ns;
  JsonWriter json;
  json.BeginObject().Key("displayTimeUnit").String("ns");
  json.Key("otherData").BeginObject().Key("dropped_events").Number(dropped()).EndObject();
  json.Key("traceEvents").BeginArray();
  json.BeginObject().Key("ph").String("M").Key("pid").Number(1).Key("name").String("process_name");
  json.Key("args").BeginObject().Key("name").String("tessera").EndObject().EndObject();
  for (size_t thread = 0; thread < rings_.size(); ++thread) {
    json.BeginObject().Key("ph").String("M").Key("pid").Number(1).Key("tid").Number(thread);
    json.Key("name").String("thread_name").Key("args").BeginObject().Key("name");
    json.String("thread " + std::to_string(thread)).EndObject().EndObject();
  }
  for (const Event& event : events) {
    const Label& label = names_[static_cast<size_t>(event.name)];
    json.BeginObject().Key("ph").String("X").Key("pid").Number(1).Key("tid").Number(event.thread);
    json.Key("name").String(label.text).Key("cat").String(label.category);
    json.Key("ts").Number(static_cast<double>(event.start_ns - origin) / 1000.0);
    json.Key("dur").Number(static_cast<double>(event.end_ns - event.start_ns) / 1000.0).EndObject();
  }
  json.EndArray().EndObject();
  return json.TakeText();
}

Status Trace::WriteChromeTrace(const std::string& path) const { return WriteFileAtomically(path, ToChromeTrace()); }

}  // namespace tessera
