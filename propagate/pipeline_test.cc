#include "propagate/pipeline.h"

#include <sstream>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/testing/prunable_graph.h"
#include "graph/testing/random_graph.h"
#include "gtest/gtest.h"
#include "tesa/pattern.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// Two layers; column 1 of the first is zero.
Graph SmallNetwork(bool pruned) {
  Random random(3);
  GraphBuilder b("mlp");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  Tensor w = RandomTensor(random, {DType::kF32, {4, 3}});
  for (int64_t k = 0; k < 4 && pruned; ++k) w.Set(k * 3 + 1, 0);
  const ValueId h =
      b.Relu(b.Add(b.Matmul(x, b.Constant("w", std::move(w))), b.Constant("b", Tensor(DType::kF32, {3}))));
  b.Output(b.Named("y").Matmul(h, b.Constant("v", RandomTensor(random, {DType::kF32, {3, 2}}))));
  return *std::move(b).Build();
}

TEST(Prepare, ShrinksWhatIsPruned) {
  Graph graph = SmallNetwork(true);
  ASSERT_OK_AND_ASSIGN(const PrepareReport report, Prepare(graph));
  EXPECT_TRUE(report.propagated);
  EXPECT_GT(report.shrink.indices_removed, 0);
  EXPECT_FALSE(report.shrink.lines.empty());
}

TEST(Prepare, LeavesDenseNetworksAndThoseThatAreNotToBePropagated) {
  Graph dense = SmallNetwork(false);
  EXPECT_FALSE(MayShrink(dense)) << "a bias of zeros is nothing to begin with";
  ASSERT_OK_AND_ASSIGN(const PrepareReport report, Prepare(dense));
  EXPECT_FALSE(report.propagated);
  Graph pruned = SmallNetwork(true);
  ASSERT_OK_AND_ASSIGN(const PrepareReport off, Prepare(pruned, {.propagate = false}));
  EXPECT_FALSE(off.propagated);
}

// What MayShrink lets go by has nothing to find, on random networks.
TEST(MayShrink, MissesNothing) {
  int passed_by = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed);
    GraphBuilder b("net");
    ValueId x = b.Input("x", DType::kF32, {2, 6});
    for (int layer = 0; layer < 3; ++layer) {
      const int64_t depth = b.ShapeOf(x)[1], width = random.Int(3, 6);
      const Attribute mask = RandomAttribute(random, {depth, width}, Pattern::Scattered(), random.Uniform(0.3, 1), 32);
      const ValueId w =
          b.Constant("w" + std::to_string(layer), mask.ApplyTo(RandomTensor(random, {DType::kF32, {depth, width}})));
      if (random.Chance(0.5)) b.SetTesa(w, mask);
      x = b.Relu(b.Matmul(x, w));
    }
    b.Output(x);
    ASSERT_OK_AND_ASSIGN(Graph graph, std::move(b).Build());
    if (MayShrink(graph)) continue;
    ++passed_by;
    RuleBook book(RuleMode::kExact);
    const int64_t before = graph.values.size();
    ASSERT_OK_AND_ASSIGN(const ShrinkReport report,
                         PropagateAndShrink(graph, book, {.on_collapse = OnCollapse::kKeep}));
    EXPECT_FALSE(report.changed()) << "seed " << seed;
    EXPECT_EQ(report.kept_after, report.kept_before) << "seed " << seed;
    EXPECT_EQ(static_cast<int64_t>(graph.values.size()), before);
  }
  EXPECT_GE(passed_by, 50);
}

TEST(Prepare, StopsAndPrintsAtItsStages) {
  for (const StageInfo& stage : PrepareStages()) {
    Graph graph = SmallNetwork(true);
    std::ostringstream out;
    PrepareOptions options;
    options.passes = {.stop_after = std::string(stage.name), .print_after = std::string(stage.name), .out = &out};
    if (stage.name == "take_signed") {
      EXPECT_FALSE(Prepare(graph, options).ok()) << "processors have no such stage";
      options.machine = MachineKind::kGpu;
    }
    ASSERT_OK(Prepare(graph, options).status()) << stage.name;
    EXPECT_NE(out.str().find("// after " + std::string(stage.name)), std::string::npos) << stage.name;
  }
  Graph graph = SmallNetwork(true);
  PrepareOptions options;
  options.passes.stop_after = "no_such_stage";
  EXPECT_FALSE(Prepare(graph, options).ok());
}

// Weights with a scale for each block run on integers on processors, and in float on GPUs.
TEST(Prepare, SaysWhatStaysInFloat) {
  GraphBuilder b("blocks");
  const ValueId x = b.Dequantize(b.Input("x", DType::kU8, {3, 32}), b.Number(0.5), ValueId::kNone);
  Tensor w(DType::kI4, {32, 5});
  for (int64_t k = 0; k < w.num_elements(); ++k) w.SetInt(k, k % 16 - 8);
  const ValueId scales = b.Constant("scales", Tensor::Full(DType::kF32, {2, 5}, 0.125));
  b.Output(b.Matmul(x, b.Dequantize(b.Constant("w", std::move(w)), scales, ValueId::kNone, 0, 16)));
  const Graph graph = *std::move(b).Build();
  for (const MachineKind machine : {MachineKind::kProcessor, MachineKind::kGpu}) {
    Graph prepared = graph;
    PrepareOptions options;
    options.machine = machine;
    ASSERT_OK_AND_ASSIGN(const PrepareReport report, Prepare(prepared, options));
    EXPECT_EQ(report.in_float.size(), machine == MachineKind::kGpu ? 1u : 0u);
  }
}

TEST(Prepare, AnEmptyOutputIsRefusedOrKept) {
  const auto empty = [] {
    GraphBuilder b("empty");
    const ValueId x = b.Input("x", DType::kF32, {2, 4});
    b.Output(b.Matmul(x, b.Constant("w", Tensor(DType::kF32, {4, 3}))));
    return *std::move(b).Build();
  };
  Graph graph = empty();
  PrepareOptions options;
  options.on_collapse = OnCollapse::kError;
  EXPECT_FALSE(Prepare(graph, options).ok());
  graph = empty();
  ASSERT_OK_AND_ASSIGN(const PrepareReport report, Prepare(graph));
  EXPECT_FALSE(report.shrink.warnings.empty());
  EXPECT_EQ(graph.outputs.size(), 1u);
}

// All passes and both stages on networks that have much to prune.
TEST(Prepare, KeepsMeaning) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed);
    const Graph before = PrunableGraph(random, {.min_nodes = 10, .max_nodes = 40});
    Graph after = before;
    ASSERT_OK(Prepare(after).status());
    const std::vector<Tensor> inputs = RandomInputs(random, before);
    ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> x, Interpret(before, inputs));
    ASSERT_OK_AND_ASSIGN(const std::vector<RefTensor> y, Interpret(after, inputs));
    ASSERT_EQ(x.size(), y.size());
    for (size_t o = 0; o < x.size(); ++o) {
      double largest = 0, error = 0;
      for (int64_t k = 0; k < x[o].size(); ++k) {
        const double p = x[o].is_float() ? x[o].f[k] : static_cast<double>(x[o].i[k]);
        const double q = y[o].is_float() ? y[o].f[k] : static_cast<double>(y[o].i[k]);
        largest = std::max(largest, std::abs(p));
        error = std::max(error, std::abs(p - q));
      }
      EXPECT_LE(error, 1e-5 * largest) << "seed " << seed << ", output " << o;
    }
  }
}

}  // namespace
}  // namespace tessera
