// How fast dense products, attention and a small MLP are on an NVIDIA card, way by way: kernels alone, between device
// events around 20 replays of a CUDA graph that holds the program's steps `--repeat` times, buffers warm. Each way's
// results are checked first against sums in double of sampled rows.
//
//   bazel-bin/codegen/emit/gpu/gpu_matmul_benchmark [--ptx=FOLDER] [--only=TEXT] [--ways=N] [--way=TEXT]
//   [--target=cuda:sm_90a] [--lock=FILE] [--strict]
//
// --ways=0: every legal way, not only those that are expected to be quick. --way=TEXT: of the products with weights of
// blocks only ways that say so. --lock=FILE: several of these may run at once, of which one takes times while the
// others compile. --strict: f32, f16 and bytes, but not tf32. With --ptx nothing runs: the PTX of every way goes to
// FOLDER, for ptxas. One JSON row a way: name, way, us (median), estimate_us, rel_error.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "graph/passes/pipeline.h"
#include "runtime/device.h"
#include "runtime/testing/timing_lock.h"
#include "tesa/attribute.h"

namespace tessera {
namespace {

struct Options {
  std::string ptx, only, way, lock;
  int ways = 4, repeat = 20;
  bool strict = false;
};

Tensor RandomTensor(DType type, const Shape& shape, std::mt19937_64& rng) {
  Tensor tensor(type, shape);
  std::uniform_real_distribution<float> value(-1, 1);
  std::uniform_int_distribution<int> integer(-127, 127);
  if (type == DType::kF32) {
    float* at = reinterpret_cast<float*>(tensor.mutable_bytes().data());
    for (int64_t k = 0; k < tensor.num_elements(); ++k) at[k] = value(rng);
  } else if (type == DType::kI8) {
    int8_t* at = reinterpret_cast<int8_t*>(tensor.mutable_bytes().data());
    for (int64_t k = 0; k < tensor.num_elements(); ++k) at[k] = static_cast<int8_t>(integer(rng));
  } else {
    for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, value(rng));
  }
  return tensor;
}

// Median microseconds of the program's steps, which a graph holds `repeat` times; the results of one run.
StatusOr<double> Time(Device& device, const Program& program, const std::vector<Tensor>& inputs,
                      std::vector<Tensor>& outputs, int repeat) {
  auto repeated = std::make_shared<Program>(program);
  for (int k = 1; k < repeat; ++k) {
    repeated->steps.insert(repeated->steps.end(), program.steps.begin(), program.steps.end());
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Executable> run, device.Load(repeated, {}));
  std::vector<const void*> from;
  std::vector<void*> to;
  for (const Tensor& input : inputs) from.push_back(input.bytes().data());
  for (Tensor& output : outputs) to.push_back(output.mutable_bytes().data());
  RETURN_IF_ERROR(run->Run(from, to));
  std::vector<double> times;
  for (int k = 0; k < 11; ++k) {
    ASSIGN_OR_RETURN(const double us, run->MeasureUs(3));
    if (k > 0) times.push_back(us / repeat);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// max |y - r| / max |r| over sampled rows of A[m, k] · B[k, n].
double ProductError(const Tensor& a, const Tensor& b, const Tensor& y) {
  const int64_t m = a.shape()[0], k = a.shape()[1], n = b.shape()[1];
  double worst = 0, largest = 0;
  for (int64_t row = 0; row < m; row += std::max<int64_t>(1, m / 7)) {
    std::vector<double> sums(static_cast<size_t>(n), 0);
    for (int64_t d = 0; d < k; ++d) {
      const double left = a.Get(row * k + d);
      for (int64_t c = 0; c < n; ++c) sums[c] += left * b.Get(d * n + c);
    }
    for (int64_t c = 0; c < n; ++c) {
      const double found = y.Get(row * n + c), error = std::abs(found - sums[c]);
      worst = std::isnan(found) ? 1e30 : std::max(worst, error);
      largest = std::max(largest, std::abs(sums[c]));
    }
  }
  return worst / largest;
}

// The same of sampled rows of attention over q, k and v [batch, positions, heads, depth], of scale 1.
double AttentionError(const std::vector<Tensor>& inputs, const Tensor& y, int64_t batch, int64_t heads,
                      int64_t positions, int64_t depth) {
  const auto at = [&](int64_t n, int64_t position, int64_t head) {
    return ((n * positions + position) * heads + head) * depth;
  };
  double worst = 0, largest = 0;
  for (int64_t sample = 0; sample < 40; ++sample) {
    const int64_t n = sample * 7 % batch, head = sample * 5 % heads, query = at(n, sample * 61 % positions, head);
    std::vector<double> weights, sums(static_cast<size_t>(depth), 0);
    double all = 0;
    for (int64_t t = 0; t < positions; ++t) {
      double score = 0;
      for (int64_t d = 0; d < depth; ++d) score += inputs[0].Get(query + d) * inputs[1].Get(at(n, t, head) + d);
      weights.push_back(std::exp(score));
      all += weights.back();
    }
    for (int64_t t = 0; t < positions; ++t) {
      for (int64_t d = 0; d < depth; ++d) sums[d] += weights[t] / all * inputs[2].Get(at(n, t, head) + d);
    }
    for (int64_t d = 0; d < depth; ++d) {
      const double error = std::abs(y.Get(query + d) - sums[d]);
      worst = std::isnan(error) ? 1e30 : std::max(worst, error);
      largest = std::max(largest, std::abs(sums[d]));
    }
  }
  return worst / largest;
}

class Bench {
 public:
  Bench(Options options, Target target, Device* device)
      : options_(std::move(options)), target_(std::move(target)), device_(device) {}

  void Product(int64_t m, int64_t n, int64_t k, DType type) {
    const std::string name =
        internal::Join("matmul_", m, "x", n, "x", k, "_", Name(type), target_.allow_tf32 ? "_tf32" : "");
    if (name.find(options_.only) == std::string::npos) return;
    Tensor a = RandomTensor(type, {m, k}, rng_), w = RandomTensor(type, {k, n}, rng_);
    GraphBuilder builder(name);
    builder.Output(builder.Matmul(builder.Input("a", type, {m, k}), builder.Constant("w", w)));
    const Graph graph = *std::move(builder).Build();
    RunWays(name, graph, {a}, [&](const std::vector<Tensor>& outputs) { return ProductError(a, w, outputs[0]); });
  }

  // Few rows, by the emitters that are made for them; `int4`: weights of 4 bits in blocks of 128, in f32.
  void FewRows(int64_t m, int64_t n, int64_t k, DType type, bool int4) {
    const std::string name = internal::Join("few_rows_", m, "x", n, "x", k, "_", int4 ? "int4" : Name(type));
    if (target_.allow_tf32 || name.find(options_.only) == std::string::npos) return;
    Tensor a = RandomTensor(type, {m, k}, rng_), w = RandomTensor(type, {k, n}, rng_);
    if (int4) {
      const std::span<float> values = w.mutable_data<float>();
      for (int64_t at = 0; at < k * n; ++at) {
        const float scale = 0.01f + 0.001f * static_cast<float>(at / n / 128 * 7 % 5);
        values[static_cast<size_t>(at)] = scale * static_cast<float>(static_cast<int>(rng_() % 16) - 8);
      }
    }
    GraphBuilder builder(name);
    builder.Output(builder.Matmul(builder.Input("a", type, {m, k}), builder.Constant("w", w)));
    const Graph graph = *std::move(builder).Build();
    std::string why;
    for (const Emitter& emitter : AllEmitters()) {
      if (emitter.name.substr(0, 8) != "gpu_gemv") continue;
      for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], target_, &why)) {
        Run(name, graph, Choice{&emitter, way}.ToString(), way.us, {a},
            [&](const std::vector<Tensor>& outputs) { return ProductError(a, w, outputs[0]); });
      }
    }
  }

  // Of one head's width 64, as BERT has it.
  void Attention(int64_t batch, int64_t heads, int64_t positions) {
    constexpr int64_t kDepth = 64;
    const std::string name = internal::Join("attention_", batch, "x", heads, "x", positions);
    if (target_.allow_tf32 || name.find(options_.only) == std::string::npos) return;
    const Shape shape = {batch, positions, heads, kDepth};
    std::vector<Tensor> inputs;
    GraphBuilder builder(name);
    std::vector<ValueId> operands;
    for (const char* operand : {"q", "k", "v"}) {
      inputs.push_back(RandomTensor(DType::kF32, shape, rng_));
      operands.push_back(builder.Input(operand, DType::kF32, shape));
    }
    builder.Output(builder.Attention(operands[0], operands[1], operands[2], 1, ValueId::kNone, "bshd"));
    const Graph graph = *std::move(builder).Build();
    RunWays(name, graph, inputs, [&](const std::vector<Tensor>& outputs) {
      return AttentionError(inputs, outputs[0], batch, heads, positions, kDepth);
    });
  }

  // A product whose weights keep `kept` of their blocks of 64x64, in the ways of gpu_blocks and the best dense one.
  void Blocks(int64_t size, DType type, double kept) {
    const std::string name = internal::Join("blocks_", size, "_", Name(type), "_", kept);
    if (name.find(options_.only) == std::string::npos) return;
    constexpr int64_t kBlock = 64;
    const int64_t across = size / kBlock;
    std::bernoulli_distribution keeps(kept);
    std::vector<uint8_t> blocks(static_cast<size_t>(across * across)), elements(static_cast<size_t>(size * size));
    for (uint8_t& block : blocks) block = keeps(rng_) ? 1 : 0;
    for (int64_t at = 0; at < size * size; ++at) {
      elements[static_cast<size_t>(at)] = blocks[static_cast<size_t>(at / size / kBlock * across + at % size / kBlock)];
    }
    const Attribute tesa = Attribute::FromKept({size, size}, elements, TypeInfo(type).bits);
    Tensor a = RandomTensor(type, {size, size}, rng_), w = tesa.ApplyTo(RandomTensor(type, {size, size}, rng_));
    GraphBuilder builder(name);
    const ValueId x = builder.Input("a", type, {size, size}), weights = builder.Constant("w", w);
    builder.SetTesa(weights, tesa);
    builder.Output(builder.Matmul(x, weights));
    const Graph graph = *std::move(builder).Build();
    std::string why;
    for (const Emitter& emitter : AllEmitters()) {
      const bool dense = emitter.name == "gpu_matmul";
      if (!dense && emitter.name != "gpu_blocks") continue;
      int tried = 0;
      for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], target_, &why)) {
        if (++tried > (dense ? 1 : options_.ways) && (dense || options_.ways > 0)) break;
        if (way.name.find(options_.way) == std::string::npos) continue;
        Run(name, graph, Choice{&emitter, way}.ToString(), way.us, {a},
            [&](const std::vector<Tensor>& outputs) { return ProductError(a, w, outputs[0]); });
      }
    }
  }

  // relu(x · w + b) three times, then a last layer without relu, in the ways that are expected to be quickest.
  void Mlp(int64_t batch, DType type) {
    const std::string name = internal::Join("mlp_", batch, "_", Name(type), target_.allow_tf32 ? "_tf32" : "");
    if (name.find(options_.only) == std::string::npos) return;
    const int64_t widths[] = {1024, 1024, 1024, 512, 10};
    GraphBuilder builder(name);
    const Tensor input = RandomTensor(type, {batch, widths[0]}, rng_);
    ValueId x = builder.Input("x", type, {batch, widths[0]});
    for (int layer = 0; layer < 4; ++layer) {
      const std::string suffix = std::to_string(layer);
      const ValueId w = builder.Constant("w" + suffix, RandomTensor(type, {widths[layer], widths[layer + 1]}, rng_));
      const ValueId bias = builder.Constant("b" + suffix, RandomTensor(type, {widths[layer + 1]}, rng_));
      x = builder.Matmul(x, w);
      x = builder.Add(x, bias);
      if (layer < 3) x = builder.Relu(x);
    }
    builder.Output(x);
    Graph graph = *std::move(builder).Build();
    const Status fused = OptimizeForHost(graph);
    TES_CHECK(fused.ok(), fused);
    Run(name, graph, "", 0, {input}, [](const std::vector<Tensor>&) { return 0.0; });
  }

 private:
  template <typename ErrorOf>
  void RunWays(const std::string& name, const Graph& graph, const std::vector<Tensor>& inputs,
               const ErrorOf& error_of) {
    std::string why;
    int tried = 0;
    for (const Emitter& emitter : AllEmitters()) {
      if (emitter.name.substr(0, 4) != "gpu_") continue;
      for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], target_, &why)) {
        if (++tried > options_.ways && options_.ways > 0) break;
        Run(name, graph, Choice{&emitter, way}.ToString(), way.us, inputs, error_of);
      }
    }
    if (tried == 0) std::cout << name << ": no way: " << why << std::endl;
  }

  template <typename ErrorOf>
  void Run(const std::string& name, const Graph& graph, const std::string& way, double estimate,
           const std::vector<Tensor>& inputs, const ErrorOf& error_of) {
    const StatusOr<CompileResult> compiled = Compile(graph, target_, {.threads = 1, .only_emitter = way});
    if (!compiled.ok()) {
      std::cout << name << " " << way << ": " << compiled.status() << std::endl;
      return;
    }
    if (!options_.ptx.empty()) {
      for (const auto& image : compiled->program->images) {
        std::string file = internal::Join(name, ".", files_++, ".", way, ".ptx");
        std::replace(file.begin(), file.end(), ' ', '_');
        std::ofstream(options_.ptx + "/" + file)
            .write(reinterpret_cast<const char*>(image.bytes.data()), static_cast<std::streamsize>(image.bytes.size()));
      }
      std::cout << name << " " << way << " expected " << estimate << " us" << std::endl;
      return;
    }
    std::vector<Tensor> outputs;
    for (const ProgramPort& port : compiled->program->outputs) outputs.emplace_back(port.type.dtype, port.type.shape);
    const StatusOr<double> us = [&] {
      const TimingLock alone(options_.lock);
      return Time(*device_, *compiled->program, inputs, outputs, options_.repeat);
    }();
    if (!us.ok()) {
      std::cout << name << " " << way << ": " << us.status() << std::endl;
      return;
    }
    std::printf("{\"name\":\"%s\",\"way\":\"%s\",\"us\":%.2f,\"estimate_us\":%.1f,\"rel_error\":%.2g}\n", name.c_str(),
                way.c_str(), *us, estimate, error_of(outputs));
    std::fflush(stdout);
  }

  const Options options_;
  const Target target_;
  Device* device_;
  std::mt19937_64 rng_{1};
  int files_ = 0;
};

int Main(int argc, char** argv) {
  Options options;
  std::string spec = "cuda";
  for (int k = 1; k < argc; ++k) {
    const std::string arg = argv[k];
    const auto value = [&](const char* flag) { return arg.substr(std::strlen(flag)); };
    if (arg.rfind("--ptx=", 0) == 0) options.ptx = value("--ptx=");
    if (arg.rfind("--only=", 0) == 0) options.only = value("--only=");
    if (arg.rfind("--lock=", 0) == 0) options.lock = value("--lock=");
    if (arg.rfind("--way=", 0) == 0) options.way = value("--way=");
    if (arg == "--strict") options.strict = true;
    if (arg.rfind("--ways=", 0) == 0) options.ways = std::stoi(value("--ways="));
    if (arg.rfind("--repeat=", 0) == 0) options.repeat = std::stoi(value("--repeat="));
    if (arg.rfind("--target=", 0) == 0) spec = value("--target=");
  }
  std::unique_ptr<Device> device;
  if (options.ptx.empty()) {
    StatusOr<std::unique_ptr<Device>> opened = OpenDevice("cuda");
    TES_CHECK(opened.ok(), opened.status());
    device = *std::move(opened);
    std::cout << device->Describe() << std::endl;
  }
  for (const bool tf32 : {false, true}) {
    if (tf32 && options.strict) break;
    StatusOr<Target> target = MakeTarget(tf32 ? spec + "+tf32" : spec);
    if (!target.ok()) {
      std::cerr << target.status() << std::endl;
      return 1;
    }
    target->whole_space = options.ways == 0;
    Bench bench(options, *target, device.get());
    const std::vector<DType> types =
        tf32 ? std::vector<DType>{DType::kF32} : std::vector<DType>{DType::kF32, DType::kF16, DType::kI8};
    for (DType type : types) {
      bench.Product(1024, 1024, 1024, type);
      bench.Product(4096, 4096, 4096, type);
      bench.Product(1000, 333, 777, type);
      for (int64_t columns : {512, 10}) bench.Product(1024, columns, columns == 10 ? 512 : 1024, type);  // the MLP's
      // Of BERT-base's layers, batch 32 and 1.
      for (int64_t rows : {4096, 128}) {
        bench.Product(rows, 768, 768, type);
        bench.Product(rows, 3072, 768, type);
        bench.Product(rows, 768, 3072, type);
      }
      // Of MobileNet-V1's 1x1 layers, batch 32 and 1: pixels of an image's side, channels before and behind.
      for (int64_t batch : {32, 1}) {
        for (const auto& [side, before, behind] :
             {std::tuple{112, 32, 64}, {56, 64, 128}, {28, 256, 256}, {14, 512, 512}, {7, 1024, 1024}}) {
          bench.Product(batch * side * side, behind, before, type);
        }
      }
      for (double kept : {0.32, 0.108}) bench.Blocks(4096, type, kept);
      bench.Product(1, 1024, 1024, type);
      bench.Product(32, 1024, 1024, type);
      if (type == DType::kI8) continue;
      for (int64_t rows : {1, 8}) {
        bench.FewRows(rows, 4096, 4096, type, false);
        if (type == DType::kF32) bench.FewRows(rows, 4096, 4096, type, true);
      }
      for (int64_t batch : {1, 32, 1024}) bench.Mlp(batch, type);
      if (type != DType::kF32) continue;
      for (int64_t batch : {1, 32}) bench.Attention(batch, 12, 128);
      bench.Attention(4, 12, 1000);
    }
    for (double kept : {0.32, 0.108}) {
      if (!tf32) bench.Blocks(4096, DType::kBF16, kept);
    }
  }
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) { return tessera::Main(argc, argv); }
