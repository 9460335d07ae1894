// Products with few columns: the time of every way, what it rests on, and its share of the bandwidth with which as many
// bytes are read. Operands are warm; bias and ReLU, or a requantisation, are in the epilogue.
//
//   bazel run //codegen/emit/host:gemv_benchmark -- [--threads=2] [part of a problem's name, as int8/4096x4096x1]
//
// `weights/ns` counts zeros too; `GB/s` the bytes of the stream, of each thread; `share` is against a kernel that only
// adds up as many bytes, measured in the same run; `x dense` is the dense way's time over this one's. With several
// threads each repeats its own share, as in a network, and the slowest counts. Names are rows x depth x columns,
// pattern and per cent kept; a star marks what select takes.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "tesa/random.h"

namespace tessera {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

const Target& Host() {
  static const Target& target = *new Target(*MakeTarget("host"));
  return target;
}

// Seconds of share(thread), run over and over on all threads at once for about `seconds`: the least time of each
// thread, of these the longest.
template <typename Share>
double BestSeconds(int threads, double seconds, const Share& share) {
  std::vector<double> best(threads, 1e30);
  std::atomic<int> ready{0};
  const auto repeat = [&](int thread) {
    share(thread);
    ++ready;
    while (ready < threads) {
    }
    for (const double start = Seconds(); Seconds() - start < seconds;) {
      const double before = Seconds();
      share(thread);
      best[thread] = std::min(best[thread], Seconds() - before);
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(repeat, t);
  repeat(0);
  for (std::thread& other : others) other.join();
  return *std::max_element(best.begin(), best.end());
}

// Bytes a second with which each of `threads` reads its share of `bytes`, a register at a time, and does nothing else
// with them.
double MeasureBandwidth(int threads, int64_t bytes) {
  constexpr int kSums = 8;
  const int lanes = Host().Lanes(32);
  KernelSpec kernel;
  kernel.family = "read";
  kernel.num_args = 2;
  kernel.emit = [lanes](KernelBuilder& b) {
    auto& ir = b.ir();
    const IrValues sums =
        b.For("trip", b.begin(), b.end(), 1, IrValues(kSums, b.Zero(DType::kI32, lanes)),
              [&](IrValue trip, const IrValues& sum) {
                IrValues next;
                for (int k = 0; k < kSums; ++k) {
                  IrValue at = ir.CreateAdd(ir.CreateMul(trip, b.I64(kSums * lanes)), b.I64(int64_t{k} * lanes));
                  next.push_back(ir.CreateAdd(sum[k], b.Load(b.arg(0), at, DType::kI32, lanes)));
                }
                return next;
              });
    for (int k = 0; k < kSums; ++k) b.Store(b.arg(1), b.I64(int64_t{k} * lanes), DType::kI32, sums[k]);
  };
  const StatusOr<KernelRunner> run = KernelRunner::Make(kernel, Host());
  TES_CHECK(run.ok(), run.status());
  const int64_t trips = std::max<int64_t>(1, bytes / (kSums * lanes * 4));
  Tensor data(DType::kI32, Shape({trips * kSums * lanes}));
  std::vector<Tensor> results(threads, Tensor(DType::kI32, Shape({kSums * lanes})));
  const double seconds = BestSeconds(threads, 0.1, [&](int t) {
    const std::vector<void*> args = {data.mutable_bytes().data(), results[t].mutable_bytes().data()};
    (*run)(args, trips* t / threads, trips * (t + 1) / threads);
  });
  return static_cast<double>(data.byte_size()) / seconds / threads;
}

struct Problem {
  int64_t rows, depth, columns;
  bool integers;
  int64_t largest;  // of i8 weights; below 8 they are stored at 4 bits. f32: then 4-bit integers times scales
  Pattern pattern;
  double kept;

  std::string Name() const {
    const char* type = integers ? (largest < 8 ? "u8 x int4" : "int8") : (largest > 1 ? "f32 x int4" : "f32");
    return internal::Join(type, "/", rows, "x", depth, "x", columns, "/", pattern.ToString(),
                          "/kept:", static_cast<int>(kept * 100 + 0.5));
  }
};

// relu(x · Wᵀ + bias), of integers requantised to u8.
Graph MakeGraph(const Problem& p) {
  GraphBuilder b("gemv");
  Random random(7);
  const DType w_type = p.integers ? DType::kI8 : DType::kF32;
  Tensor weights = RandomTensorIn(random, {w_type, {p.rows, p.depth}}, -p.largest, p.largest);
  if (!p.integers && p.largest > 1) {
    // Weight-only quantisation in blocks of 32.
    constexpr int64_t kBlock = 32;
    double scale = 1;
    for (int64_t k = 0; k < weights.num_elements(); ++k) {
      if (k % kBlock == 0) scale = static_cast<float>(random.Uniform(0.01, 0.02));
      weights.Set(k, static_cast<double>(random.Int(-p.largest, p.largest)) * scale);
    }
  }
  const Attribute tesa = RandomAttribute(random, weights.shape(), p.pattern, p.kept, p.integers ? 8 : 32);
  const ValueId w = b.Constant("w", tesa.ApplyTo(weights));
  if (p.kept < 1) b.SetTesa(w, tesa);
  const ValueId x = b.Input("x", p.integers ? DType::kU8 : DType::kF32, {p.columns, p.depth});
  const ValueId y = b.Matmul(x, w, false, true);
  BodyBuilder body;
  const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {p.rows}, 0.25));
  const Scalar raw = body.Cast(body.Input(p.integers ? DType::kI32 : DType::kF32), DType::kF32);
  const Scalar sum = raw * 0.01 + body.Input(DType::kF32);
  const DType result = p.integers ? DType::kU8 : DType::kF32;
  const Scalar clamped = p.integers ? Min(Max(RoundEven(sum), 0.0), 255.0) : Max(sum, 0.0);
  b.Output(b.WithEpilogue(y, body.Finish(body.Cast(clamped, result)), {bias}, result));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

// One way of a node, ready to run.
class Runner {
 public:
  Runner(const Graph& graph, const std::string& way) {
    StatusOr<Plan> plan = MakePlan(graph, Host(), {.only_emitter = way});
    TES_CHECK(plan.ok(), plan.status());
    plan_ = *std::move(plan);
    for (const PlanBuffer& buffer : plan_.buffers) {
      Tensor bytes(DType::kU8, Shape({buffer.bytes}));
      if (buffer.kind == BufferClass::kConstant) bytes = buffer.constant;
      if (buffer.kind == BufferClass::kConstant) weight_bytes_ += buffer.bytes;
      buffers_.push_back(std::move(bytes));
    }
    for (const PlanStep& step : plan_.steps) {
      StatusOr<KernelRunner> run = KernelRunner::Make(step.kernel, Host());
      TES_CHECK(run.ok(), run.status());
      kernels_.push_back(*std::move(run));
      args_.emplace_back();
      for (const StepArg& arg : step.args) {
        args_.back().push_back(buffers_[arg.buffer].mutable_bytes().data() + arg.offset);
      }
      scratch_ = std::max(scratch_, step.scratch_bytes);
    }
  }
  // Microseconds of all steps.
  double Measure(int threads) {
    std::vector<Tensor> scratch(threads, Tensor(DType::kU8, Shape({scratch_})));
    for (Tensor& s : scratch) s.mutable_bytes();
    return 1e6 * BestSeconds(threads, 0.06, [&](int t) {
             for (size_t s = 0; s < kernels_.size(); ++s) {
               const int64_t tasks = plan_.steps[s].tasks;
               kernels_[s](args_[s], tasks * t / threads, tasks * (t + 1) / threads, scratch[t].mutable_bytes().data());
             }
           });
  }
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  Plan plan_;
  int64_t weight_bytes_ = 0;
  std::vector<Tensor> buffers_;
  int64_t scratch_ = 64;
  std::vector<KernelRunner> kernels_;
  std::vector<std::vector<void*>> args_;
};

void Print(const Problem& problem, int threads) {
  const Graph graph = MakeGraph(problem);
  const std::string chosen = SelectEmitter(graph, graph.nodes[0], Host(), "", nullptr).ToString();
  const double dense = Runner(graph, "gemv:dense").Measure(threads);
  for (const Emitter& emitter : AllEmitters()) {
    if (emitter.name != "gemv" && emitter.name != "matmul") continue;
    std::string why;
    for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], Host(), &why)) {
      const std::string name = Choice{&emitter, way}.ToString();
      Runner run(graph, name);
      const double us = run.Measure(threads), bytes = static_cast<double>(run.weight_bytes());
      const double rate = bytes / us / 1e3 / threads;
      std::printf("| %-38s | %-15s%s | %8.1f | %8.1f | %7.1f | %6.1f | %6.1f | %5.2f | %6.2f |\n",
                  problem.Name().c_str(), name.c_str(), name == chosen ? "*" : " ", way.us, us,
                  static_cast<double>(problem.rows * problem.depth) / us / 1e3, bytes / 1e6, rate,
                  rate / (MeasureBandwidth(threads, run.weight_bytes()) / 1e9), dense / us);
      std::fflush(stdout);
    }
  }
}

std::vector<Problem> Problems() {
  std::vector<Problem> problems;
  for (const int64_t size : {1024, 4096}) {
    for (const double kept : {1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05}) {
      problems.push_back({size, size, 1, false, 1, Pattern::Scattered(), kept});
      problems.push_back({size, size, 1, true, 127, Pattern::Scattered(), kept});
    }
    for (const double kept : {0.5, 0.3, 0.1}) {
      problems.push_back({size, size, 1, false, 1, Pattern::Block(16, 1), kept});
      problems.push_back({size, size, 1, true, 127, Pattern::Block(1, 4), kept});
      problems.push_back({size, size, 1, true, 127, Pattern::Block(16, 16), kept});
    }
    problems.push_back({size, size, 1, true, 7, Pattern::Scattered(), 1});
    problems.push_back({size, size, 1, true, 7, Pattern::Scattered(), 0.1});
    problems.push_back({size, size, 1, false, 7, Pattern::Scattered(), 1});
  }
  for (const int64_t columns : {2, 4, 7}) {
    for (const double kept : {1.0, 0.5, 0.1}) {
      problems.push_back({1024, 1024, columns, false, 1, Pattern::Scattered(), kept});
      problems.push_back({1024, 1024, columns, true, 127, Pattern::Scattered(), kept});
    }
  }
  problems.push_back({10, 512, 1, false, 1, Pattern::Scattered(), 1});
  problems.push_back({1000, 1280, 1, false, 1, Pattern::Scattered(), 1});
  return problems;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  int threads = 1;
  std::string filter;
  for (int k = 1; k < argc; ++k) {
    if (std::strncmp(argv[k], "--threads=", 10) == 0) {
      threads = std::max(1, std::atoi(argv[k] + 10));
    } else {
      filter = argv[k];
    }
  }
  std::printf("| problem | way | estimate us | us | weights/ns | MB | GB/s | share | x dense |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const tessera::Problem& problem : tessera::Problems()) {
    if (problem.Name().find(filter) != std::string::npos) tessera::Print(problem, threads);
  }
  return 0;
}
