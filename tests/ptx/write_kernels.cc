// Writes every distinct kernel of networks for an NVIDIA chip as PTX, with how each is launched: what assembled_test.py
// hands to NVIDIA's assembler. No card is needed.
//
//   write_kernels sm_90a FOLDER mlp:1 mlp:32 mobilenet_v1:1 bert_base:1:layers=2 ops:3
//
// A network is NAME:BATCH and perhaps parameters of the catalog; ops:N stands for N random cases of every op, with all
// its types, and product:TYPE:m=M:n=N:k=K for one matmul with a constant. Kernels that networks share are written once;
// the file FOLDER/kernels.jsonl has a line for each: symbol, file, the networks' first node that uses it, its largest
// launch. Many kernels go into one file, as in a program, and files are compiled on all processors.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <future>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "codegen/compile.h"
#include "codegen/llvm_module.h"
#include "codegen/target.h"
#include "codegen/targets/device_ops.h"
#include "codegen/testing/device_op_probe.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "models/catalog/catalog.h"
#include "tesa/random.h"

namespace tessera {
namespace {

struct Kernel {
  KernelSpec spec;
  std::string symbol, node;
  int64_t blocks[3] = {0, 1, 1};
  int64_t threads = 0, shared_bytes = 0;
};

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

StatusOr<Graph> Build(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(':', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
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

Status Add(const Graph& graph, const std::string& network, const Target& target,
           std::map<std::string, Kernel>& kernels) {
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(graph, target, {}));
  for (const PlanStep& step : plan.steps) {
    std::string key = step.kernel.key + "/" + std::to_string(step.kernel.block_threads);
    for (bool alias : step.kernel.may_alias) key += alias ? '1' : '0';
    auto [it, inserted] = kernels.try_emplace(key);
    Kernel& kernel = it->second;
    if (inserted) {
      kernel.spec = step.kernel;
      kernel.symbol = "tessera_" + step.kernel.family + "_" + std::to_string(kernels.size());
      kernel.node = network + " " + step.label;
    }
    // Where the driver chooses, it takes blocks of 128 threads, a task each (runtime/drivers/cuda_device.cc).
    const Launch& launch = step.launch;
    const int64_t tasks = step.serial ? 1 : step.tasks;
    const int64_t blocks[] = {launch.by_blocks() ? launch.x : (tasks + 127) / 128, launch.y, launch.z};
    for (int axis = 0; axis < 3; ++axis) kernel.blocks[axis] = std::max(kernel.blocks[axis], blocks[axis]);
    kernel.threads = std::max<int64_t>(kernel.threads, launch.by_blocks() ? launch.threads : 128);
    kernel.shared_bytes = std::max(kernel.shared_bytes, launch.shared_bytes);
  }
  return OkStatus();
}

// The rows of device_ops.def that the chip has, a kernel each; a device op of another chip is refused by its name.
Status AddDeviceOps(const Target& target, std::map<std::string, Kernel>& kernels) {
  for (const DeviceOpRow& row : AllDeviceOps()) {
    Kernel kernel = {.spec = DeviceOpProbe(row), .node = "device op " + std::string(row.name)};
    kernel.symbol = "tessera_probe_" + std::to_string(kernels.size());
    std::fill_n(kernel.blocks, 3, 1);
    kernel.threads = kernel.spec.block_threads;
    const KernelSpec* const spec[] = {&kernel.spec};
    const StatusOr<std::vector<std::byte>> ptx = CompileKernels(spec, {&kernel.symbol, 1}, target);
    if (ptx.status().code() == ErrorCode::kTargetUnsupported) continue;
    RETURN_IF_ERROR(ptx.status());
    kernels.emplace(kernel.spec.key, std::move(kernel));
  }
  return OkStatus();
}

Status Collect(const std::string& network, const Target& target, std::map<std::string, Kernel>& kernels) {
  if (network.rfind("ops:", 0) == 0) {
    std::mt19937_64 rng(1);
    for (const OpDef& def : AllOps()) {
      for (int k = std::atoi(network.c_str() + 4); k > 0; --k) {
        RandomCase random_case = RandomNode(def.op, rng);
        if (k % 2 == 0 && random_case.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(random_case, rng);
        RETURN_IF_ERROR(Add(random_case.graph, std::string(def.name), target, kernels));
      }
    }
    return OkStatus();
  }
  if (network == "device_ops") return AddDeviceOps(target, kernels);
  ASSIGN_OR_RETURN(Graph graph, Build(network));
  ASSIGN_OR_RETURN(const Model model, ModelFromGraph(std::move(graph)));
  Options options;
  options.target = target.name;
  ASSIGN_OR_RETURN(const Graph optimized, OptimizedGraphOf(model, options));
  return Add(optimized, network, target, kernels);
}

Status Write(const std::string& chip, const std::string& folder, const std::vector<std::string>& networks) {
  ASSIGN_OR_RETURN(const Target target, MakeTarget("cuda:" + chip));
  std::map<std::string, Kernel> by_key;
  for (const std::string& network : networks) {
    RETURN_IF_ERROR(Collect(network, target, by_key).WithContext(network));
  }
  std::vector<const Kernel*> kernels;
  for (const auto& [key, kernel] : by_key) kernels.push_back(&kernel);
  constexpr size_t kPerFile = 16;
  const size_t files = (kernels.size() + kPerFile - 1) / kPerFile;
  std::atomic<size_t> next{0};
  const auto work = [&]() -> Status {
    for (size_t file = next.fetch_add(1); file < files; file = next.fetch_add(1)) {
      std::vector<const KernelSpec*> specs;
      std::vector<std::string> symbols;
      // Neighbours by key are alike and take long together: spread them.
      for (size_t k = file; k < kernels.size(); k += files) {
        specs.push_back(&kernels[k]->spec);
        symbols.push_back(kernels[k]->symbol);
      }
      ASSIGN_OR_RETURN(const std::vector<std::byte> ptx, CompileKernels(specs, symbols, target));
      RETURN_IF_ERROR(WriteFileAtomically(folder + "/" + std::to_string(file) + ".ptx",
                                          {reinterpret_cast<const char*>(ptx.data()), ptx.size()}));
    }
    return OkStatus();
  };
  std::vector<std::future<Status>> others;
  for (unsigned t = 1; t < std::thread::hardware_concurrency(); ++t)
    others.push_back(std::async(std::launch::async, work));
  Status status = work();
  for (std::future<Status>& other : others) {
    if (const Status done = other.get(); status.ok()) status = done;
  }
  RETURN_IF_ERROR(status);
  std::string list;
  for (size_t k = 0; k < kernels.size(); ++k) {
    const Kernel& kernel = *kernels[k];
    JsonWriter json;
    json.BeginObject().Key("symbol").String(kernel.symbol).Key("file").String(std::to_string(k % files) + ".ptx");
    json.Key("node").String(kernel.node).Key("blocks").BeginArray();
    for (int64_t blocks : kernel.blocks) json.Number(blocks);
    json.EndArray().Key("threads").Number(kernel.threads).Key("shared_bytes").Number(kernel.shared_bytes).EndObject();
    list += json.text() + "\n";
  }
  return WriteFileAtomically(folder + "/kernels.jsonl", list);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: write_kernels CHIP FOLDER NETWORK…\n");
    return 2;
  }
  const tessera::Status status = tessera::Write(argv[1], argv[2], {argv + 3, argv + argc});
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
