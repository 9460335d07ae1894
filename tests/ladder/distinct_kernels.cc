#include "tests/ladder/distinct_kernels.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/llvm_module.h"
#include "codegen/targets/device_ops.h"
#include "codegen/testing/device_op_probe.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "models/catalog/catalog.h"
#include "tesa/attribute.h"
#include "tesa/random.h"
#include "tests/ladder/ladder_network.h"

namespace tessera {
namespace {

constexpr std::string_view kLadder = "ladder:";

using Numbers = std::map<std::string, int64_t, std::less<>>;

// Weights [k, n] that keep what the numbers say, or are 4-bit integers times a scale for each block of 128.
Tensor Weights(DType type, Numbers& numbers, Random& random, std::optional<Attribute>* tesa) {
  const int64_t k = numbers["k"], n = numbers["n"];
  const bool floats = IsFloat(type);
  Tensor w = RandomTensorIn(random, {type, {k, n}}, floats ? -1 : -100, floats ? 1 : 100);
  if (numbers["int4"] > 0) {
    for (int64_t at = 0; at < k * n; ++at) {
      const float scale = 0.01f + 0.001f * static_cast<float>(at / n / 128 % 5);
      w.Set(at, static_cast<double>(scale * static_cast<float>(random.Int(-8, 7))));
    }
  }
  constexpr int64_t kBlock = 64;
  std::vector<uint8_t> kept(static_cast<size_t>(k * n), 1),
      blocks(static_cast<size_t>((k / kBlock + 1) * (n / kBlock + 1)));
  for (uint8_t& block : blocks) block = random.Int(0, 99) >= numbers["blocks"] ? 1 : 0;
  for (int64_t at = 0; at < k * n; ++at) {
    const int64_t row = at / n, column = at % n;
    if (random.Int(0, 99) < numbers["fine"]) kept[static_cast<size_t>(at)] = 0;
    if (numbers["two_of_four"] > 0 && (row + column) % 4 < 2) kept[static_cast<size_t>(at)] = 0;
    if (blocks[static_cast<size_t>(row / kBlock * (n / kBlock + 1) + column / kBlock)] == 0)
      kept[static_cast<size_t>(at)] = 0;
  }
  if (std::find(kept.begin(), kept.end(), 0) == kept.end()) return w;
  *tesa = Attribute::FromKept(w.shape(), kept, TypeInfo(type).bits);
  return (*tesa)->ApplyTo(w);
}

StatusOr<Graph> BuildNode(const std::string& op, const std::string& type, Numbers numbers) {
  const std::optional<DType> dtype = ParseDType(type);
  if (!dtype) return Error(ErrorCode::kUsageInvalid, op, ": no element type '", type, "'");
  const bool product = op == "product", attention = op == "attention";
  for (const char* extent : {"m", product ? "n" : "m", attention ? "heads" : "m", product || attention ? "k" : "n"}) {
    if (numbers[extent] <= 0) return Error(ErrorCode::kUsageInvalid, op, ": give ", extent);
  }
  Random random(1);
  GraphBuilder builder(op);
  if (attention) {
    const Shape shape = {1, numbers["m"], numbers["heads"], numbers["k"]};
    const ValueId q = builder.Input("q", *dtype, shape), k = builder.Input("k", *dtype, shape);
    builder.Output(builder.Attention(q, k, builder.Input("v", *dtype, shape), 0.125, ValueId::kNone, "bshd"));
  } else if (product) {
    const ValueId x = builder.Input("x", *dtype, {numbers["m"], numbers["k"]});
    std::optional<Attribute> tesa;
    const ValueId w = builder.Constant("w", Weights(*dtype, numbers, random, &tesa));
    if (tesa) builder.SetTesa(w, *tesa);
    builder.Output(builder.Matmul(x, w));
  } else {
    builder.Output(builder.Transpose(builder.Input("x", *dtype, {numbers["m"], numbers["n"]}), {1, 0}));
  }
  return std::move(builder).Build();
}

// What between them the emitters for GPUs are for; images are the networks'.
constexpr const char* kNodes[] = {
    "product:f32:m=256:n=192:k=320",
    "product:f16:m=256:n=192:k=320",
    "product:bf16:m=256:n=192:k=320",
    "product:i8:m=256:n=192:k=320",
    "product:f32:m=33:n=77:k=203",
    "product:f16:m=33:n=77:k=203",
    "product:f32:m=1:n=256:k=512",
    "product:f16:m=8:n=256:k=512",
    "product:i8:m=3:n=256:k=512",
    "product:f32:m=1:n=256:k=512:int4=1",
    "product:f32:m=9:n=256:k=512:int4=1",
    "product:f32:m=256:n=128:k=256:fine=95",
    "product:f32:m=250:n=122:k=250:fine=70",
    "product:f16:m=256:n=128:k=256:fine=95",
    "product:bf16:m=256:n=128:k=256:fine=95",
    "product:i8:m=256:n=128:k=256:fine=95",
    "product:f32:m=256:n=512:k=512:blocks=80",
    "product:f16:m=256:n=512:k=512:blocks=80",
    "product:bf16:m=256:n=512:k=512:blocks=80",
    "product:i8:m=256:n=512:k=512:blocks=80",
    "product:f16:m=250:n=512:k=512:blocks=80:fine=1",
    "product:f16:m=128:n=256:k=512:two_of_four=1",
    "product:bf16:m=128:n=256:k=512:two_of_four=1",
    "product:i8:m=128:n=256:k=512:two_of_four=1",
    "attention:f32:heads=2:m=100:k=64",
    "attention:f16:heads=2:m=100:k=64",
    "attention:bf16:heads=2:m=100:k=64",
    "transpose:f32:m=100:n=130",
    "transpose:f16:m=100:n=130",
    "transpose:i8:m=100:n=130",
};

std::vector<std::string> Split(const std::string& text, char at) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(at, start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

StatusOr<Graph> BuildNetwork(const std::string& text) {
  if (text.substr(0, kLadder.size()) == kLadder) {
    const std::vector<std::string> parts = Split(text.substr(kLadder.size()), '/');
    if (parts.size() == 3) return BuildLadderGraph(parts[0], parts[1], parts[2]);
    return Error(ErrorCode::kUsageInvalid, "expected ladder:NETWORK/PATTERN/PRECISION, found '", text, "'");
  }
  const std::vector<std::string> parts = Split(text, ':');
  CatalogOptions options;
  if (parts.size() > 1) options.batch = std::atoi(parts[1].c_str());
  for (size_t k = 2; k < parts.size(); ++k) {
    const size_t equals = parts[k].find('=');
    if (equals == std::string::npos) return Error(ErrorCode::kUsageInvalid, "expected NAME=NUMBER in '", text, "'");
    options.parameters[parts[k].substr(0, equals)] = std::atoi(parts[k].c_str() + equals + 1);
  }
  if (parts[0] == "product" || parts[0] == "attention" || parts[0] == "transpose") {
    return BuildNode(parts[0], parts.size() > 1 ? parts[1] : "", options.parameters);
  }
  return BuildCatalogModel(parts[0], options);
}

}  // namespace

Status KernelCollection::Add(const std::string& network) {
  if (network.rfind("ops:", 0) == 0) return AddRandomOps(std::atoi(network.c_str() + 4));
  if (network == "device_ops") return AddDeviceOps();
  if (network == "emitters") return AddEmitters();
  ASSIGN_OR_RETURN(Graph graph, BuildNetwork(network));
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(std::move(graph)));
  Options options;
  options.target = target_.name;
  ASSIGN_OR_RETURN(const Graph optimized, OptimizedGraphOf(model, options));
  return AddGraph(optimized, network);
}

Status KernelCollection::AddGraph(const Graph& graph, const std::string& network, const std::string& only_emitter) {
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(graph, target_, {.only_emitter = only_emitter}));
  // "node 'y': gpu_matmul:mma 64x64 …; …"
  for (const std::string& note : plan.notes) {
    const size_t chosen = note.find("': ");
    if (chosen == std::string::npos) continue;
    ++emitters_[note.substr(chosen + 3, note.find_first_of(":;", chosen + 3) - chosen - 3)];
  }
  for (const PlanStep& step : plan.steps) {
    std::string key = step.kernel.key + "/" + std::to_string(step.kernel.block_threads);
    for (bool alias : step.kernel.may_alias) key += alias ? '1' : '0';
    auto [it, inserted] = by_key_.try_emplace(key);
    DistinctKernel& kernel = it->second;
    if (inserted) {
      kernel.spec = step.kernel;
      kernel.symbol = "tessera_" + step.kernel.family + "_" + std::to_string(by_key_.size());
      kernel.node = network + " " + step.label;
    }
    const Launch& launch = step.launch;
    const int64_t tasks = step.serial ? 1 : step.tasks;
    const int64_t blocks[] = {launch.by_blocks() ? launch.x : (tasks + kTaskBlockThreads - 1) / kTaskBlockThreads,
                              launch.y, launch.z};
    for (int axis = 0; axis < 3; ++axis) kernel.blocks[axis] = std::max(kernel.blocks[axis], blocks[axis]);
    kernel.threads = std::max(kernel.threads, launch.by_blocks() ? launch.threads : kTaskBlockThreads);
    kernel.shared_bytes = std::max(kernel.shared_bytes, launch.shared_bytes);
  }
  return OkStatus();
}

Status KernelCollection::AddRandomOps(int cases) {
  std::mt19937_64 rng(1);
  for (const OpDef& def : AllOps()) {
    for (int k = cases; k > 0; --k) {
      RandomCase random_case = RandomNode(def.op, rng);
      if (k % 2 == 0 && random_case.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(random_case, rng);
      RETURN_IF_ERROR(AddGraph(random_case.graph, std::string(def.name)));
    }
  }
  return OkStatus();
}

// Of ways that differ in numbers alone the quickest.
Status KernelCollection::AddEmitters() {
  for (const std::string node : kNodes) {
    ASSIGN_OR_RETURN(const Graph graph, BuildNetwork(node));
    for (const Emitter& emitter : AllEmitters()) {
      if (emitter.targets != EmitterTargets::kGpu) continue;
      std::string why;
      std::vector<Way> ways = WaysOf(emitter, graph, graph.nodes[0], target_, &why);
      std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) { return a.us < b.us; });
      std::set<std::string> kinds;
      for (const Way& way : ways) {
        std::string kind = way.name;
        std::erase_if(kind, [](char c) { return c >= '0' && c <= '9'; });
        if (!kinds.insert(kind).second) continue;
        const std::string only = Choice{&emitter, way}.ToString();
        RETURN_IF_ERROR(AddGraph(graph, node + " by " + only, only));
      }
    }
  }
  return OkStatus();
}

std::map<std::string, int> KernelCollection::emitters() const {
  std::map<std::string, int> counts;
  for (const Emitter& emitter : AllEmitters()) {
    if (emitter.targets != EmitterTargets::kGpu) continue;
    const auto found = emitters_.find(std::string(emitter.name));
    counts[std::string(emitter.name)] = found == emitters_.end() ? 0 : found->second;
  }
  return counts;
}

// The rows of device_ops.def that the chip has, a kernel each; a device op of another chip is refused by its name.
Status KernelCollection::AddDeviceOps() {
  for (const DeviceOpRow& row : AllDeviceOps()) {
    DistinctKernel kernel = {.spec = DeviceOpProbe(row), .symbol = {}, .node = "device op " + std::string(row.name)};
    kernel.symbol = "tessera_probe_" + std::to_string(by_key_.size());
    std::fill_n(kernel.blocks, 3, 1);
    kernel.threads = kernel.spec.block_threads;
    const KernelSpec* const spec[] = {&kernel.spec};
    const StatusOr<std::vector<std::byte>> code = CompileKernels(spec, {&kernel.symbol, 1}, target_);
    if (code.status().code() == ErrorCode::kTargetUnsupported) continue;
    RETURN_IF_ERROR(code.status());
    by_key_.emplace(kernel.spec.key, std::move(kernel));
  }
  return OkStatus();
}

StatusOr<std::vector<std::vector<std::byte>>> KernelCollection::Compile(size_t per_file) {
  std::vector<DistinctKernel*> all;
  for (auto& [key, kernel] : by_key_) all.push_back(&kernel);
  const size_t count = (all.size() + per_file - 1) / per_file;
  // Neighbours by key are alike and take long together: spread them.
  for (size_t k = 0; k < all.size(); ++k) all[k]->file = k % count;
  std::vector<std::vector<std::byte>> files(count);
  std::atomic<size_t> next{0};
  const auto work = [&]() -> Status {
    for (size_t file = next.fetch_add(1); file < count; file = next.fetch_add(1)) {
      std::vector<const KernelSpec*> specs;
      std::vector<std::string> symbols;
      for (size_t k = file; k < all.size(); k += count) {
        specs.push_back(&all[k]->spec);
        symbols.push_back(all[k]->symbol);
      }
      ASSIGN_OR_RETURN(files[file], CompileKernels(specs, symbols, target_));
    }
    return OkStatus();
  };
  std::vector<std::future<Status>> others;
  for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t) {
    others.push_back(std::async(std::launch::async, work));
  }
  Status status = work();
  for (std::future<Status>& other : others) {
    if (const Status done = other.get(); status.ok()) status = done;
  }
  RETURN_IF_ERROR(status);
  return files;
}

std::vector<const DistinctKernel*> KernelCollection::kernels() const {
  std::vector<const DistinctKernel*> kernels;
  for (const auto& [key, kernel] : by_key_) kernels.push_back(&kernel);
  return kernels;
}

}  // namespace tessera
