#include "codegen/tuner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/single_node.h"
#include "runtime/device.h"
#include "runtime/timed_rounds.h"
#include "tesa/random.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A node of the network with all others that are like it.
struct Group {
  SingleNode single;
  std::string name, key;
  int count = 0;
  std::vector<Choice> ways;  // worth trying, the best estimate first
  double estimate() const { return ways[0].way.us * count; }
};

// Without declared sparsity: what is chosen then is the dense way.
std::string DenseWay(const Graph& graph, const Target& target) {
  Graph dense = graph;
  for (Value& value : dense.values) {
    if (value.kind == ValueKind::kConstant) value.tesa.reset();
  }
  return SelectEmitter(dense, dense.nodes[0], target, "", nullptr).ToString();
}

std::vector<Choice> WaysWorthTrying(const Graph& graph, const Target& target, double factor) {
  std::vector<Choice> all;
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    for (Way& way : WaysOf(emitter, graph, graph.nodes[0], target, &why)) all.push_back({&emitter, std::move(way)});
  }
  std::stable_sort(all.begin(), all.end(), [](const Choice& a, const Choice& b) { return a.way.us < b.way.us; });
  const std::string dense = DenseWay(graph, target);
  std::vector<Choice> worth;
  for (Choice& choice : all) {
    const bool near = worth.empty() || choice.way.us <= factor * worth[0].way.us;
    if (near || choice.ToString() == dense) worth.push_back(std::move(choice));
  }
  return worth;
}

// One way, compiled and loaded, with outputs of its own.
class Contender {
 public:
  static StatusOr<Contender> Make(const Graph& graph, const Target& target, const std::string& way, Device& device,
                                  int threads) {
    ASSIGN_OR_RETURN(CompileResult compiled, Compile(graph, target, {.only_emitter = way, .run_threads = threads}));
    Contender self;
    ASSIGN_OR_RETURN(self.executable_, device.Load(compiled.program, {.threads = threads}));
    for (ValueId id : graph.outputs) self.outputs_.emplace_back(graph[id].type.dtype, graph[id].type.shape);
    for (Tensor& output : self.outputs_) self.to_.push_back(output.mutable_bytes().data());
    return self;
  }

  Status Run(const std::vector<const void*>& inputs) { return executable_->Run(inputs, to_); }
  const std::vector<Tensor>& outputs() const { return outputs_; }

 private:
  Contender() = default;
  std::unique_ptr<Executable> executable_;
  std::vector<Tensor> outputs_;
  std::vector<void*> to_;
};

// Do two ways agree? Sums may be added in another order: floats may differ a little, and an integer that was rounded
// from one by a step.
bool Agree(const Graph& graph, const Tensor& a, const Tensor& b) {
  bool has_floats = false;
  for (const Value& value : graph.values) has_floats |= IsFloat(value.type.dtype);
  double largest = 0, difference = 0;
  for (int64_t k = 0; k < a.num_elements(); ++k) {
    const double x = a.Get(k), y = b.Get(k);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (!std::isfinite(x) || !std::isfinite(y)) return false;
    difference = std::max(difference, std::fabs(x - y));
    largest = std::max({largest, std::fabs(x), std::fabs(y)});
  }
  if (!IsFloat(a.dtype())) return difference <= (has_floats ? 1 : 0);
  return difference <= (TypeInfo(a.dtype()).bits < 32 ? 2e-2 : 1e-4) * largest;
}

// Small values, so that sums neither overflow nor drown; integers below 8 are valid indices of most things.
std::vector<Tensor> Inputs(const Graph& graph, uint64_t seed) {
  Random random(seed);
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs) {
    const TensorType& type = graph[id].type;
    inputs.push_back(IsFloat(type.dtype) ? RandomTensorIn(random, type, -1, 1) : RandomTensorIn(random, type, 0, 1));
  }
  return inputs;
}

class Tuner {
 public:
  Tuner(const Target& target, const TuneOptions& options, Device& device, TuningRecords& records, TuneReport& report)
      : target_(target), options_(options), device_(device), records_(records), report_(report) {}

  // Measures the group's ways and adds what was found to records and report.
  Status Measure(const Group& group, TunedNode& node) {
    const Graph& graph = group.single.graph;
    const std::vector<Tensor> inputs = Inputs(graph, options_.seed);
    std::vector<const void*> from;
    for (const Tensor& input : inputs) from.push_back(input.bytes().data());
    std::vector<std::pair<std::string, Contender>> contenders;
    for (const Choice& way : group.ways) {
      const auto problem = [&](auto... pieces) {
        report_.problems.push_back(internal::Join("node '", group.name, "', ", way.ToString(), ": ", pieces...));
      };
      StatusOr<Contender> made = Contender::Make(graph, target_, way.ToString(), device_, options_.threads);
      const Status ran = made.ok() ? made->Run(from) : made.status();
      if (!ran.ok()) {
        problem(ran.message());
        continue;
      }
      bool agrees = true;
      for (size_t k = 0; !contenders.empty() && k < made->outputs().size(); ++k) {
        agrees = agrees && Agree(graph, made->outputs()[k], contenders[0].second.outputs()[k]);
      }
      if (!agrees) {
        problem("its result differs from that of ", contenders[0].first);
        continue;
      }
      contenders.emplace_back(way.ToString(), *std::move(made));
    }
    std::vector<std::function<Status()>> runs;
    for (auto& [way, contender] : contenders) runs.push_back([&from, &one = contender] { return one.Run(from); });
    ASSIGN_OR_RETURN(const RoundTimes times, TimeRounds(runs, options_.rounds, options_.round_ms / 1000));
    for (size_t k = 0; k < contenders.size(); ++k) {
      records_.Set(group.key, contenders[k].first, MedianOf(times[k]), group.single.what);
      ++report_.ways_measured;
    }
    node.measured = true;
    return OkStatus();
  }

 private:
  const Target& target_;
  const TuneOptions& options_;
  Device& device_;
  TuningRecords& records_;
  TuneReport& report_;
};

}  // namespace

StatusOr<TuneReport> Tune(const Graph& graph, const Target& target, const TuneOptions& options,
                          TuningRecords& records) {
  const Clock::time_point start = Clock::now();
  std::vector<Group> groups;
  std::map<std::string, size_t> group_of;
  for (const Node& node : graph.nodes) {
    SingleNode single = TakeOut(graph, node);
    std::string key = NodeKey(single, target, options.threads);
    const auto [at, fresh] = group_of.try_emplace(key, groups.size());
    if (fresh) groups.push_back({.single = std::move(single), .name = node.name, .key = std::move(key)});
    ++groups[at->second].count;
  }
  for (Group& group : groups) group.ways = WaysWorthTrying(group.single.graph, target, options.factor);
  std::erase_if(groups, [](const Group& group) { return group.ways.size() < 2; });
  std::stable_sort(groups.begin(), groups.end(),
                   [](const Group& a, const Group& b) { return a.estimate() > b.estimate(); });

  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, OpenDevice(target.device));
  TuneReport report;
  Tuner tuner(target, options, *device, records, report);
  for (const Group& group : groups) {
    TunedNode node = {.name = group.name, .what = group.single.what, .count = group.count};
    const auto known = [&] {
      const std::map<std::string, double>* times = records.Find(group.key);
      return times != nullptr && std::all_of(group.ways.begin(), group.ways.end(),
                                             [&](const Choice& way) { return times->count(way.ToString()) > 0; });
    };
    if (!known()) {
      if (SecondsSince(start) > options.budget_seconds) {
        ++report.nodes_left;
        continue;
      }
      RETURN_IF_ERROR(tuner.Measure(group, node).WithContext("node '" + group.name + "'"));
    }
    const std::map<std::string, double>* times = records.Find(group.key);
    if (times == nullptr) continue;  // no way worked alone; the report says why
    node.estimated = group.ways[0].ToString();
    const auto best = std::min_element(times->begin(), times->end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    node.best = best->first;
    node.best_us = best->second;
    const auto estimated = times->find(node.estimated);
    node.estimated_us = estimated == times->end() ? 0 : estimated->second;
    report.nodes.push_back(std::move(node));
  }
  return report;
}

}  // namespace tessera
