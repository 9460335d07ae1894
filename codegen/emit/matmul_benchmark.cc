// How fast the contraction kernels are: GFLOP/s, and the share of what the processor's multiply-add units can do, on
// the layers of MobileNet-V1, MiniLM-L6 (128 tokens) and an MLP, each with bias and ReLU in its epilogue.
//
//   bazel run //codegen/emit:matmul_benchmark -- --benchmark_filter=pointwise
//
// One thread, kernel only, operands warm. The peak is measured in the same run, by a kernel whose loop is nothing but
// independent multiply-adds. `weights_GBps` matters for the layers of one row, which memory bounds.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/emit/testing/peak_flops.h"
#include "codegen/target.h"
#include "graph/builder.h"

namespace tessera {
namespace {

const Target& Host() {
  static const Target& target = *new Target(*MakeTarget("host"));
  return target;
}

double PeakFlops() {
  static const double peak = MeasurePeakFlops(Host());
  return peak;
}

// The last step of a graph of one node, with its constants, run again and again.
void Measure(benchmark::State& state, const Graph& graph) {
  const StatusOr<Plan> plan = MakePlan(graph, Host(), {});
  TES_CHECK(plan.ok(), plan.status());
  const PlanStep& step = plan->steps.back();
  const StatusOr<KernelRunner> run = KernelRunner::Make(step.kernel, Host());
  TES_CHECK(run.ok(), run.status());
  std::vector<Tensor> buffers;
  std::vector<void*> args;
  int64_t weights = 0;
  for (const StepArg& arg : step.args) {
    const PlanBuffer& buffer = plan->buffers[arg.buffer];
    Tensor bytes = buffer.kind == BufferClass::kConstant ? buffer.constant : Tensor(DType::kU8, Shape({buffer.bytes}));
    if (buffer.kind == BufferClass::kConstant) weights += buffer.bytes;
    args.push_back(bytes.mutable_bytes().data() + arg.offset);
    buffers.push_back(std::move(bytes));
  }
  std::vector<std::byte> scratch(step.scratch_bytes + 64);
  for (auto _ : state) (*run)(args, 0, step.tasks, scratch.data());
  const double runs = static_cast<double>(state.iterations());
  state.counters["GFLOPS"] = benchmark::Counter(runs * step.flops / 1e9, benchmark::Counter::kIsRate);
  state.counters["peak_share"] = benchmark::Counter(runs * step.flops / PeakFlops(), benchmark::Counter::kIsRate);
  state.counters["weights_GBps"] =
      benchmark::Counter(runs * static_cast<double>(weights) / 1e9, benchmark::Counter::kIsRate);
  state.counters["code_bytes"] = static_cast<double>(run->code_bytes());
  state.SetLabel(plan->notes.back().substr(0, plan->notes.back().find(';')));
}

ValueId WithBiasAndRelu(GraphBuilder& b, ValueId value, int64_t columns) {
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
  const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {columns}, 0.25));
  return b.WithEpilogue(value, body.Finish(Max(sum, 0.0)), {bias}, DType::kF32);
}

void Register(const std::string& name, GraphBuilder builder, ValueId result) {
  builder.Output(result);
  StatusOr<Graph> graph = std::move(builder).Build();
  TES_CHECK(graph.ok(), graph.status());
  benchmark::RegisterBenchmark(name.c_str(), [graph = *graph](benchmark::State& state) { Measure(state, graph); });
}

void RegisterMatmul(int64_t m, int64_t k, int64_t n) {
  GraphBuilder b("matmul");
  const ValueId x = b.Input("x", DType::kF32, {m, k});
  const ValueId product = b.Matmul(x, b.Constant("w", Tensor::Full(DType::kF32, {k, n}, 0.5)));
  const ValueId result = WithBiasAndRelu(b, product, n);
  Register(internal::Join("matmul/", m, "x", k, "x", n), std::move(b), result);
}

void RegisterConv(const char* kind, int64_t size, int64_t in, int64_t out, int64_t taps, int64_t stride,
                  int64_t groups) {
  GraphBuilder b("conv");
  const ValueId x = b.Input("x", DType::kF32, {1, size, size, in});
  const ValueId w = b.Constant("w", Tensor::Full(DType::kF32, {out, in / groups, taps, taps}, 0.5));
  const int64_t pad = taps / 2;
  const ValueId y = b.Conv(x, w, {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}, .layout = "nhwc"}, groups);
  const ValueId result = WithBiasAndRelu(b, y, out);
  Register(internal::Join(kind, "/", size, "x", size, "x", in, "->", out, "/s", stride), std::move(b), result);
}

void RegisterAll() {
  struct Layer {
    int64_t size, in, out;
  };
  for (const Layer& l : {Layer{112, 32, 64},
                         {56, 64, 128},
                         {56, 128, 128},
                         {28, 128, 256},
                         {28, 256, 256},
                         {14, 256, 512},
                         {14, 512, 512},
                         {7, 512, 1024},
                         {7, 1024, 1024}}) {
    RegisterConv("pointwise", l.size, l.in, l.out, 1, 1, 1);
  }
  struct Depthwise {
    int64_t size, channels, stride;
  };
  for (const Depthwise& d : {Depthwise{112, 32, 1},
                             {112, 64, 2},
                             {56, 128, 1},
                             {56, 128, 2},
                             {28, 256, 1},
                             {28, 256, 2},
                             {14, 512, 1},
                             {14, 512, 2},
                             {7, 1024, 1}}) {
    RegisterConv("depthwise", d.size, d.channels, d.channels, 3, d.stride, d.channels);
  }
  RegisterConv("stem", 224, 3, 32, 3, 2, 1);
  RegisterConv("conv3x3", 56, 64, 64, 3, 1, 1);
  RegisterConv("conv3x3", 14, 256, 256, 3, 1, 1);
  RegisterMatmul(128, 384, 384);
  RegisterMatmul(128, 384, 1536);
  RegisterMatmul(128, 1536, 384);
  RegisterMatmul(1, 1024, 1024);
  RegisterMatmul(1, 784, 1024);
  RegisterMatmul(1, 1024, 512);
  RegisterMatmul(1, 512, 10);
  RegisterMatmul(64, 1024, 1024);
  RegisterMatmul(1000, 777, 333);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::RegisterAll();
  benchmark::AddCustomContext("peak_GFLOPS", std::to_string(tessera::PeakFlops() / 1e9));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
