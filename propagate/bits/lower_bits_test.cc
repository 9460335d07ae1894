// Segments, fake quantisation and the accuracy loop, on networks small enough for the interpreter.
#include "propagate/bits/lower_bits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/testing/random_graph.h"
#include "graph/verifier.h"
#include "propagate/bits/segment.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// Four classes from a random teacher: x -> relu(x W1) W2, with a branch that skips; the labels are its own answers.
Graph TinyNet(uint64_t seed) {
  Random random(seed);
  GraphBuilder b("tiny");
  const ValueId x = b.Input("x", DType::kF32, {16, 1, 6, 5});
  const ValueId c = b.Named("conv").Conv(
      x, b.Constant("conv.w", RandomTensor(random, {DType::kF32, {4, 1, 3, 3}}, 0.5)), {.pads = {1, 1, 1, 1}});
  const ValueId r = b.Named("r").Relu(c);
  const ValueId d = b.Named("dw").Conv(r, b.Constant("dw.w", RandomTensor(random, {DType::kF32, {4, 1, 3, 3}}, 0.5)),
                                       {.pads = {1, 1, 1, 1}}, 4);
  const ValueId s = b.Named("sum").Add(d, r);
  const ValueId f = b.Named("flat").Reshape(s, {16, 120});
  b.Output(b.Named("fc").Matmul(f, b.Constant("fc.w", RandomTensor(random, {DType::kF32, {120, 4}}, 0.2))));
  StatusOr<Graph> graph = std::move(b).Build();
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *std::move(graph);
}

std::vector<Batch> RandomBatches(const Graph& graph, uint64_t seed, int count) {
  Random random(seed);
  std::vector<Batch> batches(count);
  for (Batch& batch : batches) batch = RandomInputs(random, graph);
  return batches;
}

int ArgMax(const Tensor& logits, int64_t row) {
  const int64_t classes = logits.shape()[1];
  int best = 0;
  for (int k = 1; k < classes; ++k) {
    if (logits.Get(row * classes + k) > logits.Get(row * classes + best)) best = k;
  }
  return best;
}

Metric Agreement(const std::vector<Batch>& expected) {
  return [&expected](size_t batch, const Batch& outputs) {
    double right = 0;
    for (int64_t row = 0; row < outputs[0].shape()[0]; ++row) {
      right += ArgMax(outputs[0], row) == ArgMax(expected[batch][0], row);
    }
    return right;
  };
}

TEST(SegmentTest, PartsRunOneAfterTheOtherAreTheWhole) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random, {.quantization = false});
    const std::vector<Tensor> inputs = RandomInputs(random, graph);
    const size_t cut = static_cast<size_t>(random.Int(0, static_cast<int64_t>(graph.nodes.size())));
    const Segment head = MakeSegment(graph, 0, cut), tail = MakeSegment(graph, cut, graph.nodes.size());
    ASSERT_TRUE(Verify(head.graph).ok()) << Verify(head.graph);
    ASSERT_TRUE(Verify(tail.graph).ok()) << Verify(tail.graph);
    std::vector<RefTensor> values = *InterpretAll(graph, inputs);
    const auto of = [&](const std::vector<ValueId>& ids) {
      std::vector<Tensor> tensors;
      for (ValueId id : ids) tensors.push_back(values[Index(id)].ToTensor());
      return tensors;
    };
    for (const Segment* part : {&head, &tail}) {
      const StatusOr<std::vector<RefTensor>> results = Interpret(part->graph, of(part->inputs));
      ASSERT_TRUE(results.ok()) << results.status();
      for (size_t k = 0; k < results->size(); ++k) {
        const RefTensor& expected = values[Index(part->outputs[k])];
        for (int64_t e = 0; e < expected.size(); ++e) {
          if (expected.is_float()) {
            ASSERT_NEAR((*results)[k].f[e], expected.f[e], 1e-3 * (1 + std::fabs(expected.f[e]))) << "seed " << seed;
          } else if (!expected.is_float()) {
            ASSERT_LE(std::llabs((*results)[k].i[e] - expected.i[e]), 1) << "seed " << seed;
          }
        }
      }
    }
  }
}

TEST(FakeQuantizedTest, RoundsWeightsByChannelAndActivationsByTensor) {
  const Graph graph = TinyNet(1);
  const std::vector<Batch> batches = RandomBatches(graph, 2, 3);
  const auto samples = Calibrate(graph, batches, InterpreterRunner());
  ASSERT_TRUE(samples.ok()) << samples.status();
  FakeQuantized q(graph, *samples);
  ASSERT_TRUE(Verify(q.graph()).ok()) << Verify(q.graph());
  ASSERT_EQ(q.sites().size(), 6u);
  const char* names[] = {"x", "conv.w", "r", "dw.w", "flat", "fc.w"};
  for (size_t k = 0; k < 6; ++k) {
    EXPECT_EQ(q.sites()[k].name, names[k]);
    EXPECT_EQ(q.sites()[k].is_weight, k % 2 == 1);
    q.SetWidth(k, 3);
  }
  ASSERT_TRUE(Verify(q.graph()).ok()) << Verify(q.graph());
  EXPECT_EQ(q.sites()[5].channel_axis, 1);
  // 3 bits: at most 7 levels per channel of a weight.
  const Tensor& weight = q.graph()[q.graph().FindValue("fc.w")].constant;
  for (int64_t c = 0; c < 4; ++c) {
    std::set<double> levels;
    for (int64_t k = 0; k < 120; ++k) levels.insert(weight.Get(k * 4 + c));
    EXPECT_LE(levels.size(), 7u);
    EXPECT_GE(levels.size(), 5u);
  }
  // 8 levels of an activation that is never negative, 7 of another.
  const std::vector<RefTensor> values = *InterpretAll(q.graph(), batches[0]);
  for (const auto& [name, most] : std::map<std::string, size_t>{{"r.q", 8}, {"x.q", 7}, {"flat.q", 7}}) {
    const RefTensor& v = values[Index(q.graph().FindValue(name))];
    EXPECT_LE(std::set<double>(v.f.begin(), v.f.end()).size(), most) << name;
  }
  // More bits, less noise: about 6 dB each.
  for (size_t k = 0; k < 6; ++k) {
    EXPECT_GT(q.SignalToNoise(k, 8), q.SignalToNoise(k, 5) + 12) << names[k];
    const int width = SmallestWidth(q, k, 30);
    EXPECT_GE(q.SignalToNoise(k, width), 30);
    EXPECT_LT(q.SignalToNoise(k, width - 1), 30);
  }
}

TEST(FakeQuantizedTest, ManyBitsChangeNextToNothing) {
  const Graph graph = TinyNet(3);
  const std::vector<Batch> batches = RandomBatches(graph, 4, 1);
  FakeQuantized q(graph, *Calibrate(graph, batches, InterpreterRunner()));
  for (size_t k = 0; k < q.sites().size(); ++k) q.SetWidth(k, 14);
  const std::vector<RefTensor> a = *Interpret(graph, batches[0]), b = *Interpret(q.graph(), batches[0]);
  for (int64_t e = 0; e < a[0].size(); ++e) EXPECT_NEAR(a[0].f[e], b[0].f[e], 0.02);
}

TEST(LowerBitsTest, LowersWithinTheToleranceAndCountsWhatTheCacheSaved) {
  const Graph graph = TinyNet(5);
  const std::vector<Batch> batches = RandomBatches(graph, 6, 8);
  const GraphRunner runner = InterpreterRunner();
  const std::vector<Batch> expected = *runner(graph, batches);
  const Metric metric = Agreement(expected);
  FakeQuantized q(graph, *Calibrate(graph, batches, runner));
  for (size_t k = 0; k < q.sites().size(); ++k) q.SetWidth(k, 8);

  int64_t nodes_run = 0, calls = 0;
  const GraphRunner counting = [&](const Graph& part, std::span<const Batch> inputs) {
    nodes_run += static_cast<int64_t>(part.nodes.size() * inputs.size());
    ++calls;
    return runner(part, inputs);
  };
  std::vector<std::pair<size_t, double>> kept;
  LowerBitsOptions options{.tolerance = 3, .least = 2, .step = 1, .on_trial = {}};
  options.on_trial = [&](size_t site, int, double score, bool keep) {
    if (keep) kept.push_back({site, score});
  };
  const StatusOr<LowerBitsResult> result = LowerBits(q, batches, metric, options, counting);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->score_after, result->score_before - 3);
  EXPECT_LE(MeanWidth(result->after), MeanWidth(result->before) - 1);
  EXPECT_EQ(static_cast<int>(kept.size()), result->kept);
  for (const auto& [site, score] : kept) EXPECT_GE(score, result->score_before - 3);
  // The score of the end is that of the whole network, run at once without a cache.
  EXPECT_EQ(*Score(q.graph(), batches, metric, runner), result->score_after);
  // Every node that was run is counted.
  EXPECT_EQ(nodes_run, result->executions);
  EXPECT_LT(result->executions, result->executions_without_cache);
  EXPECT_EQ(result->executions_without_cache,
            static_cast<int64_t>(q.graph().nodes.size() * batches.size()) * (result->trials + 1));
  // Again: the same.
  FakeQuantized again(graph, *Calibrate(graph, batches, runner));
  for (size_t k = 0; k < again.sites().size(); ++k) again.SetWidth(k, 8);
  const StatusOr<LowerBitsResult> second = LowerBits(again, batches, metric, options, runner);
  EXPECT_EQ(second->after, result->after);
  EXPECT_EQ(second->executions, result->executions);
}

// A metric that forbids any change of a tensor finds that tensor's width kept.
TEST(LowerBitsTest, RefusesWhatCostsTooMuch) {
  const Graph graph = TinyNet(7);
  const std::vector<Batch> batches = RandomBatches(graph, 8, 2);
  const GraphRunner runner = InterpreterRunner();
  FakeQuantized q(graph, *Calibrate(graph, batches, runner));
  for (size_t k = 0; k < q.sites().size(); ++k) q.SetWidth(k, 6);
  const std::vector<Batch> expected = *runner(q.graph(), batches);
  const Metric exact = [&](size_t batch, const Batch& outputs) {
    return outputs[0] == expected[batch][0] ? 0.0 : -1.0;
  };
  const StatusOr<LowerBitsResult> result = LowerBits(q, batches, exact, {}, runner);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->kept, 0);
  EXPECT_EQ(result->after, result->before);
  EXPECT_EQ(result->trials, 6);
  EXPECT_EQ(result->sweeps, 1);
}

TEST(LowerBitsTest, ARunnersErrorIsTheResult) {
  const Graph graph = TinyNet(9);
  const std::vector<Batch> batches = RandomBatches(graph, 8, 1);
  FakeQuantized q(graph, *Calibrate(graph, batches, InterpreterRunner()));
  const GraphRunner failing = [](const Graph&, std::span<const Batch>) -> StatusOr<std::vector<Batch>> {
    return Error(ErrorCode::kDeviceFailed, "no more");
  };
  const auto result = LowerBits(q, batches, [](size_t, const Batch&) { return 0.0; }, {}, failing);
  EXPECT_EQ(result.status().code(), ErrorCode::kDeviceFailed);
}

}  // namespace
}  // namespace tessera
