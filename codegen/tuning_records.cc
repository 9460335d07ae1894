#include "codegen/tuning_records.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/file.h"

namespace tessera {
namespace {

constexpr std::string_view kHeader = "# tessera tuning records 1";
// More than any set of networks needs; a file beyond this is not one of ours.
constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

}  // namespace

StatusOr<TuningRecords> TuningRecords::Parse(std::string_view text) {
  TuningRecords records;
  int line_number = 0;
  bool has_header = false;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    ++line_number;
    const auto corrupt = [&](auto... pieces) {
      return Error(ErrorCode::kFileCorrupt, "tuning records, line ", line_number, ": ", pieces...);
    };
    if (line == kHeader) {
      has_header = true;
      continue;
    }
    if (!has_header) return corrupt("expected '", kHeader, "'");
    if (line.empty() || line[0] == '#') continue;
    std::array<std::string_view, 4> fields;
    for (size_t f = 0; f < fields.size(); ++f) {
      const size_t tab = f + 1 < fields.size() ? line.find('\t') : std::string_view::npos;
      if (f + 1 < fields.size() && tab == std::string_view::npos) {
        return corrupt("expected key, way, microseconds and words, separated by tabs");
      }
      fields[f] = line.substr(0, tab);
      line.remove_prefix(std::min(line.size(), tab == std::string_view::npos ? tab : tab + 1));
    }
    double us = 0;
    const auto [stop, error] = std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), us);
    if (error != std::errc() || stop != fields[2].data() + fields[2].size() || !std::isfinite(us) || us < 0) {
      return corrupt("expected a time in microseconds, found '", fields[2].substr(0, 40), "'");
    }
    if (fields[0].empty() || fields[1].empty()) return corrupt("expected a key and a way");
    records.Set(std::string(fields[0]), std::string(fields[1]), us, fields[3]);
  }
  return records;
}

StatusOr<TuningRecords> TuningRecords::ReadIfPresent(const std::string& path) {
  const StatusOr<std::string> text = ReadFile(path, kMaxBytes);
  if (text.status().code() == ErrorCode::kFileNotFound) return TuningRecords();
  RETURN_IF_ERROR(text.status());
  StatusOr<TuningRecords> records = Parse(*text);
  if (!records.ok()) return records.status().WithContext(path);
  return records;
}

const std::map<std::string, double>* TuningRecords::Find(const std::string& key) const {
  const auto at = entries_.find(key);
  return at == entries_.end() ? nullptr : &at->second.times;
}

void TuningRecords::Set(const std::string& key, const std::string& way, double us, std::string_view what) {
  Entry& entry = entries_[key];
  entry.times[way] = us;
  entry.what = what;
  for (char& c : entry.what) {
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  }
}

void TuningRecords::Merge(const TuningRecords& other) {
  for (const auto& [key, entry] : other.entries_) {
    for (const auto& [way, us] : entry.times) Set(key, way, us, entry.what);
  }
}

size_t TuningRecords::size() const {
  size_t count = 0;
  for (const auto& [key, entry] : entries_) count += entry.times.size();
  return count;
}

std::string TuningRecords::ToString() const {
  std::string text(kHeader);
  text += '\n';
  for (const auto& [key, entry] : entries_) {
    for (const auto& [way, us] : entry.times) {
      char time[32];
      std::snprintf(time, sizeof(time), "%.3f", us);
      text += internal::Join(key, "\t", way, "\t", time, "\t", entry.what, "\n");
    }
  }
  return text;
}

}  // namespace tessera
