#include "propagate/bits/lower_bits.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "graph/interpreter.h"
#include "propagate/bits/segment.h"

namespace tessera {
namespace {

// The values that nodes from `position` on read of those before, for every batch.
class Cache {
 public:
  Cache(const Graph& graph, std::span<const Batch> batches, const GraphRunner& runner)
      : graph_(graph), runner_(runner), values_(batches.size()) {
    for (size_t b = 0; b < batches.size(); ++b) {
      for (size_t k = 0; k < graph.inputs.size(); ++k) values_[b][Index(graph.inputs[k])] = batches[b][k];
    }
  }

  // To a later position: runs the nodes between, with the widths that they have now.
  Status MoveTo(size_t position, int64_t& executions) {
    if (position <= position_) return OkStatus();
    const Segment segment = MakeSegment(graph_, position_, position);
    if (!segment.outputs.empty()) {
      ASSIGN_OR_RETURN(const std::vector<Batch> results, Run(segment, executions));
      for (size_t b = 0; b < values_.size(); ++b) {
        for (size_t k = 0; k < segment.outputs.size(); ++k) values_[b][Index(segment.outputs[k])] = results[b][k];
      }
    }
    position_ = position;
    const std::vector<ValueId> frontier = Frontier(graph_, position_);
    for (auto& values : values_) {
      std::erase_if(values, [&](const auto& entry) {
        return std::find(frontier.begin(), frontier.end(), static_cast<ValueId>(entry.first)) == frontier.end();
      });
    }
    return OkStatus();
  }

  // The graph's outputs for every batch.
  StatusOr<std::vector<Batch>> Finish(int64_t& executions) const {
    const Segment segment = MakeSegment(graph_, position_, graph_.nodes.size());
    ASSIGN_OR_RETURN(std::vector<Batch> results, Run(segment, executions));
    std::vector<Batch> outputs(values_.size());
    for (size_t b = 0; b < values_.size(); ++b) {
      for (ValueId id : graph_.outputs) {
        const auto made = std::find(segment.outputs.begin(), segment.outputs.end(), id);
        if (made != segment.outputs.end()) {
          outputs[b].push_back(results[b][static_cast<size_t>(made - segment.outputs.begin())]);
        } else {
          outputs[b].push_back(graph_.IsConstant(id) ? graph_[id].constant : values_[b].at(Index(id)));
        }
      }
    }
    return outputs;
  }

 private:
  StatusOr<std::vector<Batch>> Run(const Segment& segment, int64_t& executions) const {
    std::vector<Batch> inputs(values_.size());
    for (size_t b = 0; b < values_.size(); ++b) {
      for (ValueId id : segment.inputs) inputs[b].push_back(values_[b].at(Index(id)));
    }
    executions += static_cast<int64_t>(segment.graph.nodes.size() * values_.size());
    return runner_(segment.graph, inputs);
  }

  const Graph& graph_;
  const GraphRunner& runner_;
  size_t position_ = 0;
  std::vector<std::map<int, Tensor>> values_;  // by batch, then by value
};

double Total(std::span<const Batch> outputs, const Metric& metric) {
  double sum = 0;
  for (size_t b = 0; b < outputs.size(); ++b) sum += metric(b, outputs[b]);
  return sum;
}

}  // namespace

GraphRunner InterpreterRunner() {
  return [](const Graph& graph, std::span<const Batch> batches) -> StatusOr<std::vector<Batch>> {
    std::vector<Batch> results;
    for (const Batch& batch : batches) {
      ASSIGN_OR_RETURN(const std::vector<RefTensor> outputs, Interpret(graph, batch));
      Batch tensors;
      for (const RefTensor& output : outputs) tensors.push_back(output.ToTensor());
      results.push_back(std::move(tensors));
    }
    return results;
  };
}

StatusOr<std::vector<std::vector<float>>> Calibrate(const Graph& graph, std::span<const Batch> batches,
                                                    const GraphRunner& runner, int64_t max_samples) {
  const std::vector<QuantSite> sites = QuantSites(graph);
  std::vector<std::vector<float>> samples(sites.size());
  // All activations as outputs; graph inputs are at hand.
  Graph all = graph;
  all.outputs.clear();
  std::vector<int> output_of(sites.size(), -1), input_of(sites.size(), -1);
  for (size_t k = 0; k < sites.size(); ++k) {
    if (sites[k].is_weight) continue;
    const auto input = std::find(graph.inputs.begin(), graph.inputs.end(), sites[k].value);
    if (input != graph.inputs.end()) {
      input_of[k] = static_cast<int>(input - graph.inputs.begin());
    } else {
      output_of[k] = static_cast<int>(all.outputs.size());
      all.outputs.push_back(sites[k].value);
    }
  }
  std::vector<Batch> results(batches.size());
  if (!all.outputs.empty()) {
    ASSIGN_OR_RETURN(results, runner(all, batches));
  }
  for (size_t k = 0; k < sites.size(); ++k) {
    if (sites[k].is_weight) continue;
    const int64_t total = sites[k].elements * static_cast<int64_t>(batches.size());
    // Odd, so that no axis of even extent is seen at some of its indices only.
    const int64_t stride = std::max<int64_t>(1, total / std::max<int64_t>(1, max_samples)) | 1;
    int64_t at = 0;
    for (size_t b = 0; b < batches.size(); ++b) {
      const Tensor& tensor = input_of[k] >= 0 ? batches[b][input_of[k]] : results[b][output_of[k]];
      const std::span<const float> values = tensor.data<float>();
      for (; at < tensor.num_elements(); at += stride) samples[k].push_back(values[at]);
      at -= tensor.num_elements();
    }
  }
  return samples;
}

int SmallestWidth(const FakeQuantized& quantized, size_t site, double decibels, int least, int most) {
  for (int width = least; width < most; ++width) {
    if (quantized.SignalToNoise(site, width) >= decibels) return width;
  }
  return most;
}

StatusOr<double> Score(const Graph& graph, std::span<const Batch> batches, const Metric& metric,
                       const GraphRunner& runner) {
  ASSIGN_OR_RETURN(const std::vector<Batch> outputs, runner(graph, batches));
  return Total(outputs, metric);
}

StatusOr<LowerBitsResult> LowerBits(FakeQuantized& quantized, std::span<const Batch> batches, const Metric& metric,
                                    const LowerBitsOptions& options, const GraphRunner& runner) {
  LowerBitsResult result;
  result.before = quantized.widths();
  const int64_t whole = static_cast<int64_t>(quantized.graph().nodes.size() * batches.size());
  ASSIGN_OR_RETURN(result.score_before, Score(quantized.graph(), batches, metric, runner));
  result.score_after = result.score_before;
  result.executions = result.executions_without_cache = whole;
  const double least_score = result.score_before - options.tolerance;
  std::vector<bool> refused(quantized.sites().size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    Cache cache(quantized.graph(), batches, runner);
    for (size_t k = 0; k < quantized.sites().size(); ++k) {
      const int width = quantized.width(k), lower = width - options.step;
      if (refused[k] || lower < options.least) continue;
      if (!changed) ++result.sweeps;
      RETURN_IF_ERROR(cache.MoveTo(quantized.first_node(k), result.executions));
      quantized.SetWidth(k, lower);
      ASSIGN_OR_RETURN(const std::vector<Batch> outputs, cache.Finish(result.executions));
      const double score = Total(outputs, metric);
      const bool keep = score >= least_score;
      ++result.trials;
      result.executions_without_cache += whole;
      if (keep) {
        ++result.kept;
        result.score_after = score;
      } else {
        quantized.SetWidth(k, width);
        refused[k] = true;
      }
      changed = true;
      if (options.on_trial) options.on_trial(k, lower, score, keep);
    }
  }
  result.after = quantized.widths();
  return result;
}

double MeanWidth(std::span<const int> widths) {
  return widths.empty() ? 0 : std::accumulate(widths.begin(), widths.end(), 0.0) / static_cast<double>(widths.size());
}

}  // namespace tessera
