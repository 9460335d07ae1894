#include "propagate/ranges.h"

#include <cmath>
#include <limits>
#include <random>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/op.h"
#include "graph/testing/random_graph.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<Known> Ranged(const Graph& graph) {
  std::vector<Known> known;
  for (const Value& value : graph.values) {
    const bool constant = value.kind == ValueKind::kConstant;
    known.push_back(constant ? Known::OfConstant(value.constant) : Known::Unknown(value.type));
  }
  AddRanges(graph, known);
  return known;
}

// Every value of a run lies in its interval.
void ExpectInside(const Graph& graph, const std::vector<RefTensor>& values, const std::vector<Known>& known) {
  for (size_t v = 0; v < values.size(); ++v) {
    const Interval& range = known[v].range;
    for (int64_t k = 0; k < values[v].size(); ++k) {
      const ScalarValue at = values[v].Get(k);
      const bool is_u64 = values[v].type.dtype == DType::kU64;  // whose values fill all 64 bits
      const double integer = is_u64 ? static_cast<double>(static_cast<uint64_t>(at.i)) : static_cast<double>(at.i);
      const double x = values[v].is_float() ? at.f : integer;
      if (std::isnan(x)) continue;
      ASSERT_TRUE(range.low <= x && x <= range.high) << graph.values[v].name << "[" << k << "] = " << x
                                                     << " is not in [" << range.low << ", " << range.high << "]";
    }
  }
}

TEST(Ranges, OfShortChains) {
  GraphBuilder b("chain");
  const ValueId x = b.Input("x", DType::kF32, {2, 3});
  const ValueId relu = b.Relu(x);
  const ValueId six = b.Clip(x, 0, 6);
  const ValueId half = b.Mul(six, b.Number(0.5));
  const ValueId quantized = b.Cast(six, DType::kI8);
  const ValueId sum = b.Reduce(Op::kReduceSum, b.Cast(quantized, DType::kI32), {1});
  const ValueId softmax = b.Softmax(x, 1);
  const ValueId sigmoid = b.Sigmoid(x);
  for (ValueId id : {relu, half, sum, softmax, sigmoid}) b.Output(id);
  const Graph graph = *std::move(b).Build();
  const std::vector<Known> known = Ranged(graph);
  const auto range = [&](ValueId id) { return known[static_cast<size_t>(Index(id))].range; };
  EXPECT_EQ(range(x), (Interval{-kInf, kInf}));
  EXPECT_EQ(range(relu), (Interval{0, kInf}));
  EXPECT_EQ(range(six), (Interval{0, 6}));
  EXPECT_NEAR(range(half).high, 3, 1e-5);
  EXPECT_EQ(range(quantized), (Interval{0, 6}));
  EXPECT_EQ(range(sum), (Interval{0, 18}));
  EXPECT_NEAR(range(softmax).high, 1, 1e-5);
  EXPECT_NEAR(range(sigmoid).low, 0, 1e-5);
  EXPECT_NEAR(range(sigmoid).high, 1, 1e-5);
}

TEST(Ranges, IntegersThatDoNotFitMayBeAnything) {
  GraphBuilder b("wrap");
  const ValueId x = b.Input("x", DType::kI8, {4});
  const ValueId y = b.Add(x, x);
  const ValueId wide = b.Add(b.Cast(x, DType::kI32), b.Cast(x, DType::kI32));
  b.Output(y);
  b.Output(wide);
  const Graph graph = *std::move(b).Build();
  const std::vector<Known> known = Ranged(graph);
  EXPECT_EQ(known[static_cast<size_t>(Index(y))].range, (Interval{-128, 127}));
  EXPECT_EQ(known[static_cast<size_t>(Index(wide))].range, (Interval{-256, 254}));
}

TEST(Ranges, HoldEveryValueOfEveryOp) {
  std::mt19937_64 rng(11);
  int64_t bounded = 0;
  for (const OpDef& def : AllOps()) {
    for (int round = 0; round < 40; ++round) {
      RandomCase c = RandomNode(def.op, rng);
      if (round % 3 == 2 && c.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(c, rng);
      const StatusOr<std::vector<RefTensor>> values = InterpretAll(c.graph, c.inputs);
      ASSERT_TRUE(values.ok()) << values.status();
      // As constants the operands have the range of their data, which makes the results' tight.
      for (size_t k = 0; k < c.inputs.size(); ++k) {
        Value& value = c.graph[c.graph.inputs[k]];
        value.kind = ValueKind::kConstant;
        value.constant = c.inputs[k];
      }
      c.graph.inputs.clear();
      const std::vector<Known> known = Ranged(c.graph);
      ExpectInside(c.graph, *values, known);
      if (HasFatalFailure()) FAIL() << def.name << ", round " << round;
      for (ValueId id : c.graph.outputs) {
        const Interval& range = known[static_cast<size_t>(Index(id))].range;
        bounded += std::isfinite(range.low) && std::isfinite(range.high) ? 1 : 0;
      }
    }
  }
  // Most: not what divides by a range around zero.
  EXPECT_GT(bounded, static_cast<int64_t>(AllOps().size()) * 40 * 8 / 10);
}

TEST(Ranges, HoldEveryValueOfRandomGraphs) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Random random(seed);
    const Graph graph = RandomGraph(random, {.min_nodes = 5, .max_nodes = 40});
    const StatusOr<std::vector<RefTensor>> values = InterpretAll(graph, RandomInputs(random, graph));
    ASSERT_TRUE(values.ok()) << values.status();
    ExpectInside(graph, *values, Ranged(graph));
    if (HasFatalFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace tessera
