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
#include "codegen/on_threads.h"
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
  // The program's steps are run `repeat` times in a row; `program` may say why there is none.
  static StatusOr<Contender> Make(const Graph& graph, const StatusOr<std::shared_ptr<const Program>>& program,
                                  Device& device, int threads, int repeat) {
    RETURN_IF_ERROR(program.status());
    Contender self;
    self.repeat_ = repeat;
    auto repeated = std::make_shared<Program>(**program);
    for (int k = 1; k < repeat; ++k) {
      repeated->steps.insert(repeated->steps.end(), (*program)->steps.begin(), (*program)->steps.end());
    }
    ASSIGN_OR_RETURN(self.executable_, device.Load(std::move(repeated), {.threads = threads}));
    for (ValueId id : graph.outputs) self.outputs_.emplace_back(graph[id].type.dtype, graph[id].type.shape);
    for (Tensor& output : self.outputs_) self.to_.push_back(output.mutable_bytes().data());
    return self;
  }

  Status Run(const std::vector<const void*>& inputs) { return executable_->Run(inputs, to_); }
  // By the device's clock, after a Run: the mean of as many as take `seconds`.
  StatusOr<double> DeviceUs(double seconds) {
    if (device_runs_ == 0) {
      ASSIGN_OR_RETURN(const double us, executable_->MeasureUs(1));
      constexpr double kMostRuns = 1000;
      device_runs_ = static_cast<int>(std::clamp(seconds * 1e6 / std::max(us, 1.0), 1.0, kMostRuns));
    }
    ASSIGN_OR_RETURN(const double us, executable_->MeasureUs(device_runs_));
    return us / repeat_;
  }
  const std::vector<Tensor>& outputs() const { return outputs_; }

 private:
  Contender() = default;
  std::unique_ptr<Executable> executable_;
  std::vector<Tensor> outputs_;
  std::vector<void*> to_;
  int repeat_ = 1, device_runs_ = 0;
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
    // Assembling takes longest, so that all ways are compiled at once.
    std::vector<StatusOr<std::shared_ptr<const Program>>> programs(group.ways.size(), std::shared_ptr<const Program>());
    OnThreads(0, programs.size(), [&](size_t k) {
      StatusOr<CompileResult> compiled = Compile(
          graph, target_, {.threads = 1, .only_emitter = group.ways[k].ToString(), .run_threads = options_.threads});
      programs[k] = compiled.ok() ? StatusOr<std::shared_ptr<const Program>>(compiled->program) : compiled.status();
    });
    // A graph of one short kernel is mostly its launch.
    constexpr double kGraphUs = 200, kMostRepeats = 32;
    const double least_us = std::max(group.ways[0].way.us, 0.1);
    const int repeat = target_.IsGpu() ? static_cast<int>(std::clamp(kGraphUs / least_us, 1.0, kMostRepeats)) : 1;
    std::vector<std::pair<std::string, Contender>> contenders;
    for (size_t k = 0; k < group.ways.size(); ++k) {
      const Choice& way = group.ways[k];
      const auto problem = [&](auto... pieces) {
        report_.problems.push_back(internal::Join("node '", group.name, "', ", way.ToString(), ": ", pieces...));
      };
      StatusOr<Contender> made = Contender::Make(graph, programs[k], device_, options_.threads, repeat);
      const Status ran = made.ok() ? made->Run(from) : made.status();
      if (!ran.ok()) {
        problem(ran.message());
        continue;
      }
      bool agrees = true;
      for (size_t o = 0; !contenders.empty() && o < made->outputs().size(); ++o) {
        agrees = agrees && Agree(graph, made->outputs()[o], contenders[0].second.outputs()[o]);
      }
      if (!agrees) {
        problem("its result differs from that of ", contenders[0].first);
        continue;
      }
      contenders.emplace_back(way.ToString(), *std::move(made));
    }
    if (contenders.empty()) return OkStatus();
    ASSIGN_OR_RETURN(const RoundTimes times, Time(contenders, from));
    const std::string what = internal::Join(group.single.what, target_.IsGpu() ? " on " + target_.cpu : "");
    for (size_t k = 0; k < contenders.size(); ++k) {
      records_.Set(group.key, contenders[k].first, MedianOf(times[k]), what);
      ++report_.ways_measured;
    }
    node.measured = true;
    return OkStatus();
  }

 private:
  StatusOr<RoundTimes> Time(std::vector<std::pair<std::string, Contender>>& contenders,
                            const std::vector<const void*>& from) {
    const double seconds = options_.round_ms / 1000;
    if (target_.IsGpu()) {
      std::vector<std::function<StatusOr<double>()>> clocks;
      for (auto& [way, contender] : contenders)
        clocks.push_back([=, &one = contender] { return one.DeviceUs(seconds); });
      return TimeRounds(clocks, options_.rounds);
    }
    std::vector<std::function<Status()>> runs;
    for (auto& [way, contender] : contenders) runs.push_back([&from, &one = contender] { return one.Run(from); });
    return TimeRounds(runs, options_.rounds, seconds);
  }

  const Target& target_;
  const TuneOptions& options_;
  Device& device_;
  TuningRecords& records_;
  TuneReport& report_;
};

}  // namespace

StatusOr<TuneReport> Tune(const Graph& graph, const Target& tuned_for, const TuneOptions& options,
                          TuningRecords& records) {
  const Clock::time_point start = Clock::now();
  if (tuned_for.IsEmulated()) {
    return Error(ErrorCode::kTargetUnsupported, "target '", tuned_for.name,
                 "' runs a card's kernels thread by thread: how long that takes says nothing of the card; tune with "
                 "cuda where there is one");
  }
  Target target = tuned_for;
  target.whole_space = true;
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
