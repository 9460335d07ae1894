#include "tools/bench_case.h"

#include <algorithm>
#include <chrono>

#include "engine/engine_internal.h"
#include "models/quantize/quantize.h"
#include "runtime/program.h"
#include "tools/common/data_set.h"
#include "tools/common/input_spec.h"
#include "tools/common/table.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Only time depends on the ranges: noise is enough to have some.
Status Quantize(const QuantizeSpec& spec, uint64_t seed, Graph& graph) {
  if (spec.scheme == QuantizeScheme::kNone) return OkStatus();
  ASSIGN_OR_RETURN(DataSet noise, OpenDataSet(graph, "random:" + std::to_string(seed) + ":4", FashionSplit::kTrain));
  const auto next = [&noise](std::vector<Tensor>& inputs) { return noise.Next(inputs); };
  return QuantizeGraph(graph, spec, next, {}).status();
}

}  // namespace

StatusOr<std::shared_ptr<BenchModel>> PrepareModel(const std::string& source, const ModelOptions& options,
                                                   const BenchModelOptions& bench) {
  auto model = std::make_shared<BenchModel>();
  const Clock::time_point start = Clock::now();
  ASSIGN_OR_RETURN(model->opened, OpenModel(source, options));
  model->load_ms = SecondsSince(start) * 1e3;
  model->batch = options.batch;
  model->prune = bench.prune;
  model->precision = bench.precision;
  Prune(model->opened.graph, bench.prune, options.seed);
  RETURN_IF_ERROR(Quantize(bench.precision, options.seed, model->opened.graph));
  if (!bench.accuracy.empty()) {
    ASSIGN_OR_RETURN(DataSet data, OpenDataSet(model->opened.graph, bench.accuracy, FashionSplit::kTest));
    ASSIGN_OR_RETURN(const int64_t right, CountRight(model->opened.graph, data, 0));
    model->accuracy = 100.0 * static_cast<double>(right) / static_cast<double>(data.labels().size());
  }
  const auto seed = static_cast<int64_t>(options.seed);
  ASSIGN_OR_RETURN(model->inputs, ResolveInputs(model->opened.graph, {}, &seed));
  model->error_bound = ErrorBound(model->opened.graph);
  if (bench.check) {
    ASSIGN_OR_RETURN(model->expected, Reference(model->opened.graph, model->inputs, CacheFolder() + "/reference"));
  }
  return model;
}

StatusOr<BenchCase> PrepareCase(std::shared_ptr<BenchModel> model, const Options& options) {
  BenchCase c;
  c.model = std::move(model);
  c.options = options;
  const Graph& graph = c.model->opened.graph;
  ASSIGN_OR_RETURN(const Model compiled_from, ModelFromGraph(graph));
  StatusOr<Session> session = compiled_from.Compile(options);
  if (!session.ok()) return session.status().WithContext(c.model->opened.name);
  c.session = std::make_unique<Session>(*std::move(session));
  for (ValueId id : graph.outputs) c.outputs.emplace_back(graph[id].type.dtype, graph[id].type.shape);
  for (const Tensor& input : c.model->inputs) c.input_pointers_.push_back(input.bytes().data());
  for (Tensor& output : c.outputs) c.output_pointers_.push_back(output.mutable_bytes().data());
  RETURN_IF_ERROR(c.RunAndCheck());
  if (options.tier != "both") return c;
  RETURN_IF_ERROR(c.session->AwaitFinalTier());
  RETURN_IF_ERROR(c.RunAndCheck());
  return c;
}

Status BenchCase::RunAndCheck() {
  RETURN_IF_ERROR(session->RunPositional(input_pointers_.data(), output_pointers_.data()));
  if (options.target == "null" || model->expected.empty()) return OkStatus();
  const Graph& graph = model->opened.graph;
  error = Difference();
  for (size_t k = 0; k < outputs.size(); ++k) {
    const Difference d = Compare(outputs[k], model->expected[k]);
    error->absolute = std::max(error->absolute, d.absolute);
    error->relative = std::max(error->relative, d.relative);
    if (d.relative <= model->error_bound) continue;
    return Error(ErrorCode::kResultWrong, model->opened.name, ": output '", graph[graph.outputs[k]].name, "', element ",
                 d.worst, " is ", FormatSignificant(outputs[k].Get(d.worst)), ", the reference has ",
                 FormatSignificant(model->expected[k].Get(d.worst)), "; the relative error ",
                 FormatSignificant(d.relative), " is above ", FormatSignificant(model->error_bound),
                 ", so there is no time to report");
  }
  return OkStatus();
}

Status BenchCase::Warm(double seconds) {
  const Clock::time_point start = Clock::now();
  for (int run = 0; run < 2 || SecondsSince(start) < seconds; ++run) {
    RETURN_IF_ERROR(session->RunPositional(input_pointers_.data(), output_pointers_.data()));
  }
  return OkStatus();
}

bool BenchCase::OnCard() const { return session->report().device_bytes > 0; }

Status BenchCase::Sample(double min_seconds, int64_t min_runs) {
  const bool on_card = OnCard();
  const Clock::time_point start = Clock::now();
  Clock::time_point before = start;
  for (int64_t run = 0; run < min_runs || std::chrono::duration<double>(before - start).count() < min_seconds; ++run) {
    // The one allocation that may happen here is of samples, between two runs and outside both.
    before = Clock::now();
    if (on_card) {
      // Copies are no part of it: replays of the graph, on the card's own clock.
      constexpr int kReplays = 20;
      ASSIGN_OR_RETURN(const double us, session->MeasureUs(kReplays));
      samples.push_back(us);
      continue;
    }
    RETURN_IF_ERROR(session->RunPositional(input_pointers_.data(), output_pointers_.data()));
    samples.push_back(std::chrono::duration<double, std::micro>(Clock::now() - before).count());
  }
  return OkStatus();
}

double BenchCase::RooflineUs() const {
  if (peaks.flops <= 0 || peaks.bytes <= 0) return 0;
  double seconds = 0;
  for (const Step& step : SessionAccess::ProgramOf(*session).steps) {
    seconds += std::max(step.flops / peaks.flops, step.bytes / peaks.bytes);
  }
  return seconds * 1e6;
}

}  // namespace tessera
