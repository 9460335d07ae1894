// Sparse products against dense ones: the time of all steps of a node (packing of activations, kernel, bias and ReLU;
// of integers bias, scale and the way back to u8), one thread, operands warm.
//
//   bazel run //codegen/emit/host:scattered_benchmark -- --benchmark_filter='512x512x192'
//   bazel run //codegen/emit/host:scattered_benchmark -- --grid      # estimate and time of every emitter, and the
//   choice TESSERA_TARGET=host:x86-64-v3 bazel run …                   # the same for AVX2
//
// `over_dense` is against 2 · M · N · K / (0.9 · peak), the peak measured in the same run; `dense` rows are our own
// dense kernels with the same masked weights; `kernel_over_dense` leaves packing out. The names are what is kept (f32
// scattered, int8 scattered, int8 in blocks of 1x4), rows x depth x columns and per cent kept.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emit/scattered_stream.h"
#include "codegen/emit/testing/benchmark_target.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/emit/testing/peak_flops.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "tesa/attribute.h"

namespace tessera {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double PeakFlops(bool integers) {
  static const double peaks[] = {MeasurePeakFlops(BenchmarkTarget()), MeasurePeakInt8(BenchmarkTarget())};
  return peaks[integers];
}

enum class Kept { kF32, kInt8, kInt8Blocks };
constexpr const char* kKeptNames[] = {"f32", "int8", "int8-1x4"};

struct Problem {
  Kept kept;
  int64_t rows, depth, columns;
  double density;
  bool integers() const { return kept != Kept::kF32; }
  double flops() const { return 2.0 * static_cast<double>(rows * depth) * static_cast<double>(columns); }
  std::string Name() const {
    return internal::Join(kKeptNames[static_cast<int>(kept)], "/", rows, "x", depth, "x", columns,
                          "/kept:", static_cast<int>(density * 100 + 0.5));
  }
};

// relu(x · Wᵀ + bias) in f32; of integers round(clamp((x · Wᵀ + bias) * scale + zero)) in u8, as a quantised layer that
// the passes have been over.
Graph MakeGraph(const Problem& p) {
  GraphBuilder b("sparse");
  std::mt19937_64 random(7);
  const DType w_type = p.integers() ? DType::kI8 : DType::kF32, x_type = p.integers() ? DType::kU8 : DType::kF32;
  Tensor weights(w_type, Shape({p.rows, p.depth}));
  std::vector<uint8_t> kept;
  bool keeps = false;
  for (int64_t k = 0; k < weights.num_elements(); ++k) {
    if (p.kept != Kept::kInt8Blocks || k % p.depth % 4 == 0) keeps = std::bernoulli_distribution(p.density)(random);
    kept.push_back(keeps ? 1 : 0);
    weights.Set(k, p.integers() ? static_cast<double>(random() % 255) - 127
                                : std::uniform_real_distribution<double>(-1, 1)(random));
  }
  const Attribute tesa = Attribute::FromKept(weights.shape(), kept, TypeInfo(w_type).bits);
  const ValueId x = b.Input("x", x_type, {p.columns, p.depth});
  const ValueId w = b.Constant("w", tesa.ApplyTo(weights));
  b.SetTesa(w, tesa);
  const ValueId product = b.Matmul(x, w, false, true);
  BodyBuilder body;
  if (p.integers()) {
    const auto f32 = [&](Scalar value) { return body.Narrow(value, DType::kF32); };
    const Scalar sum = body.Input(DType::kI32) + body.Input(DType::kI32);
    const Scalar scaled = f32(body.Cast(sum, DType::kF32) * body.Input(DType::kF32));
    const Scalar level = RoundEven(Min(Max(f32(scaled + body.Input(DType::kF32)), 0.0), 255.0));
    b.Output(b.WithEpilogue(product, body.Finish(body.Cast(level, DType::kI32)),
                            {b.Constant("offset", Tensor::Full(DType::kI32, {p.rows}, 100)),
                             b.Constant("scale", Tensor::Full(DType::kF32, {p.rows}, 0.001)),
                             b.Constant("zero", Tensor::Full(DType::kF32, {p.rows}, 128))},
                            DType::kU8));
  } else {
    const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
    const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {p.rows}, 0.25));
    b.Output(b.WithEpilogue(product, body.Finish(Max(sum, 0.0)), {bias}, DType::kF32));
  }
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

// All steps of a plan, ready to run one after the other.
class Runner {
 public:
  Runner(const Graph& graph, const std::string& emitter) {
    StatusOr<Plan> plan = MakePlan(graph, BenchmarkTarget(), {.only_emitter = emitter});
    TES_CHECK(plan.ok(), plan.status());
    plan_ = *std::move(plan);
    int64_t scratch = 0;
    for (const PlanBuffer& buffer : plan_.buffers) {
      Tensor bytes(DType::kU8, Shape({buffer.bytes}));
      if (buffer.kind == BufferClass::kConstant) {
        std::memcpy(bytes.mutable_bytes().data(), buffer.constant.bytes().data(), buffer.bytes);
      } else if (buffer.kind == BufferClass::kInput) {
        const DType type = graph[graph.inputs[0]].type.dtype;
        bytes =
            type == DType::kU8 ? Tensor::Full(type, {buffer.bytes}, 77) : Tensor::Full(type, {buffer.bytes / 4}, 0.5);
      }
      buffers_.push_back(std::move(bytes));
    }
    for (const PlanStep& step : plan_.steps) {
      StatusOr<KernelRunner> run = KernelRunner::Make(step.kernel, BenchmarkTarget());
      TES_CHECK(run.ok(), run.status());
      code_bytes_ += run->code_bytes();
      kernels_.push_back(*std::move(run));
      args_.emplace_back();
      for (const StepArg& arg : step.args) {
        args_.back().push_back(buffers_[arg.buffer].mutable_bytes().data() + arg.offset);
      }
      scratch = std::max(scratch, step.scratch_bytes);
    }
    scratch_.resize(scratch + 64);
  }
  void operator()() {
    for (size_t s = 0; s < kernels_.size(); ++s) Step(s);
  }
  int64_t code_bytes() const { return code_bytes_; }
  const std::string& note() const { return plan_.notes.back(); }
  void Step(size_t s) { kernels_[s](args_[s], 0, plan_.steps[s].tasks, scratch()); }
  // The least time of a run, in microseconds, over about `seconds`; of all steps, or of one.
  double BestMicroseconds(double seconds, int step = -1) {
    double best = 1e30;
    (*this)();
    for (const double start = Seconds(); Seconds() - start < seconds;) {
      const double before = Seconds();
      if (step < 0) {
        (*this)();
      } else {
        Step(step);
      }
      best = std::min(best, (Seconds() - before) * 1e6);
    }
    return best;
  }

 private:
  std::byte* scratch() { return scratch_.data() + (64 - reinterpret_cast<uintptr_t>(scratch_.data()) % 64) % 64; }

  Plan plan_;
  std::vector<Tensor> buffers_;
  std::vector<KernelRunner> kernels_;
  std::vector<std::vector<void*>> args_;
  std::vector<std::byte> scratch_;
  int64_t code_bytes_ = 0;
};

void Register(const Problem& problem, const char* emitter) {
  benchmark::RegisterBenchmark(internal::Join(emitter, "/", problem.Name()).c_str(), [=](benchmark::State& state) {
    Runner run(MakeGraph(problem), emitter);
    run();
    for (auto _ : state) run();
    const double runs = static_cast<double>(state.iterations());
    const double dense_seconds = problem.flops() / (0.9 * PeakFlops(problem.integers()));
    state.counters["over_dense"] = benchmark::Counter(runs * dense_seconds, benchmark::Counter::kIsRate);
    if (std::strcmp(emitter, "matmul") != 0) {
      state.counters["packing_us"] = run.BestMicroseconds(0.01, 0);
      state.counters["kernel_over_dense"] = dense_seconds * 1e6 / run.BestMicroseconds(0.05, 1);
    }
    state.counters["code_KiB"] = static_cast<double>(run.code_bytes()) / 1024;
  })->Unit(benchmark::kMicrosecond);
}

void RegisterEncoding() {
  benchmark::RegisterBenchmark("encode/768x3072/kept:10", [](benchmark::State& state) {
    const int64_t rows = 3072, depth = 768;
    Bitmap kept(rows * depth);
    std::mt19937_64 random(7);
    for (int64_t k = 0; k < kept.size(); ++k) kept.Set(k, random() % 10 == 0);
    const ScatteredPattern pattern = ScatteredPattern::Make(kept, rows, depth, depth, 1);
    const ScatteredBlocks blocks = {.rows = rows, .block_rows = 112, .group_rows = 31};
    for (auto _ : state) benchmark::DoNotOptimize(EncodeStream(pattern, blocks, {}));
    const StreamCounts counts = CountStream(pattern, blocks);
    state.counters["encode_ns_per_instruction"] =
        benchmark::Counter(static_cast<double>(state.iterations() * (counts.elements + counts.column_loads)) / 1e9,
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  })->Unit(benchmark::kMillisecond);
}

void RegisterAll() {
  for (const auto& [rows, depth, columns] : {std::array<int64_t, 3>{512, 512, 192}, {768, 768, 128}}) {
    for (const Kept kept : {Kept::kF32, Kept::kInt8Blocks, Kept::kInt8}) {
      for (const double density : {1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05}) {
        Register({kept, rows, depth, columns, density}, "sparse_stream");
        Register({kept, rows, depth, columns, density}, "sparse_loop");
      }
    }
    Register({Kept::kF32, rows, depth, columns, 0.5}, "matmul");
  }
  RegisterEncoding();
}

// One line for each problem: estimate -> time of each emitter, which one select takes, and what that costs over the
// best of them.
void PrintGrid() {
  std::printf("%-26s %22s %22s %22s  choice\n", "problem", "matmul", "sparse_stream", "sparse_loop");
  const std::array<int64_t, 3> shapes[] = {
      {64, 32, 12544},  {128, 64, 3136},  {256, 256, 784},  {512, 512, 196},  {1024, 1024, 49}, {384, 384, 128},
      {1536, 384, 128}, {384, 1536, 128}, {3072, 768, 128}, {768, 3072, 128}, {333, 777, 1000}, {64, 64, 16},
      {512, 512, 16},   {1024, 1024, 16}, {1000, 512, 1},   {100, 100, 5},    {4096, 1024, 32}, {17, 300, 200}};
  for (const auto& [rows, depth, columns] : shapes) {
    for (const double density : {1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.02}) {
      const Problem problem = {Kept::kF32, rows, depth, columns, density};
      const Graph graph = MakeGraph(problem);
      std::string line, choice;
      double best = 1e30, chosen = 0;
      const std::string selected(SelectEmitter(graph, graph.nodes[0], BenchmarkTarget(), "", nullptr).emitter->name);
      for (const char* name : {"matmul", "sparse_stream", "sparse_loop"}) {
        double estimate = -1, time = 1e30;
        for (const Emitter& emitter : AllEmitters()) {
          std::string why;
          if (emitter.name != name) continue;
          const std::vector<Way> ways = WaysOf(emitter, graph, graph.nodes[0], BenchmarkTarget(), &why);
          if (!ways.empty()) estimate = ways[0].us;
        }
        if (estimate >= 0) {
          Runner run(graph, name);
          time = run.BestMicroseconds(0.02);
        }
        char cell[64];
        std::snprintf(cell, sizeof(cell), " %9.1f -> %9.1f", estimate, time < 1e29 ? time : -1);
        line += cell;
        best = std::min(best, time);
        if (selected == name) chosen = time;
      }
      std::printf("%-26s %s  %-13s %.2f\n", problem.Name().c_str(), line.c_str(), selected.c_str(), chosen / best);
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--grid") == 0) {
    tessera::PrintGrid();
    return 0;
  }
  tessera::RegisterAll();
  benchmark::AddCustomContext("peak_GFLOPS", std::to_string(tessera::PeakFlops(false) / 1e9));
  benchmark::AddCustomContext("peak_int8_GOPS", std::to_string(tessera::PeakFlops(true) / 1e9));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
