// bench_case: one row of `bench`: a model compiled for one configuration, checked against the reference, and timed.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<BenchModel> model, PrepareModel("zoo:mlp", options, {.check = true}));
//   ASSIGN_OR_RETURN(BenchCase c, PrepareCase(model, {.threads = 2}));
//   c.Warm(0.2);  c.Sample(1.0, 10);                   // c.samples: microseconds of each inference
//
// Not for sharing between threads. Tested by bench_test.py.
#ifndef TESSERA_TOOLS_BENCH_CASE_H_
#define TESSERA_TOOLS_BENCH_CASE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "models/prune/prune.h"
#include "models/quantize/spec.h"
#include "tools/common/machine.h"
#include "tools/common/model_source.h"
#include "tools/common/reference.h"

namespace tessera {

// A model with its inputs and what they should give; shared by its rows.
struct BenchModel {
  OpenedModel opened;
  PruneSpec prune;
  QuantizeSpec precision;
  int64_t batch = 0;  // as asked for; 0: the model's own
  std::vector<Tensor> inputs;
  std::vector<Tensor> expected;  // empty: not checked
  double error_bound = 0;
  double load_ms = 0;              // from the path to a verified graph
  std::optional<double> accuracy;  // percent of labelled samples whose class is right
};

struct BenchModelOptions {
  PruneSpec prune = {};         // of the weights, first
  QuantizeSpec precision = {};  // then; i8 is calibrated with a few random inputs
  bool check = true;            // computes what the results should be
  std::string accuracy = {};    // labelled samples (data_set.h); empty: none
};

StatusOr<std::shared_ptr<BenchModel>> PrepareModel(const std::string& source, const ModelOptions& options,
                                                   const BenchModelOptions& bench);

struct BenchCase {
  std::shared_ptr<BenchModel> model;
  Options options;
  std::unique_ptr<Session> session;
  std::vector<Tensor> outputs;
  std::optional<Difference> error;  // the largest over all outputs; none where it was not checked
  std::vector<double> samples;      // microseconds
  Peaks peaks;                      // zero where they do not apply

  // Runs for so many seconds, at least twice, without taking times.
  Status Warm(double seconds);
  // One inference, compared with the reference where there is one; kResultWrong where it differs too much.
  Status RunAndCheck();
  // Whether it runs on a device with memory and a clock of its own.
  bool OnCard() const;
  // Adds samples until both are reached: of calls, or on a card of 20 replays each, which copy nothing.
  Status Sample(double min_seconds, int64_t min_runs);
  // What the steps would take if each were bound by nothing but arithmetic or memory, in microseconds.
  double RooflineUs() const;

 private:
  friend StatusOr<BenchCase> PrepareCase(std::shared_ptr<BenchModel> model, const Options& options);
  std::vector<const void*> input_pointers_;
  std::vector<void*> output_pointers_;
};

// Compiles, runs once and compares. TES-4001 when a result is wrong.
StatusOr<BenchCase> PrepareCase(std::shared_ptr<BenchModel> model, const Options& options);

}  // namespace tessera

#endif  // TESSERA_TOOLS_BENCH_CASE_H_
