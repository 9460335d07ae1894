// Calibrate: runs a network over a user's data and remembers which values its tensors take.
//
//   ASSIGN_OR_RETURN(auto seen, Calibrate(graph, {x, y}, RandomSamples(graph, 16, seed), {.threads = 2}));
//   seen[0].Choose(RangeMethod::kMse, 0);
//
// The network is compiled once with the wanted tensors as further outputs and run on each sample, so that thousands of
// samples take seconds. Tested by quantize_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_CALIBRATE_H_
#define TESSERA_MODELS_QUANTIZE_CALIBRATE_H_

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "engine/engine.h"
#include "graph/graph.h"
#include "models/quantize/range.h"
#include "tesa/tensor.h"

namespace tessera {

// Fills `inputs` with the next sample, a tensor for each graph input in their order; false: there is none left.
using SampleSource = std::function<StatusOr<bool>(std::vector<Tensor>& inputs)>;

// What each of `values`, f32 and not constant, is over all samples. TES-1109 names the tensor and the sample where a
// value is infinite or no number; TES-1201 where there is no sample.
StatusOr<std::vector<RangeObserver>> Calibrate(const Graph& graph, const std::vector<ValueId>& values,
                                               const SampleSource& samples, const Options& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_CALIBRATE_H_
