// How fast the contraction kernels are: GFLOP/s, and the share of what the processor's multiply-add units can do, on
// the layers of MobileNet-V1, MiniLM-L6 and BERT-base (128 tokens) and an MLP: in f32 with bias and ReLU, in bytes (u8
// by i8) with a bias and the way back to u8, in bf16; bytes by 4-bit weights with a scale for each block.
//
//   bazel run //codegen/emit/host:matmul_benchmark -- --benchmark_filter=int8/pointwise
//   TESSERA_TARGET=host:x86-64-v3 bazel run //codegen/emit/host:matmul_benchmark -- --benchmark_filter=int8
//
// One thread, kernel only, operands warm. The peak is measured in the same run, by a kernel whose loop is nothing but
// independent multiply-adds of the same type. `weights_GBps` matters for the layers of one row, which memory bounds.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "codegen/compile.h"
#include "codegen/emit/dot.h"
#include "codegen/emit/testing/kernel_runner.h"
#include "codegen/emit/testing/peak_flops.h"
#include "codegen/target.h"
#include "graph/builder.h"

namespace tessera {
namespace {

const Target& Host() {
  static const Target& target =
      *new Target(*MakeTarget(std::getenv("TESSERA_TARGET") != nullptr ? std::getenv("TESSERA_TARGET") : "host"));
  return target;
}

// Of the instruction for products of `a` by `b`.
double PeakFlops(DType a, DType b) {
  static auto& peaks = *new std::map<std::pair<DType, DType>, double>;
  double& peak = peaks[{a, b}];
  std::string why;
  if (peak == 0) peak = MeasurePeakFlops(Host(), *Dot::Choose(Host(), a, b, &why));
  return peak;
}

// What a benchmark's image and weights hold.
struct Types {
  const char* name;
  DType x, w;
};
constexpr Types kF32 = {"f32", DType::kF32, DType::kF32};
constexpr Types kInt8 = {"int8", DType::kU8, DType::kI8};
constexpr Types kBf16 = {"bf16", DType::kBF16, DType::kBF16};

// The last step of a graph of one node, with its constants, run again and again.
void Measure(benchmark::State& state, const Graph& graph, const std::string& only) {
  const StatusOr<Plan> plan = MakePlan(graph, Host(), {.only_emitter = only});
  TES_CHECK(plan.ok(), plan.status());
  const PlanStep& step = plan->steps.back();
  const StatusOr<KernelRunner> run = KernelRunner::Make(step.kernel, Host());
  TES_CHECK(run.ok(), run.status());
  if (getenv("ASM")) {
    puts(KernelAssembly(step.kernel, Host())->c_str());
    exit(0);
  }
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
  const auto type_of = [&](size_t operand) { return graph[graph.nodes[0].inputs[operand]].type.dtype; };
  const double peak = PeakFlops(type_of(0), type_of(1));
  state.counters["peak_share"] = benchmark::Counter(runs * step.flops / peak, benchmark::Counter::kIsRate);
  state.counters["weights_GBps"] =
      benchmark::Counter(runs * static_cast<double>(weights) / 1e9, benchmark::Counter::kIsRate);
  state.counters["code_bytes"] = static_cast<double>(run->code_bytes());
  state.SetLabel(plan->notes.back().substr(0, plan->notes.back().find(';')));
}

// Bias and ReLU; for bytes also what quantisation does: a scale for each column, a zero point, clamping, rounding.
ValueId WithEpilogue(GraphBuilder& b, ValueId value, int64_t columns, const Types& types) {
  BodyBuilder body;
  if (types.x != DType::kU8) {
    const Scalar sum = body.Input(types.x) + body.Input(DType::kF32);
    const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {columns}, 0.25));
    return b.WithEpilogue(value, body.Finish(body.Cast(Max(sum, 0.0), types.x)), {bias}, types.x);
  }
  const Scalar sum = body.Input(DType::kI32) + body.Input(DType::kI32);
  Scalar result = body.Narrow(body.Cast(sum, DType::kF32) * body.Input(DType::kF32), DType::kF32);
  result = RoundEven(Min(Max(body.Narrow(result + 3.0, DType::kF32), 0.0), 255.0));
  const ValueId bias = b.Constant("bias", Tensor::Full(DType::kI32, {columns}, 100));
  const ValueId scale = b.Constant("scale", Tensor::Full(DType::kF32, {columns}, 0.01));
  return b.WithEpilogue(value, body.Finish(body.Cast(result, DType::kU8)), {bias, scale}, DType::kU8);
}

void Register(const std::string& name, GraphBuilder builder, ValueId result, const std::string& only = "") {
  builder.Output(result);
  StatusOr<Graph> graph = std::move(builder).Build();
  TES_CHECK(graph.ok(), graph.status());
  benchmark::RegisterBenchmark(name.c_str(),
                               [graph = *graph, only](benchmark::State& state) { Measure(state, graph, only); });
}

// Weights of one value make no pattern that a kernel could gain from.
Tensor Weights(const Types& types, const Shape& shape) {
  return Tensor::Full(types.w, shape, types.w == DType::kI8 ? 3 : 0.5);
}

void RegisterMatmul(const Types& types, int64_t m, int64_t k, int64_t n) {
  GraphBuilder b("matmul");
  const ValueId x = b.Input("x", types.x, {m, k});
  const ValueId product = b.Matmul(x, b.Constant("w", Weights(types, {k, n})));
  const ValueId result = WithEpilogue(b, product, n, types);
  Register(internal::Join(types.name, "/matmul/", m, "x", k, "x", n), std::move(b), result);
}

// Bytes times 4-bit weights with a scale for each block of 32, in each way.
void RegisterScaled(int64_t m, int64_t k, int64_t n) {
  constexpr int64_t kBlock = 32;
  for (const char* way : {"integers", "f32", "int4"}) {
    if (m > 7 && std::string(way) == "int4") continue;
    GraphBuilder b("scaled");
    const ValueId x = b.Input("x", DType::kU8, {m, k});
    const ValueId w = b.Constant("w", Tensor::Full(DType::kI8, {k, n}, 3));
    const ValueId scales = b.Constant("scales", Tensor::Full(DType::kF32, {k / kBlock, n}, 0.01));
    const ValueId y = b.Apply(Op::kScaledMatmul, {x, w, scales});
    BodyBuilder body;
    const Scalar sum = body.Input(DType::kF32) + body.Input(DType::kF32);
    const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {n}, 0.25));
    const ValueId result = b.WithEpilogue(y, body.Finish(sum), {bias}, DType::kF32);
    Register(internal::Join("scaled/", m, "x", k, "x", n, "/", way), std::move(b), result,
             std::string("scaled_matmul:") + way);
  }
}

void RegisterConv(const Types& types, const char* kind, int64_t size, int64_t in, int64_t out, int64_t taps,
                  int64_t stride, int64_t groups) {
  GraphBuilder b("conv");
  const ValueId x = b.Input("x", types.x, {1, size, size, in});
  const ValueId w = b.Constant("w", Weights(types, {out, in / groups, taps, taps}));
  const int64_t pad = taps / 2;
  const ValueId y = b.Conv(x, w, {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}, .layout = "nhwc"}, groups);
  const ValueId result = WithEpilogue(b, y, out, types);
  Register(internal::Join(types.name, "/", kind, "/", size, "x", size, "x", in, "->", out, "/s", stride), std::move(b),
           result);
}

void RegisterLayers(const Types& types) {
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
    RegisterConv(types, "pointwise", l.size, l.in, l.out, 1, 1, 1);
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
    RegisterConv(types, "depthwise", d.size, d.channels, d.channels, 3, d.stride, d.channels);
  }
  RegisterConv(types, "stem", 224, 3, 32, 3, 2, 1);
  RegisterConv(types, "conv3x3", 56, 64, 64, 3, 1, 1);
  RegisterConv(types, "conv3x3", 14, 256, 256, 3, 1, 1);
  RegisterConv(types, "grouped", 28, 256, 256, 3, 1, 32);
  RegisterMatmul(types, 192, 512, 512);
  RegisterMatmul(types, 128, 768, 768);
  RegisterMatmul(types, 128, 768, 3072);
  RegisterMatmul(types, 128, 3072, 768);
  RegisterMatmul(types, 128, 384, 384);
  RegisterMatmul(types, 128, 384, 1536);
  RegisterMatmul(types, 128, 1536, 384);
  RegisterMatmul(types, 1, 1024, 1024);
  RegisterMatmul(types, 1, 784, 1024);
  RegisterMatmul(types, 1, 1024, 512);
  RegisterMatmul(types, 1, 512, 10);
  RegisterMatmul(types, 64, 1024, 1024);
  RegisterMatmul(types, 1000, 777, 333);
}

void RegisterAll() {
  RegisterLayers(kF32);
  RegisterLayers(kInt8);
  if (Host().has_bf16) RegisterLayers(kBf16);
  for (const int64_t rows : {1, 4, 8, 16, 128}) RegisterScaled(rows, 1024, 1024);
  RegisterScaled(1, 4096, 4096);
  RegisterScaled(128, 768, 3072);
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::RegisterAll();
  benchmark::AddCustomContext("peak_GFLOPS",
                              std::to_string(tessera::PeakFlops(tessera::DType::kF32, tessera::DType::kF32) / 1e9));
  benchmark::AddCustomContext("int8_peak_GOPS",
                              std::to_string(tessera::PeakFlops(tessera::DType::kU8, tessera::DType::kI8) / 1e9));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
