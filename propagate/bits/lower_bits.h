// lower_bits: bit widths by accuracy in the loop: one tensor after the other loses a step of precision and keeps the
// loss when the task's metric allows it.
//
//   ASSIGN_OR_RETURN(auto samples, Calibrate(graph, calibration, InterpreterRunner()));
//   FakeQuantized q(graph, samples);
//   for (size_t k = 0; k < q.sites().size(); ++k) q.SetWidth(k, SmallestWidth(q, k, 30));     // where a quantiser
//   begins ASSIGN_OR_RETURN(LowerBitsResult result, LowerBits(q, batches, CountRight(labels), {.tolerance = 5},
//   runner));
//
// The rule of the SparTA paper (Zheng et al., OSDI 2022, quantisation propagation): in topological order, each tensor
// in turn is lowered by one step with all others as they are; the change stays if the score does not fall below that of
// the beginning by more than the tolerance, and is taken back otherwise. Sweeps repeat until every tensor has been
// refused once or is at the least width. Where the paper fine-tunes the operator for least output error, the scale is
// chosen for least error of the tensor (fake_quant.h); nothing is trained.
//
// What stands before the tensor is not run again: the values that the rest of the network reads of it are cached, and
// only the rest (segment.h) is run. The cache moves along with the sweep. Deterministic: no random choice is made.
// Tested by lower_bits_test.cc.
#ifndef TESSERA_PROPAGATE_BITS_LOWER_BITS_H_
#define TESSERA_PROPAGATE_BITS_LOWER_BITS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/bits/fake_quant.h"
#include "tesa/tensor.h"

namespace tessera {

using Batch = std::vector<Tensor>;  // one tensor per graph input, or output

// Runs a graph on each batch. The interpreter, or a compiled engine that a caller above this layer provides.
using GraphRunner = std::function<StatusOr<std::vector<Batch>>(const Graph& graph, std::span<const Batch> batches)>;
GraphRunner InterpreterRunner();

// The score of one batch's outputs: higher is better; a data set's is the sum over its batches.
using Metric = std::function<double(size_t batch, const Batch& outputs)>;

// Values of every site of an activation over the batches, at most `max_samples` each, evenly spread.
StatusOr<std::vector<std::vector<float>>> Calibrate(const Graph& graph, std::span<const Batch> batches,
                                                    const GraphRunner& runner, int64_t max_samples = 1 << 16);

// The smallest width in [least, most] at which the site's own rounding noise is `decibels` below its signal; `most`
// where none is.
int SmallestWidth(const FakeQuantized& quantized, size_t site, double decibels, int least = 2, int most = 8);

struct LowerBitsOptions {
  double tolerance = 0;  // how far the score may fall, in its own units
  int least = 2;         // bits
  int step = 1;          // bits
  // Called after each trial, for progress: site, width tried, score, kept.
  std::function<void(size_t, int, double, bool)> on_trial;
};

struct LowerBitsResult {
  std::vector<int> before, after;  // by site
  double score_before = 0, score_after = 0;
  int sweeps = 0, trials = 0, kept = 0;
  // Nodes run, each counted once per batch: for trials and for moving the cache along.
  int64_t executions = 0;
  // What running the whole network for each trial would have been.
  int64_t executions_without_cache = 0;
};

// `quantized` has the widths to begin with, and those of the result afterwards. Errors are those of the runner.
StatusOr<LowerBitsResult> LowerBits(FakeQuantized& quantized, std::span<const Batch> batches, const Metric& metric,
                                    const LowerBitsOptions& options, const GraphRunner& runner);

// The score of a graph.
StatusOr<double> Score(const Graph& graph, std::span<const Batch> batches, const Metric& metric,
                       const GraphRunner& runner);

double MeanWidth(std::span<const int> widths);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_BITS_LOWER_BITS_H_
