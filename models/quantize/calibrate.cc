#include "models/quantize/calibrate.h"

#include <algorithm>

#include "engine/engine_internal.h"

namespace tessera {

StatusOr<std::vector<RangeObserver>> Calibrate(const Graph& graph, const std::vector<ValueId>& values,
                                               const SampleSource& samples, const Options& options) {
  Graph observed = graph;
  std::vector<size_t> output_of(values.size(), SIZE_MAX), input_of(values.size(), SIZE_MAX);
  for (size_t k = 0; k < values.size(); ++k) {
    const auto input = std::find(graph.inputs.begin(), graph.inputs.end(), values[k]);
    if (input != graph.inputs.end()) {
      input_of[k] = static_cast<size_t>(input - graph.inputs.begin());
      continue;
    }
    const auto output = std::find(observed.outputs.begin(), observed.outputs.end(), values[k]);
    output_of[k] = static_cast<size_t>(output - observed.outputs.begin());
    if (output == observed.outputs.end()) observed.outputs.push_back(values[k]);
  }
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(observed));
  ASSIGN_OR_RETURN(Session session, model.Compile(options));
  std::vector<Tensor> outputs;
  std::vector<void*> out;
  for (ValueId id : observed.outputs) outputs.emplace_back(graph[id].type.dtype, graph[id].type.shape);
  for (Tensor& output : outputs) out.push_back(output.mutable_bytes().data());

  std::vector<RangeObserver> seen(values.size());
  std::vector<Tensor> inputs;
  for (int64_t sample = 0;; ++sample) {
    ASSIGN_OR_RETURN(const bool more, samples(inputs));
    if (!more && sample == 0) return Error(ErrorCode::kInputMissing, "there is no sample to calibrate with");
    if (!more) return seen;
    std::vector<const void*> in;
    for (size_t k = 0; k < graph.inputs.size(); ++k) {
      const TensorType& type = graph[graph.inputs[k]].type;
      if (inputs.size() != graph.inputs.size() || inputs[k].type() != type) {
        return Error(ErrorCode::kShapeMismatch, "sample ", sample, ", input '", graph[graph.inputs[k]].name,
                     "': expected ", type, ", found ", k < inputs.size() ? inputs[k].type().ToString() : "nothing");
      }
      in.push_back(inputs[k].bytes().data());
    }
    RETURN_IF_ERROR(session.RunPositional(in.data(), out.data()));
    for (size_t k = 0; k < values.size(); ++k) {
      const Tensor& tensor = input_of[k] != SIZE_MAX ? inputs[input_of[k]] : outputs[output_of[k]];
      const Status status = seen[k].Observe(tensor.data<float>());
      if (!status.ok()) {
        return status.WithContext(
            internal::Join("calibration, sample ", sample, ", tensor '", graph[values[k]].name, "'"));
      }
    }
  }
}

}  // namespace tessera
