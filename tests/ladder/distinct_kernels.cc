#include "tests/ladder/distinct_kernels.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <optional>
#include <random>
#include <thread>

#include "codegen/compile.h"
#include "codegen/llvm_module.h"
#include "codegen/targets/device_ops.h"
#include "codegen/testing/device_op_probe.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "models/catalog/catalog.h"
#include "tesa/random.h"
#include "tests/ladder/ladder_network.h"

namespace tessera {
namespace {

constexpr std::string_view kLadder = "ladder:";

StatusOr<Graph> BuildProduct(const std::string& type, std::map<std::string, int64_t, std::less<>> extents) {
  const std::optional<DType> dtype = ParseDType(type);
  if (!dtype) return Error(ErrorCode::kUsageInvalid, "product: no element type '", type, "'");
  for (const char* extent : {"m", "n", "k"}) {
    if (extents[extent] <= 0) return Error(ErrorCode::kUsageInvalid, "product: give m, n and k");
  }
  Random random(1);
  const Shape weights{extents["k"], extents["n"]};
  GraphBuilder builder("product");
  const ValueId x = builder.Input("x", *dtype, {extents["m"], extents["k"]});
  const bool floats = IsFloat(*dtype);
  builder.Output(builder.Matmul(
      x, builder.Constant("w", RandomTensorIn(random, {*dtype, weights}, floats ? -1 : -100, floats ? 1 : 100))));
  return std::move(builder).Build();
}

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
  if (parts[0] == "product") return BuildProduct(parts.size() > 1 ? parts[1] : "", options.parameters);
  return BuildCatalogModel(parts[0], options);
}

}  // namespace

Status KernelCollection::Add(const std::string& network) {
  if (network.rfind("ops:", 0) == 0) return AddRandomOps(std::atoi(network.c_str() + 4));
  if (network == "device_ops") return AddDeviceOps();
  ASSIGN_OR_RETURN(Graph graph, BuildNetwork(network));
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(std::move(graph)));
  Options options;
  options.target = target_.name;
  ASSIGN_OR_RETURN(const Graph optimized, OptimizedGraphOf(model, options));
  return AddGraph(optimized, network);
}

Status KernelCollection::AddGraph(const Graph& graph, const std::string& network) {
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(graph, target_, {}));
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
