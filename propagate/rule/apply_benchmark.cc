// How long applying a rule takes: the layers of BERT and ResNet with nine in ten weights pruned at random, and a layer
// of 268 million weights in blocks.
//
//   bazel run //propagate/rule:apply_benchmark
//
// `cells` is the number of cells of the weights, `steps` that of innermost loops in one call.
#include "propagate/rule/apply.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "propagate/rule/rule.h"
#include "tesa/random.h"

namespace tessera {
namespace {

constexpr char kMatmul[] =
    "rule matmul: f32[128,768], f32[768,3072] -> f32[128,3072]\n"
    " out0[a,b] <- in0[a,c] unless in1[c,b] = 0\n out0[a,b] <- in1[c,b] unless in0[a,c] = 0\n";
constexpr char kConv[] =
    "rule conv: f32[1,512,14,14], f32[512,512,3,3] -> f32[1,512,14,14]\n"
    " out0[0,a,b,c] <- in0[0,d,b+e-1,c+f-1] for e < 3, f < 3 unless in1[a,d,e,f] = 0\n"
    " out0[0,a,b,c] <- in1[a,d,e,f] unless in0[0,d,b+e-1,c+f-1] = 0\n";
constexpr char kLarge[] =
    "rule matmul: f32[128,16384], f32[16384,16384] -> f32[128,16384]\n"
    " out0[a,b] <- in0[a,c] unless in1[c,b] = 0\n out0[a,b] <- in1[c,b] unless in0[a,c] = 0\n";

ConstantValues Zeros() {
  return ConstantValues::Get(
      [](std::span<const Known* const>, int, std::span<const int64_t>, std::span<ScalarValue>) { return OkStatus(); });
}

// Blocks of `block` by `block` of the first two axes, each element of the others apart.
Known PrunedWeights(const TensorType& type, int64_t block) {
  Random random(1);
  CellGrid grid = CellGrid::Elements(type.shape);
  for (int d = 0; d < 2; ++d) grid.axes[d] = Partition::Blocks(type.shape[d], block);
  std::vector<uint8_t> kinds(grid.num_cells());
  std::vector<double> values(kinds.size(), 0);
  for (size_t k = 0; k < kinds.size(); ++k) {
    const bool kept = random.Chance(0.1);
    kinds[k] = static_cast<uint8_t>(kept ? Certainty::kConstant : Certainty::kZero);
    values[k] = kept;
  }
  Known known = Known::Unknown(type);
  known.kind = Cells<uint8_t>(std::move(grid), std::move(kinds));
  known.values = std::move(values);
  return known;
}

void Call(benchmark::State& state, const char* text, int64_t block) {
  const RuleTransfer transfer(*ParseRule(text), Zeros());
  const Rule& rule = transfer.rule();
  const Known x = Known::Unknown(rule.inputs[0]), w = PrunedWeights(rule.inputs[1], block);
  const Needed all = Needed::All(rule.outputs[0].shape);
  const std::vector<const Known*> inputs = {&x, &w};
  const Needed* outputs[] = {&all};
  for (auto _ : state) {
    if (state.range(0) < 0) {
      benchmark::DoNotOptimize(transfer.Forward(inputs));
    } else {
      benchmark::DoNotOptimize(transfer.Backward(static_cast<int>(state.range(0)), inputs, outputs));
    }
  }
  state.counters["cells"] = static_cast<double>(w.kind.values.size());
  state.counters["steps"] = static_cast<double>(transfer.visited()) / static_cast<double>(state.iterations());
}

// Argument: the operand of a backward call, -1 for forward.
BENCHMARK_CAPTURE(Call, matmul_768x3072_scattered, kMatmul, 1)->DenseRange(-1, 1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Call, conv3x3_512x512_scattered, kConv, 1)->DenseRange(-1, 1)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Call, matmul_16384_blocks_32, kLarge, 32)->DenseRange(-1, 1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tessera

BENCHMARK_MAIN();
