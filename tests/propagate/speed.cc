#include "tests/propagate/speed.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "models/catalog/catalog.h"
#include "models/prune/prune.h"
#include "propagate/propagate.h"

namespace tessera {
namespace {

// The most memory since ResetPeak.
int64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace

double ProcessorSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

StatusOr<SpeedFigures> MeasurePropagation(const SpeedCase& c) {
  ASSIGN_OR_RETURN(Graph graph, BuildCatalogModel(c.network, {}));
  ASSIGN_OR_RETURN(const PruneSpec spec, ParsePruneSpec(c.prune));
  Prune(graph, spec, 1);
  SpeedFigures figures;
  figures.nodes = static_cast<int64_t>(graph.nodes.size());
  for (const Value& value : graph.values) {
    if (value.kind != ValueKind::kConstant) continue;
    figures.weight_bytes += value.constant.byte_size();
    figures.kept_before += value.tesa ? value.tesa->num_kept() : value.constant.num_elements();
  }
  const std::string cache = std::filesystem::temp_directory_path() / ("rules" + std::to_string(getpid()) + ".txt");
  ResetPeak();
  {
    const double start = ProcessorSeconds();
    RuleBook book(c.rules);
    for (const Node& node : graph.nodes) RETURN_IF_ERROR(book.For(graph, node).status());
    figures.seconds_rules = ProcessorSeconds() - start;
    ASSIGN_OR_RETURN(const Facts facts, Propagate(graph, book, {.on_collapse = OnCollapse::kKeep}));
    figures.seconds_first = ProcessorSeconds() - start;
    figures.peak_bytes = PeakBytes();
    figures.fact_bytes = facts.byte_size();
    figures.rules = static_cast<int64_t>(book.Entries().size());
    RETURN_IF_ERROR(book.Save(cache));
    for (size_t v = 0; v < graph.values.size(); ++v) {
      if (graph.values[v].kind != ValueKind::kConstant) continue;
      figures.kept_after += PrunedAttribute(graph, facts, static_cast<ValueId>(v)).num_kept();
    }
  }
  const double start = ProcessorSeconds();
  RuleBook book(c.rules);
  RETURN_IF_ERROR(book.Load(cache));
  ASSIGN_OR_RETURN(const Facts facts, Propagate(graph, book, {.on_collapse = OnCollapse::kKeep}));
  figures.seconds_cached = ProcessorSeconds() - start;
  std::filesystem::remove(cache);
  return figures;
}

std::string SpeedFigures::ToString() const {
  char line[256];
  std::snprintf(line, sizeof(line),
                "first %6.3f s (rules %6.3f s)  cached %6.3f s  peak %4.2f x weights of %5.1f MB  facts %5.1f MB  "
                "kept %.4f -> %.4f  nodes %lld, rules %lld",
                seconds_first, seconds_rules, seconds_cached,
                static_cast<double>(peak_bytes) / static_cast<double>(weight_bytes),
                1e-6 * static_cast<double>(weight_bytes), 1e-6 * static_cast<double>(fact_bytes),
                static_cast<double>(kept_before) * 4 / static_cast<double>(weight_bytes),
                static_cast<double>(kept_after) * 4 / static_cast<double>(weight_bytes), static_cast<long long>(nodes),
                static_cast<long long>(rules));
  return line;
}

}  // namespace tessera
