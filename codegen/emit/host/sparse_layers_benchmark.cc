// Networks of many different sparse layers, whose code and weights together are larger than the caches: 12 pairs of
// 768 -> 3072 -> 768, 128 columns, from graph to result, on one thread and on two.
//
//   bazel run //codegen/emit/host:sparse_layers_benchmark -- 2          # seconds for each group of lines
//
// Times are of one layer of 3072x768, in the mean, of the best and of the median run; `2 layers` are the same two again
// and again, whose code and weights stay in the caches. The ratio is over dense products at 90 % of the peak of as many
// cores, measured in the same run. At the end of a line, the times of packing + product in the layers that widen and in
// those that narrow, on one of the threads.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emit/testing/benchmark_target.h"
#include "codegen/emit/testing/peak_flops.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "runtime/device.h"
#include "tesa/attribute.h"

namespace tessera {
namespace {

constexpr int64_t kColumns = 128, kNarrow = 768, kWide = 3072;

double Peak(bool integers) {
  static const double peaks[] = {MeasurePeakFlops(BenchmarkTarget()), MeasurePeakInt8(BenchmarkTarget())};
  return peaks[integers];
}

// Layers of f32 scattered, or of int8 in blocks of 1x4, `kept` per cent of them.
Graph MakeGraph(int layers, int kept, bool integers) {
  GraphBuilder b("layers");
  std::mt19937_64 random(11);
  ValueId x = b.Input("x", integers ? DType::kU8 : DType::kF32, {kColumns, kNarrow});
  for (int layer = 0; layer < layers; ++layer) {
    const int64_t rows = layer % 2 == 0 ? kWide : kNarrow, depth = kWide + kNarrow - rows;
    Tensor weights(integers ? DType::kI8 : DType::kF32, Shape({rows, depth}));
    Bitmap bits(rows * depth);
    bool keeps = false;
    for (int64_t k = 0; k < rows * depth; ++k) {
      if (!integers || k % 4 == 0) keeps = static_cast<int>(random() % 100) < kept;
      bits.Set(k, keeps);
      if (keeps) weights.Set(k, integers ? static_cast<double>(random() % 255) - 127 : 0.01 * (random() % 100));
    }
    const ValueId w = b.Constant("w" + std::to_string(layer), weights);
    b.SetTesa(w, Attribute::FromKept(weights.shape(), bits, TypeInfo(weights.dtype()).bits));
    const ValueId product = b.Matmul(x, w, false, true);
    BodyBuilder body;
    if (integers) {
      const auto f32 = [&](Scalar value) { return body.Narrow(value, DType::kF32); };
      const Scalar sum = body.Input(DType::kI32), scale = body.Input(DType::kF32), zero = body.Input(DType::kF32);
      const Scalar scaled = f32(body.Cast(sum, DType::kF32) * scale);
      const Scalar level = RoundEven(Min(Max(f32(scaled + zero), 0.0), 255.0));
      x = b.WithEpilogue(product, body.Finish(body.Cast(level, DType::kI32)),
                         {b.Constant("scale" + std::to_string(layer), Tensor::Full(DType::kF32, {rows}, 0.001)),
                          b.Constant("zero" + std::to_string(layer), Tensor::Full(DType::kF32, {rows}, 128))},
                         DType::kU8);
    } else {
      const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
      x = b.WithEpilogue(product, body.Finish(Max(sum * 0.01, 0.0)),
                         {b.Constant("bias" + std::to_string(layer), Tensor::Full(DType::kF32, {rows}, 0.25))},
                         DType::kF32);
    }
  }
  b.Output(x);
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Case {
  std::string emitter;
  bool integers;
  int kept, layers, threads;
};

// One network, loaded and ready.
class Network {
 public:
  explicit Network(const Case& c) : case_(c) {
    const Graph graph = MakeGraph(c.layers, c.kept, c.integers);
    StatusOr<CompileResult> compiled = Compile(graph, BenchmarkTarget(), {.only_emitter = c.emitter});
    TES_CHECK(compiled.ok(), compiled.status());
    compiled_ = *std::move(compiled);
    StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
    TES_CHECK(device.ok(), device.status());
    device_ = *std::move(device);
    StatusOr<std::unique_ptr<Executable>> executable = device_->Load(compiled_.program, {.threads = c.threads});
    TES_CHECK(executable.ok(), executable.status());
    executable_ = *std::move(executable);
    executable_->SetProfiling(true);
    input_ = Tensor::Full(c.integers ? DType::kU8 : DType::kF32, {kColumns, kNarrow}, 3);
    output_ = Tensor(input_.dtype(), {kColumns, kNarrow});
  }
  void Run() {
    const void* const from[] = {input_.bytes().data()};
    void* const to[] = {output_.mutable_bytes().data()};
    const double start = Seconds();
    TES_CHECK(executable_->Run(from, to).ok());
    times_.push_back(Seconds() - start);
    if (times_.size() == 1) steps_.assign(4, 1e30);
    // Packing and product of even layers, then of odd ones.
    const std::span<const int64_t> ns = executable_->step_nanoseconds();
    std::vector<double> sums(4);
    for (size_t s = 0; s < ns.size(); ++s) sums[s % 4] += static_cast<double>(ns[s]) / 1000 / (case_.layers / 2);
    for (int k = 0; k < 4; ++k) steps_[k] = std::min(steps_[k], sums[k]);
  }
  void Print() {
    std::sort(times_.begin(), times_.end());
    const double best = times_.front() / case_.layers, median = times_[times_.size() / 2] / case_.layers;
    const double dense = 2.0 * kColumns * kNarrow * kWide / (0.9 * Peak(case_.integers) * case_.threads);
    std::printf(
        "%-29s %-8s %3d %% kept %2d layers %d threads %9.1f us best %9.1f median %6.2fx  code %4.1f MiB, %4.1f; wide "
        "%.0f + %.0f, narrow %.0f + %.0f\n",
        case_.emitter.c_str(), case_.integers ? "int8-1x4" : "f32", case_.kept, case_.layers, case_.threads, best * 1e6,
        median * 1e6, dense / best, static_cast<double>(compiled_.code_bytes) / (1 << 20),
        static_cast<double>(compiled_.program->constants.size()) / (1 << 20), steps_[0], steps_[1], steps_[2],
        steps_[3]);
    std::fflush(stdout);
  }

 private:
  const Case case_;
  CompileResult compiled_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Executable> executable_;
  Tensor input_, output_;
  std::vector<double> times_, steps_;
};

// The same layers on one thread and on two, few and many of them, in turn.
void Measure(const std::string& emitter, bool integers, int kept, double seconds) {
  std::vector<std::unique_ptr<Network>> networks;
  for (const int layers : {2, 24}) {
    for (const int threads : {1, 2}) {
      networks.push_back(std::make_unique<Network>(Case{emitter, integers, kept, layers, threads}));
    }
  }
  for (auto& network : networks) network->Run();
  for (const double start = Seconds(); Seconds() - start < seconds;) {
    for (auto& network : networks) {
      for (int repeat = 0; repeat < 3; ++repeat) network->Run();
    }
  }
  for (auto& network : networks) network->Print();
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 2;
  const std::string only = argc > 2 ? argv[2] : "";
  for (const bool integers : {false, true}) {
    for (const int kept : {10, 20}) {
      for (const std::string emitter : {"sparse_stream:whole depth", "sparse_stream:depth in chunks", "sparse_loop"}) {
        if (emitter.find(only) != std::string::npos) tessera::Measure(emitter, integers, kept, seconds);
      }
    }
  }
  return 0;
}
