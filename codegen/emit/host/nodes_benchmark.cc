// Single nodes as networks have them, from graph to machine code, on one thread: softmax, norms, attention, GELU,
// depthwise convolution, pooling, transposition, and what quantised networks do to bytes. Elements per second and,
// where it says something, bytes per second.
//
//   bazel run //codegen/emit/host:nodes_benchmark -- --benchmark_filter=Softmax
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <vector>

#include "codegen/compile.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "runtime/device.h"
#include "tesa/tensor.h"

namespace tessera {
namespace {

// Compiles the graph that `build` makes and runs it once per iteration.
void RunNode(benchmark::State& state, const std::function<void(GraphBuilder&)>& build) {
  GraphBuilder b("node");
  build(b);
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  StatusOr<Target> target = MakeTarget("host");
  TES_CHECK(target.ok(), target.status());
  StatusOr<CompileResult> compiled = Compile(*graph, *target, {});
  TES_CHECK(compiled.ok(), compiled.status());
  StatusOr<std::unique_ptr<Device>> device = OpenDevice("host");
  TES_CHECK(device.ok(), device.status());
  StatusOr<std::unique_ptr<Executable>> executable = (*device)->Load(compiled->program, {.threads = 1});
  TES_CHECK(executable.ok(), executable.status());
  std::vector<Tensor> tensors;
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  int64_t elements = 0, bytes = 0;
  for (const ProgramPort& port : compiled->program->inputs) {
    tensors.push_back(Tensor::Full(port.type.dtype, port.type.shape, 0.5));
    inputs.push_back(tensors.back().bytes().data());
    bytes += tensors.back().byte_size();
  }
  for (const ProgramPort& port : compiled->program->outputs) {
    tensors.emplace_back(port.type.dtype, port.type.shape);
    outputs.push_back(tensors.back().mutable_bytes().data());
    elements += tensors.back().num_elements();
    bytes += tensors.back().byte_size();
  }
  for (auto _ : state) TES_CHECK((*executable)->Run(inputs, outputs).ok());
  state.SetItemsProcessed(state.iterations() * elements);
  state.SetBytesProcessed(state.iterations() * bytes);
}

void Softmax(benchmark::State& state) {
  RunNode(state,
          [&](GraphBuilder& b) { b.Output(b.Softmax(b.Input("x", DType::kF32, {12, 128, state.range(0)}), 2)); });
}
BENCHMARK(Softmax)->Arg(128)->Arg(384)->Arg(1000);

void LogSoftmax(benchmark::State& state) {
  RunNode(state, [&](GraphBuilder& b) { b.Output(b.LogSoftmax(b.Input("x", DType::kF32, {128, state.range(0)}), 1)); });
}
BENCHMARK(LogSoftmax)->Arg(128)->Arg(1000);

void LayerNorm(benchmark::State& state) {
  RunNode(state, [&](GraphBuilder& b) {
    const int64_t hidden = state.range(0);
    const ValueId scale = b.Constant("scale", Tensor::Full(DType::kF32, {hidden}, 1.5));
    const ValueId bias = b.Constant("bias", Tensor::Full(DType::kF32, {hidden}, 0.25));
    b.Output(b.LayerNorm(b.Input("x", DType::kF32, {128, hidden}), scale, bias, 1));
  });
}
BENCHMARK(LayerNorm)->Arg(384)->Arg(768);

void Attention(benchmark::State& state) {
  RunNode(state, [&](GraphBuilder& b) {
    const Shape heads = {1, 12, state.range(0), state.range(1)};
    const ValueId q = b.Input("q", DType::kF32, heads), k = b.Input("k", DType::kF32, heads);
    b.Output(b.Attention(q, k, b.Input("v", DType::kF32, heads), 0.125));
  });
}
BENCHMARK(Attention)->Args({128, 32})->Args({128, 64})->Args({384, 32})->Args({384, 64});

// Elementwise functions: in the first cache, and through the second.
void Gelu(benchmark::State& state) {
  RunNode(state, [&](GraphBuilder& b) { b.Output(b.Gelu(b.Input("x", DType::kF32, {state.range(0), 64}))); });
}
BENCHMARK(Gelu)->Arg(32)->Arg(3072);

void Elementwise(benchmark::State& state) {
  constexpr Op kOps[] = {Op::kExp, Op::kErf, Op::kTanh, Op::kSigmoid, Op::kSilu, Op::kLog};
  const Op op = kOps[state.range(0)];
  state.SetLabel(std::string(Name(op)));
  RunNode(state, [&](GraphBuilder& b) { b.Output(b.Apply(op, {b.Input("x", DType::kF32, {32, 64})})); });
}
BENCHMARK(Elementwise)->DenseRange(0, 5);

// What networks transpose: a matrix, an image of three planes into pixels and back, channels to the end, heads and
// positions.
void Transpose(benchmark::State& state) {
  struct Case {
    const char* name;
    DType type;
    std::vector<int64_t> shape, perm;
  };
  static const Case kCases[] = {{"matrix", DType::kF32, {384, 512}, {1, 0}},
                                {"image to pixels", DType::kF32, {1, 3, 224, 224}, {0, 2, 3, 1}},
                                {"pixels to image", DType::kF32, {1, 224, 224, 3}, {0, 3, 1, 2}},
                                {"channels last", DType::kF32, {1, 64, 56, 56}, {0, 2, 3, 1}},
                                {"heads", DType::kF32, {1, 128, 12, 64}, {0, 2, 1, 3}},
                                {"bytes", DType::kU8, {384, 512}, {1, 0}},
                                {"image of bytes", DType::kU8, {1, 3, 224, 224}, {0, 2, 3, 1}}};
  const Case& c = kCases[state.range(0)];
  state.SetLabel(c.name);
  RunNode(state, [&](GraphBuilder& b) { b.Output(b.Transpose(b.Input("x", c.type, Shape(c.shape)), c.perm)); });
}
BENCHMARK(Transpose)->DenseRange(0, 6);

void MaxPool(benchmark::State& state) {
  RunNode(state, [](GraphBuilder& b) {
    WindowParams window;
    window.strides = {2, 2};
    window.layout = "nhwc";
    b.Output(b.MaxPool(b.Input("x", DType::kF32, {1, 56, 56, 64}), {3, 3}, window));
  });
}
BENCHMARK(MaxPool);

void Depthwise(benchmark::State& state) {
  RunNode(state, [&](GraphBuilder& b) {
    const int64_t channels = state.range(1);
    WindowParams window;
    window.pads = {1, 1, 1, 1};
    window.layout = "nhwc";
    const ValueId w = b.Constant("w", Tensor::Full(DType::kF32, {channels, 1, 3, 3}, 0.1));
    b.Output(b.Conv(b.Input("x", DType::kF32, {1, state.range(0), state.range(0), channels}), w, window, channels));
  });
}
BENCHMARK(Depthwise)->Args({112, 32})->Args({56, 128})->Args({14, 512});

// ---- Bytes: what stands between the products of a quantised network ----

const Shape kPixels = {1, 56, 56, 128};

void Quantize(benchmark::State& state) {
  RunNode(state, [](GraphBuilder& b) {
    const ValueId zero = b.Constant("zero", Tensor::Full(DType::kU8, {}, 3));
    b.Output(b.Quantize(b.Input("x", DType::kF32, {1, 224, 224, 3}), b.Number(0.02), zero, DType::kU8));
  });
}
BENCHMARK(Quantize);

void MaxPoolBytes(benchmark::State& state) {
  RunNode(state, [](GraphBuilder& b) {
    const WindowParams window = {.strides = {2, 2}, .layout = "nhwc"};
    b.Output(b.MaxPool(b.Input("x", DType::kU8, kPixels), {3, 3}, window));
  });
}
BENCHMARK(MaxPoolBytes);

// What two dequantize, add, relu, quantize are when they are one node.
void AddBytes(benchmark::State& state) {
  RunNode(state, [](GraphBuilder& b) {
    const ValueId x = b.Input("x", DType::kU8, kPixels), y = b.Input("y", DType::kU8, kPixels);
    BodyBuilder body;
    const auto scaled = [&](Scalar bytes, double scale) {
      return body.Narrow(body.Cast(bytes, DType::kF32) * scale, DType::kF32);
    };
    Scalar sum = scaled(body.Input(DType::kU8), 0.7);
    sum = body.Narrow(sum + scaled(body.Input(DType::kU8), 0.4), DType::kF32);
    sum = RoundEven(Min(Max(body.Narrow(sum + 3.0, DType::kF32), 0.0), 255.0));
    b.Output(b.WithEpilogue(b.Relu(x), body.Finish(body.Cast(sum, DType::kU8)), {y}, DType::kU8));
  });
}
BENCHMARK(AddBytes);

void Dequantize(benchmark::State& state) {
  RunNode(state, [](GraphBuilder& b) {
    const ValueId zero = b.Constant("zero", Tensor::Full(DType::kU8, {}, 3));
    b.Output(b.Dequantize(b.Input("x", DType::kU8, kPixels), b.Number(0.02), zero));
  });
}
BENCHMARK(Dequantize);

void MeanOfBytes(benchmark::State& state) {
  RunNode(state, [](GraphBuilder& b) {
    const ValueId x = b.Cast(b.Input("x", DType::kU8, {1, 7, 7, 1024}), DType::kI32);
    b.Output(b.Reduce(Op::kReduceSum, x, {1, 2}));
  });
}
BENCHMARK(MeanOfBytes);

}  // namespace
}  // namespace tessera

BENCHMARK_MAIN();
