// The figures of propagation (SparTA, OSDI 2022, figure 13: MobileNet-V1; technical report, figure 16: the MLP): the
// share of weights that is pruned after propagation, over random masks, beside the closed form and what was published.
// Networks, masks and published values are those of //propagate:oracles_test, which also holds every single seed
// against an independent count.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "propagate/testing/oracles.h"
#include "tools/common/tool.h"
#include "tools/evaluate_figures.h"

namespace tessera {
namespace {

struct Level {
  bool is_mlp;
  OraclePattern pattern;
  double sparsity;
  std::vector<double> published;  // by row
};

struct Spread {
  double sum = 0, squares = 0;
  int64_t count = 0;
  void Add(double x) {
    sum += x;
    squares += x * x;
    ++count;
  }
  double mean() const { return sum / static_cast<double>(count); }
  double deviation() const { return std::sqrt(std::max(0.0, squares / static_cast<double>(count) - mean() * mean())); }
};

struct LevelResult {
  std::vector<Spread> all, survived;  // by row: over all seeds, over those that did not collapse
  std::vector<double> closed;         // empty: no formula
  int64_t collapsed = 0;
};

const char* NameOf(OraclePattern pattern) {
  return pattern == OraclePattern::kFine ? "fine" : pattern == OraclePattern::kBlock ? "block 64x64" : "coarse";
}

StatusOr<LevelResult> RunLevel(const Level& level, int64_t seeds) {
  OracleNetwork net = level.is_mlp ? OracleMlp() : OracleMobileNet();
  const std::vector<int> row_of = level.is_mlp ? std::vector<int>{0, 1, 2, 3} : MobileNetRows(net);
  const size_t rows = static_cast<size_t>(*std::max_element(row_of.begin(), row_of.end())) + 1;
  LevelResult result;
  result.all.resize(rows);
  result.survived.resize(rows);
  result.closed = level.is_mlp ? ClosedFormMlp(level.pattern, level.sparsity)
                               : ClosedFormMobileNet(net, level.pattern, level.sparsity);
  RuleBook book(RuleMode::kExact);
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    Random random(static_cast<uint64_t>(seed) * 1000003 + static_cast<uint64_t>(level.sparsity * 1000));
    SetMasks(net, DrawMasks(random, net, level.pattern, level.sparsity));
    ASSIGN_OR_RETURN(const Facts facts, Propagate(net.graph, book, {.on_collapse = OnCollapse::kKeep}));
    const bool collapsed = !facts.collapsed.empty();
    result.collapsed += collapsed ? 1 : 0;
    const std::vector<int64_t> pruned = PrunedCounts(net, facts);
    std::vector<double> share(rows, 0), members(rows, 0);
    for (size_t l = 0; l < net.layers.size(); ++l) {
      if (row_of[l] < 0) continue;
      share[row_of[l]] += static_cast<double>(pruned[l]) / static_cast<double>(net.layers[l].num_weights());
      ++members[row_of[l]];
    }
    for (size_t r = 0; r < rows; ++r) {
      result.all[r].Add(share[r] / members[r]);
      if (!collapsed) result.survived[r].Add(share[r] / members[r]);
    }
  }
  return result;
}

std::vector<Level> AllLevels() {
  std::vector<Level> levels;
  for (const bool is_mlp : {true, false}) {
    for (OraclePattern pattern : {OraclePattern::kFine, OraclePattern::kBlock, OraclePattern::kCoarse}) {
      for (const auto& [sparsity, values] : is_mlp ? PublishedMlp(pattern) : PublishedMobileNet(pattern)) {
        levels.push_back({is_mlp, pattern, sparsity, values});
      }
    }
  }
  return levels;
}

// Shares over what was dropped: a line of means with three standard deviations for each row, circles as published.
Status Draw(const EvaluateOptions& options, bool is_mlp, OraclePattern pattern, const std::vector<Level>& levels,
            const std::vector<StatusOr<LevelResult>>& results) {
  const std::string network = is_mlp ? "mlp" : "mobilenet_v1";
  Plot plot{.title = network + ", " + NameOf(pattern),
            .x_label = "dropped, %",
            .y_label = "pruned after propagation",
            .series = {}};
  for (size_t k = 0; k < levels.size(); ++k) {
    if (levels[k].is_mlp != is_mlp || levels[k].pattern != pattern) continue;
    for (size_t r = 0; r < levels[k].published.size(); ++r) {
      const char* rows[] = {"depthwise", "pointwise", "classifier"};
      const std::string row = is_mlp ? "L" + std::to_string(r + 1) : rows[r];
      while (plot.series.size() < 2 * (r + 1)) {
        plot.series.push_back({.name = row, .x = {}, .y = {}, .spread = {}});
        plot.series.push_back({.name = row + ", published", .x = {}, .y = {}, .spread = {}, .marks_only = true});
      }
      PlotSeries& ours = plot.series[2 * r];
      PlotSeries& theirs = plot.series[2 * r + 1];
      ours.x.push_back(100 * levels[k].sparsity);
      ours.y.push_back(results[k]->all[r].mean());
      ours.spread.push_back(3 * results[k]->all[r].deviation());
      theirs.x.push_back(100 * levels[k].sparsity);
      theirs.y.push_back(levels[k].published[r]);
    }
  }
  if (plot.series.empty()) return OkStatus();
  const char* short_name = pattern == OraclePattern::kFine    ? "fine"
                           : pattern == OraclePattern::kBlock ? "block"
                                                              : "coarse";
  return WritePlot(options, network + "_" + short_name, plot);
}

Cell Rounded(double x) { return std::round(x * 1e4) / 1e4; }

}  // namespace

Status EvaluatePropagation(const EvaluateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Level> levels = AllLevels();
  std::vector<StatusOr<LevelResult>> results(levels.size(), LevelResult());
  // Levels are independent. The long ones, MobileNet's, stand last in the list and are begun first.
  std::atomic<size_t> left = levels.size();
  std::mutex mutex;
  const auto work = [&] {
    for (size_t at = left.fetch_sub(1); at > 0 && at <= levels.size(); at = left.fetch_sub(1)) {
      const Level& level = levels[at - 1];
      results[at - 1] = RunLevel(level, options.seeds);
      const std::lock_guard<std::mutex> lock(mutex);
      PrintNote(internal::Join(level.is_mlp ? "mlp " : "mobilenet_v1 ", NameOf(level.pattern), " ",
                               std::lround(level.sparsity * 100), " %: ", options.seeds, " seeds"));
    }
  };
  std::vector<std::thread> threads;
  const int64_t count = options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  for (int64_t k = 1; k < count; ++k) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();

  for (const bool is_mlp : {true, false}) {
    Table table({{.key = "pattern", .title = "pattern"},
                 {.key = "dropped_percent", .title = "dropped, %"},
                 {.key = "row", .title = is_mlp ? "layer" : "mean of"},
                 {.key = "published", .title = "published", .digits = 4},
                 {.key = "mean", .title = "mean", .digits = 4},
                 {.key = "sd", .title = "sd", .digits = 4},
                 {.key = "difference", .title = "difference", .digits = 4},
                 {.key = "within_3_sd", .title = "within 3 sd"},
                 {.key = "closed_form", .title = "closed form", .digits = 4},
                 {.key = "mean_not_collapsed", .title = "mean, not collapsed", .digits = 4},
                 {.key = "collapsed", .title = "collapsed seeds"},
                 {.key = "seeds"}});
    for (size_t k = 0; k < levels.size(); ++k) {
      const Level& level = levels[k];
      if (level.is_mlp != is_mlp) continue;
      if (!results[k].ok()) return results[k].status();
      const LevelResult& result = *results[k];
      for (size_t r = 0; r < level.published.size(); ++r) {
        const char* rows[] = {"depthwise", "pointwise", "classifier"};
        const double published = level.published[r], mean = result.all[r].mean(), sd = result.all[r].deviation();
        // Half a unit of the last digit that was published.
        const double digits = std::round(published * 1000) == published * 1000 ? 5e-4 : 5e-5;
        const bool within = std::fabs(mean - published) <= 3 * sd + digits;
        Cell closed, survived, within_cell;
        if (options.seeds > 1) within_cell = std::string(within ? "yes" : "NO");
        if (r < result.closed.size()) closed = Rounded(result.closed[r]);
        if (result.survived[r].count > 0) survived = Rounded(result.survived[r].mean());
        table.AddRow({std::string(NameOf(level.pattern)), int64_t{std::lround(level.sparsity * 100)},
                      is_mlp ? "L" + std::to_string(r + 1) : std::string(rows[r]), published, Rounded(mean),
                      Rounded(sd), Rounded(mean - published), within_cell, closed, survived,
                      result.collapsed == 0 ? std::string("-")
                                            : internal::Join(result.collapsed, " of ", options.seeds,
                                                             result.collapsed == options.seeds ? ": COLLAPSE" : ""),
                      options.seeds});
      }
    }
    PrintTitled(options,
                is_mlp ? "Pruned weights after propagation: MLP 1024-1024-1024-512-10"
                       : "Pruned weights after propagation: MobileNet-V1, means over its layers",
                table);
  }
  for (const bool is_mlp : {true, false}) {
    for (OraclePattern pattern : {OraclePattern::kFine, OraclePattern::kBlock, OraclePattern::kCoarse}) {
      RETURN_IF_ERROR(Draw(options, is_mlp, pattern, levels, results));
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  PrintRemark(options, internal::Join("Seeds 1 to ", options.seeds, " of each row; exact rules; ", std::lround(seconds),
                                      " s. coarse: an exact count of output channels in every "
                                      "layer. Closed forms hold for networks that did not collapse."));
  return OkStatus();
}

}  // namespace tessera
