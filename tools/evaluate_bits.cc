// The figure of bit widths (SparTA, OSDI 2022, figure 14): MobileNet's widths before and after propagation at equal
// accuracy. Theirs were trained on a data set and with a quantiser that are not public; ours is the MobileNet of
// models/zoo on Fashion-MNIST.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "engine/engine_internal.h"
#include "graph/passes/pipeline.h"
#include "propagate/bits/lower_bits.h"
#include "tools/common/fashion.h"
#include "tools/common/model_source.h"
#include "tools/common/tool.h"
#include "tools/evaluate_figures.h"

namespace tessera {
namespace {

constexpr char kModel[] = "zoo:fashion_mobilenet";
constexpr int64_t kBatch = 250;
constexpr int64_t kCalibration = 1000;  // training images
// Published, in its order; 28 of the 33 are plotted.
constexpr int kPublishedBefore[] = {8, 5, 5, 5, 7, 7, 7, 4, 7, 7, 7, 7, 7, 5, 7, 7, 5,
                                    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6};
constexpr int kPublishedAfter[] = {8, 5, 5, 5, 7, 5, 4, 4, 4, 4, 7, 5, 6, 5, 3, 4, 5,
                                   4, 5, 4, 6, 5, 6, 4, 4, 5, 4, 7, 5, 5, 4, 5, 5};
constexpr size_t kPlotted = 28;

struct DataSet {
  std::vector<Batch> batches;
  std::vector<std::vector<uint8_t>> labels;
  int64_t images = 0;
};

StatusOr<DataSet> ReadBatches(const std::string& folder, FashionSplit split, int64_t first, int64_t count) {
  ASSIGN_OR_RETURN(const FashionData data, ReadFashion(folder, split, first, count));
  DataSet set;
  set.images = count;
  const std::span<const std::byte> bytes = data.images.bytes();
  const size_t batch_bytes = kBatch * 28 * 28 * sizeof(float);
  for (int64_t b = 0; b < count / kBatch; ++b) {
    Tensor images(DType::kF32, {kBatch, 1, 28, 28});
    std::memcpy(images.mutable_bytes().data(), bytes.data() + static_cast<size_t>(b) * batch_bytes, batch_bytes);
    set.batches.push_back({images});
    set.labels.emplace_back(data.labels.begin() + b * kBatch, data.labels.begin() + (b + 1) * kBatch);
  }
  return set;
}

// Of each image, the class of the largest logit.
std::vector<int> Classes(const Batch& outputs) {
  const std::span<const float> logits = outputs[0].data<float>();
  const int64_t classes = outputs[0].shape()[1];
  std::vector<int> result;
  for (auto row = logits.begin(); row != logits.end(); row += classes) {
    result.push_back(static_cast<int>(std::max_element(row, row + classes) - row));
  }
  return result;
}

// Images whose class is that of `expected`. Accuracy cannot change by more than what is missing, and unlike accuracy,
// which gains as often as it loses by chance, this cannot be met by luck on the images that happen to be looked at.
Metric Agreement(const std::vector<std::vector<int>>& expected) {
  return [&expected](size_t batch, const Batch& outputs) {
    const std::vector<int> classes = Classes(outputs);
    double same = 0;
    for (size_t row = 0; row < classes.size(); ++row) same += classes[row] == expected[batch][row];
    return same;
  };
}

// Compiles each graph that it is given and runs it on every batch.
GraphRunner CompiledRunner(int threads) {
  return [threads](const Graph& graph, std::span<const Batch> batches) -> StatusOr<std::vector<Batch>> {
    ASSIGN_OR_RETURN(const Model model, ModelFromGraph(graph));
    Options options;
    options.threads = threads;
    ASSIGN_OR_RETURN(Session session, model.Compile(options));
    std::vector<Batch> results;
    for (const Batch& batch : batches) {
      std::vector<const void*> in;
      std::vector<void*> out;
      Batch outputs;
      for (const Tensor& input : batch) in.push_back(input.bytes().data());
      for (ValueId id : graph.outputs) outputs.emplace_back(graph[id].type.dtype, graph[id].type.shape);
      for (Tensor& output : outputs) out.push_back(output.mutable_bytes().data());
      RETURN_IF_ERROR(session.RunPositional(in.data(), out.data()));
      results.push_back(std::move(outputs));
    }
    return results;
  };
}

// Of each image, whether its class is its label.
StatusOr<std::vector<bool>> RightOnes(const Graph& graph, const DataSet& set, const GraphRunner& runner) {
  ASSIGN_OR_RETURN(const std::vector<Batch> results, runner(graph, set.batches));
  std::vector<bool> right;
  for (size_t batch = 0; batch < results.size(); ++batch) {
    const std::vector<int> classes = Classes(results[batch]);
    for (size_t row = 0; row < classes.size(); ++row) right.push_back(classes[row] == set.labels[batch][row]);
  }
  return right;
}

std::string Percent(double right, int64_t images) {
  return FormatSignificant(100 * right / static_cast<double>(images)) + " %";
}

struct Counts {
  double mean_before, mean_after;
  int64_t lowered = 0, narrow_before = 0, narrow_after = 0, entries = 0;
};

Counts CountWidths(std::span<const int> before, std::span<const int> after) {
  Counts c = {.mean_before = MeanWidth(before), .mean_after = MeanWidth(after)};
  c.entries = static_cast<int64_t>(before.size());
  for (size_t k = 0; k < before.size(); ++k) {
    c.lowered += after[k] < before[k];
    c.narrow_before += before[k] <= 4;
    c.narrow_after += after[k] <= 4;
  }
  return c;
}

void AddSummary(Table& table, const std::string& what, const Counts& c) {
  table.AddRow({what, c.entries, c.mean_before, c.mean_after, c.mean_before - c.mean_after, c.lowered, c.narrow_before,
                c.narrow_after});
}

}  // namespace

Status EvaluateBits(const EvaluateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t images = options.images / kBatch * kBatch;
  ASSIGN_OR_RETURN(OpenedModel opened, OpenModel(kModel, {.batch = kBatch}));
  Graph& graph = opened.graph;
  RETURN_IF_ERROR(OptimizeForHost(graph));
  ASSIGN_OR_RETURN(const DataSet calibration, ReadBatches(options.data, FashionSplit::kTrain, 0, kCalibration));
  const int64_t far = 10000 - images;
  ASSIGN_OR_RETURN(const DataSet chosen_on,
                   ReadBatches(options.data, FashionSplit::kTest, options.swap ? far : 0, images));
  ASSIGN_OR_RETURN(const DataSet held_out,
                   ReadBatches(options.data, FashionSplit::kTest, options.swap ? 0 : far, images));

  const GraphRunner runner = CompiledRunner(static_cast<int>(options.threads));
  ASSIGN_OR_RETURN(auto samples, Calibrate(graph, calibration.batches, runner));
  FakeQuantized quantized(graph, std::move(samples));
  const std::vector<QuantSite>& sites = quantized.sites();
  for (size_t k = 0; k < sites.size(); ++k) quantized.SetWidth(k, SmallestWidth(quantized, k, options.noise));

  ASSIGN_OR_RETURN(const std::vector<Batch> initial, runner(quantized.graph(), chosen_on.batches));
  std::vector<std::vector<int>> expected;
  for (const Batch& outputs : initial) expected.push_back(Classes(outputs));
  const Metric metric = Agreement(expected);
  struct Rated {
    std::string what;
    const DataSet* set;
    std::vector<bool> whole, before, after;  // f32, initial widths, widths after propagation
  };
  Rated rated[] = {{"on which widths were chosen", &chosen_on, {}, {}, {}}, {"held out", &held_out, {}, {}, {}}};
  for (Rated& r : rated) {
    ASSIGN_OR_RETURN(r.whole, RightOnes(graph, *r.set, runner));
    ASSIGN_OR_RETURN(r.before, RightOnes(quantized.graph(), *r.set, runner));
  }
  LowerBitsOptions lower;
  lower.tolerance = options.tolerance * static_cast<double>(images);
  lower.on_trial = [&](size_t site, int width, double score, bool keep) {
    PrintNote(sites[site].name + ": " + std::to_string(width) + " bits, agreement " + Percent(score, images) +
              (keep ? "" : ", taken back"));
  };
  ASSIGN_OR_RETURN(const LowerBitsResult result, LowerBits(quantized, chosen_on.batches, metric, lower, runner));
  for (Rated& r : rated) {
    ASSIGN_OR_RETURN(r.after, RightOnes(quantized.graph(), *r.set, runner));
  }

  Table layers({{.key = "layer", .title = "layer"},
                {.key = "tensor", .title = "tensor"},
                {.key = "kind", .title = "kind"},
                {.key = "bits_before", .title = "before"},
                {.key = "bits_after", .title = "after"}});
  for (size_t k = 0; k < sites.size(); ++k) {
    layers.AddRow({sites[k].node, sites[k].name, std::string(sites[k].is_weight ? "weight" : "activation"),
                   int64_t{result.before[k]}, int64_t{result.after[k]}});
  }
  PrintTitled(options, "Bit widths of each tensor", layers);

  Table summary({{.key = "network", .title = "network"},
                 {.key = "entries", .title = "entries"},
                 {.key = "mean_bits_before", .title = "mean before", .digits = 2},
                 {.key = "mean_bits_after", .title = "mean after", .digits = 2},
                 {.key = "fall", .title = "fall", .digits = 2},
                 {.key = "lowered", .title = "lowered"},
                 {.key = "at_most_4_before", .title = "<= 4 bits before"},
                 {.key = "at_most_4_after", .title = "<= 4 bits after"}});
  AddSummary(summary, "published: MobileNet, plotted",
             CountWidths(std::span(kPublishedBefore, kPlotted), std::span(kPublishedAfter, kPlotted)));
  AddSummary(summary, "published: MobileNet, all", CountWidths(kPublishedBefore, kPublishedAfter));
  AddSummary(summary, "here: " + opened.name, CountWidths(result.before, result.after));
  std::vector<int> before[2], after[2];
  for (size_t k = 0; k < sites.size(); ++k) {
    before[sites[k].is_weight].push_back(result.before[k]);
    after[sites[k].is_weight].push_back(result.after[k]);
  }
  AddSummary(summary, "here: its weights", CountWidths(before[1], after[1]));
  AddSummary(summary, "here: its activations", CountWidths(before[0], after[0]));
  PrintTitled(options, "Mean width before and after propagation", summary);

  Table accuracy({{.key = "images", .title = "test images"},
                  {.key = "count", .title = "count"},
                  {.key = "accuracy_f32", .title = "f32, %", .digits = 2},
                  {.key = "accuracy_before", .title = "before, %", .digits = 2},
                  {.key = "accuracy_after", .title = "after, %", .digits = 2},
                  {.key = "change", .title = "change, points", .digits = 2},
                  {.key = "right_before_only", .title = "right before only"},
                  {.key = "right_after_only", .title = "right after only"}});
  const auto percent = [&](const std::vector<bool>& right) {
    return 100 * static_cast<double>(std::count(right.begin(), right.end(), true)) / static_cast<double>(images);
  };
  for (const Rated& r : rated) {
    int64_t lost = 0, gained = 0;
    for (size_t k = 0; k < r.before.size(); ++k) {
      lost += r.before[k] && !r.after[k];
      gained += r.after[k] && !r.before[k];
    }
    accuracy.AddRow({r.what, images, percent(r.whole), percent(r.before), percent(r.after),
                     percent(r.after) - percent(r.before), lost, gained});
  }
  PrintTitled(options, "Accuracy", accuracy);

  Table work({{.key = "trials", .title = "trials"},
              {.key = "kept", .title = "kept"},
              {.key = "sweeps", .title = "sweeps"},
              {.key = "node_executions", .title = "node executions"},
              {.key = "node_executions_without_cache", .title = "without cached activations"},
              {.key = "saved", .title = "saved, %", .digits = 1},
              {.key = "seconds", .title = "seconds", .digits = 0}});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  work.AddRow(
      {int64_t{result.trials}, int64_t{result.kept}, int64_t{result.sweeps}, result.executions,
       result.executions_without_cache,
       100 * (1 - static_cast<double>(result.executions) / static_cast<double>(result.executions_without_cache)),
       seconds});
  PrintTitled(options, "Work", work);

  Plot plot{.title = "Bit widths before and after propagation", .x_label = "tensor", .y_label = "bits", .series = {}};
  const auto draw = [&](const std::string& name, std::span<const int> widths) {
    PlotSeries line{.name = name, .x = {}, .y = {}, .spread = {}};
    for (size_t k = 0; k < widths.size(); ++k) {
      line.x.push_back(static_cast<double>(k + 1));
      line.y.push_back(widths[k]);
    }
    plot.series.push_back(std::move(line));
  };
  draw("here, before", result.before);
  draw("here, after", result.after);
  draw("published, before", std::span(kPublishedBefore, kPlotted));
  draw("published, after", std::span(kPublishedAfter, kPlotted));
  return WritePlot(options, "bits", plot);
}

}  // namespace tessera
