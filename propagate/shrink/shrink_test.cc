// Each test builds a small network, shrinks it, and says what must be left of it; every one also computes the same.
#include "propagate/shrink/shrink.h"

#include <cmath>

#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/text.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// Rows (axis 0) of `gone` are zero.
Tensor WithoutRows(Tensor w, std::vector<int64_t> gone) {
  const int64_t row = w.num_elements() / w.shape()[0];
  for (int64_t r : gone) {
    for (int64_t k = 0; k < row; ++k) w.Set(r * row + k, 0);
  }
  return w;
}

class ShrinkTest : public testing::Test {
 protected:
  Tensor Normal(Shape shape) { return RandomTensor(random_, {DType::kF32, std::move(shape)}, 0.5); }
  ValueId Weight(GraphBuilder& b, std::string_view name, Shape shape, std::vector<int64_t> gone = {}) {
    return b.Constant(name, WithoutRows(Normal(std::move(shape)), std::move(gone)));
  }

  // Shrinks the graph and compares it with what it was, on random inputs.
  ShrinkReport Shrunk(GraphBuilder b, Graph& graph) {
    StatusOr<Graph> built = std::move(b).Build();
    TES_CHECK(built.ok(), built.status());
    graph = *std::move(built);
    const Graph before = graph;
    RuleBook book(RuleMode::kExact);
    StatusOr<ShrinkReport> report = PropagateAndShrink(graph, book, {.on_collapse = OnCollapse::kKeep});
    TES_CHECK(report.ok(), report.status());
    for (int trial = 0; trial < 3; ++trial) {
      std::vector<Tensor> inputs;
      for (ValueId id : before.inputs) inputs.push_back(RandomTensor(random_, before[id].type));
      const std::vector<RefTensor> x = *Interpret(before, inputs), y = *Interpret(graph, inputs);
      EXPECT_EQ(x.size(), y.size());
      for (size_t o = 0; o < x.size(); ++o) {
        EXPECT_EQ(x[o].type, y[o].type);
        double largest = 0, error = 0;
        for (int64_t k = 0; k < x[o].size(); ++k) {
          if (!x[o].is_float()) {
            EXPECT_EQ(x[o].i[k], y[o].i[k]);
            continue;
          }
          largest = std::max(largest, std::abs(x[o].f[k]));
          error = std::max(error, std::isnan(y[o].f[k]) ? INFINITY : std::abs(x[o].f[k] - y[o].f[k]));
        }
        EXPECT_LE(error, 1e-6 * largest) << PrintGraph(graph, {.elide = true});
      }
    }
    return *std::move(report);
  }

  static const Value& Named(const Graph& graph, std::string_view name) {
    const ValueId id = graph.FindValue(name);
    TES_CHECK(id != ValueId::kNone, "no value ", name);
    return graph[id];
  }
  static int64_t CountOps(const Graph& graph, Op op) {
    int64_t count = 0;
    for (const Node& node : graph.nodes) count += node.op == op;
    return count;
  }

  Random random_{5};
};

TEST_F(ShrinkTest, ConstantColumnsBecomeABias) {
  GraphBuilder b("mlp");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId h =
      b.Relu(b.Add(b.Matmul(x, Weight(b, "w1", {8, 6}, {1, 4, 7}), false, true), b.Constant("b1", Normal({8}))));
  b.Output(b.Add(b.Matmul(h, Weight(b, "w2", {5, 8}), false, true), b.Constant("b2", Normal({5}))));
  Graph graph;
  const ShrinkReport report = Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({5, 6}));
  EXPECT_EQ(Named(graph, "b1").type.shape, Shape({5}));
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({5, 5}));
  EXPECT_EQ(report.biases_added, 1);
  EXPECT_EQ(graph.nodes.size(), 5u) << "what was folded is part of the bias that was there";
  EXPECT_FALSE(report.lines.empty());
}

TEST_F(ShrinkTest, ZeroColumnsLeaveNothingToAdd) {
  GraphBuilder b("mlp");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId h = b.Relu(b.Matmul(x, Weight(b, "w1", {8, 6}, {1, 4, 7}), false, true));
  b.Output(b.Matmul(h, Weight(b, "w2", {5, 8}), false, true));
  Graph graph;
  EXPECT_EQ(Shrunk(std::move(b), graph).biases_added, 0);
  EXPECT_EQ(graph.nodes.size(), 3u);
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({5, 5}));
}

TEST_F(ShrinkTest, UnreadRowsGoUpwards) {
  GraphBuilder b("mlp");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId h = b.Tanh(b.Add(b.Matmul(x, Weight(b, "w1", {6, 8})), b.Constant("b1", Normal({8}))));
  b.Output(b.Matmul(h, Weight(b, "w2", {8, 5}, {0, 3})));
  Graph graph;
  EXPECT_EQ(Shrunk(std::move(b), graph).biases_added, 0);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({6, 6}));
  EXPECT_EQ(Named(graph, "b1").type.shape, Shape({6}));
}

// A channel that is constant but not zero adds less to windows that hang over the border.
TEST_F(ShrinkTest, PaddingMakesTheConstantDifferAtBorders) {
  GraphBuilder b("cnn");
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 6, 7});
  const WindowParams window = {.pads = {1, 1, 1, 1}};
  const ValueId h = b.Relu(b.Add(b.Conv(x, Weight(b, "w1", {6, 3, 3, 3}, {2, 5}), window),
                                 b.Constant("b1", Tensor::Full(DType::kF32, {6, 1, 1}, 0.5))));
  b.Output(b.Conv(h, Weight(b, "w2", {4, 6, 3, 3}), window));
  Graph graph;
  const ShrinkReport report = Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({4, 3, 3, 3}));
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({4, 4, 3, 3}));
  ASSERT_EQ(report.biases_added, 1);
  EXPECT_EQ(graph[graph.nodes.back().inputs[1]].type.shape, Shape({1, 4, 6, 7}));
}

TEST_F(ShrinkTest, WithoutPaddingItIsOneNumberPerChannel) {
  GraphBuilder b("cnn");
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 6, 7});
  const ValueId h = b.Relu(b.Add(b.Conv(x, Weight(b, "w1", {6, 3, 3, 3}, {2, 5})),
                                 b.Constant("b1", Tensor::Full(DType::kF32, {6, 1, 1}, 0.5))));
  b.Output(b.Conv(h, Weight(b, "w2", {4, 6, 3, 3})));
  Graph graph;
  ASSERT_EQ(Shrunk(std::move(b), graph).biases_added, 1);
  EXPECT_EQ(graph[graph.nodes.back().inputs[1]].type.shape, Shape({1, 4, 1, 1}));
}

TEST_F(ShrinkTest, AResidualKeepsWhatOneSideNeeds) {
  GraphBuilder b("residual");
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 5, 5});
  const ValueId stem = b.Conv(x, Weight(b, "stem", {6, 3, 1, 1}, {0, 4}));
  const ValueId branch = b.Conv(b.Relu(stem), Weight(b, "inner", {6, 6, 1, 1}, {1, 4}));
  b.Output(b.Conv(b.Add(stem, branch), Weight(b, "head", {2, 6, 1, 1})));
  Graph graph;
  Shrunk(std::move(b), graph);
  // Channel 4 alone is empty on both sides.
  EXPECT_EQ(Named(graph, "stem").type.shape, Shape({5, 3, 1, 1}));
  EXPECT_EQ(Named(graph, "inner").type.shape, Shape({5, 5, 1, 1}));
}

TEST_F(ShrinkTest, TwoReadersOneOfWhichDropsAColumnKeepIt) {
  GraphBuilder b("two");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId h = b.Tanh(b.Matmul(x, Weight(b, "w1", {6, 4})));
  b.Output(b.Matmul(h, Weight(b, "a", {4, 3}, {2})));
  b.Output(b.Matmul(h, Weight(b, "c", {4, 3}, {1})));
  Graph graph;
  EXPECT_EQ(Shrunk(std::move(b), graph).indices_removed, 0);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({6, 4}));
}

TEST_F(ShrinkTest, DepthwiseAndConcat) {
  GraphBuilder b("dw");
  const ValueId x = b.Input("x", DType::kF32, {1, 3, 5, 5});
  const auto branch = [&](std::string_view name, std::vector<int64_t> gone) {
    const ValueId c = b.Relu(b.Conv(x, Weight(b, name, {5, 3, 1, 1}, std::move(gone))));
    return b.Conv(c, Weight(b, std::string(name) + ".dw", {5, 1, 3, 3}), {.pads = {1, 1, 1, 1}}, 5);
  };
  const ValueId joined = b.Concat({branch("p", {0, 1}), branch("q", {3})}, 1);
  b.Output(b.Conv(joined, Weight(b, "head", {4, 10, 1, 1})));
  Graph graph;
  Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "p.dw").type.shape, Shape({3, 1, 3, 3}));
  EXPECT_EQ(Named(graph, "q.dw").type.shape, Shape({4, 1, 3, 3}));
  EXPECT_EQ(Named(graph, "head").type.shape, Shape({4, 7, 1, 1}));
}

TEST_F(ShrinkTest, GroupsGoWholeOrStayEqual) {
  for (const bool whole : {true, false}) {
    GraphBuilder b("groups");
    const ValueId x = b.Input("x", DType::kF32, {1, 2, 4, 4});
    // Six channels in three groups of two: a whole group goes, or one channel of each.
    const std::vector<int64_t> gone = whole ? std::vector<int64_t>{2, 3} : std::vector<int64_t>{0, 3, 4};
    const ValueId h = b.Conv(x, Weight(b, "w1", {6, 2, 1, 1}, gone));
    const ValueId g = b.Conv(h, Weight(b, "w2", {9, 2, 3, 3}), {}, 3);
    b.Output(b.Conv(g, Weight(b, "w3", {2, 9, 1, 1})));
    Graph graph;
    Shrunk(std::move(b), graph);
    EXPECT_EQ(Named(graph, "w2").type.shape, whole ? Shape({6, 2, 3, 3}) : Shape({9, 2, 3, 3}));
    EXPECT_EQ(Named(graph, "w3").type.shape, whole ? Shape({2, 6, 1, 1}) : Shape({2, 9, 1, 1}));
  }
}

TEST_F(ShrinkTest, EveryGroupLosesTheSameChannel) {
  GraphBuilder b("groups");
  const ValueId x = b.Input("x", DType::kF32, {1, 2, 4, 4});
  const ValueId h = b.Relu(b.Conv(x, Weight(b, "w1", {9, 2, 1, 1}, {1, 4, 7})));
  b.Output(b.Conv(h, Weight(b, "w2", {6, 3, 3, 3}), {}, 3));
  Graph graph;
  Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({6, 2, 1, 1}));
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({6, 2, 3, 3}));
}

TEST_F(ShrinkTest, FlattenedChannels) {
  GraphBuilder b("flatten");
  const ValueId x = b.Input("x", DType::kF32, {1, 2, 3, 4});
  const ValueId h = b.Relu(b.Conv(x, Weight(b, "w1", {5, 2, 1, 1}, {0, 3})));
  b.Output(b.Matmul(b.Reshape(h, {1, 60}), Weight(b, "w2", {60, 4})));
  Graph graph;
  Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({3, 2, 1, 1}));
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({36, 4}));
}

TEST_F(ShrinkTest, HeadsOfAttention) {
  constexpr int64_t kHeads = 4, kWidth = 3;
  GraphBuilder b("attention");
  const ValueId x = b.Input("x", DType::kF32, {5, 7});
  const std::vector<int64_t> gone = {3, 4, 5, 9, 10, 11};  // heads 1 and 3
  const auto project = [&](std::string_view name) {
    const ValueId y = b.Matmul(x, Weight(b, name, {kHeads * kWidth, 7}, gone), false, true);
    return b.Transpose(b.Reshape(y, {1, 5, kHeads, kWidth}), {0, 2, 1, 3});
  };
  const ValueId q = project("q"), k = project("k"), v = project("v");
  const ValueId mixed = b.Transpose(b.Attention(q, k, v, 0.5), {0, 2, 1, 3});
  b.Output(b.Matmul(b.Reshape(mixed, {5, kHeads * kWidth}), Weight(b, "out", {kHeads * kWidth, 6})));
  Graph graph;
  Shrunk(std::move(b), graph);
  for (const char* name : {"q", "k", "v"}) EXPECT_EQ(Named(graph, name).type.shape, Shape({6, 7})) << name;
  EXPECT_EQ(Named(graph, "out").type.shape, Shape({6, 6}));
}

TEST_F(ShrinkTest, AxesThatMixStay) {
  GraphBuilder b("softmax");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId h = b.Matmul(x, Weight(b, "w1", {8, 6}, {1, 4}), false, true);
  b.Output(b.Matmul(b.Softmax(h, 1), Weight(b, "w2", {8, 5})));
  b.Output(b.Reduce(Op::kReduceMean, h, {1}));
  Graph graph;
  Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({8, 6}));
}

TEST_F(ShrinkTest, SplitChannels) {
  GraphBuilder b("split");
  const ValueId x = b.Input("x", DType::kF32, {1, 2, 3, 3});
  const ValueId h = b.Conv(x, Weight(b, "w1", {8, 2, 1, 1}, {1, 6}));
  const ValueId a = b.Slice(h, {0, 0, 0, 0}, {1, 4, 3, 3}), c = b.Slice(h, {0, 4, 0, 0}, {1, 4, 3, 3});
  b.Output(b.Conv(b.Concat({b.Tanh(c), a}, 1), Weight(b, "w2", {3, 8, 1, 1})));
  Graph graph;
  Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").type.shape, Shape({6, 2, 1, 1}));
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({3, 6, 1, 1}));
}

TEST_F(ShrinkTest, IntegersExactly) {
  GraphBuilder b("int8");
  const ValueId x = b.Input("x", DType::kI8, {3, 6});
  Tensor w1 = RandomTensorIn(random_, {DType::kI8, {6, 5}}, -5, 5);
  for (int64_t k = 0; k < 6; ++k) w1.SetInt(k * 5 + 2, 0);
  const ValueId sums =
      b.Add(b.Matmul(x, b.Constant("w1", std::move(w1))), b.Constant("b1", Tensor::Full(DType::kI32, {5}, 3)));
  const ValueId h = b.Cast(b.Clip(sums, -100, 100), DType::kI8);
  b.Output(b.Matmul(h, b.Constant("w2", RandomTensorIn(random_, {DType::kI8, {5, 4}}, -5, 5))));
  Graph graph;
  EXPECT_EQ(Shrunk(std::move(b), graph).biases_added, 1);
  EXPECT_EQ(Named(graph, "w2").type.shape, Shape({4, 4}));
}

TEST_F(ShrinkTest, QuantisationParametersPerChannelAreCut) {
  GraphBuilder b("quant");
  const ValueId x = b.Input("x", DType::kI8, {3, 6});
  Tensor w1 = RandomTensorIn(random_, {DType::kI8, {5, 6}}, 1, 5);
  for (int64_t k = 0; k < 6; ++k) w1.SetInt(2 * 6 + k, 0);
  const ValueId w = b.Constant("w1", std::move(w1));
  b.SetQuant(w, {.scales = {0.1, 0.2, 0.3, 0.4, 0.5}, .axis = 0});
  const ValueId real = b.Dequantize(
      b.Matmul(x, w, false, true), b.Constant("s", Tensor::FromVector<float>({5}, {1, 2, 3, 4, 5})), ValueId::kNone, 1);
  b.Output(b.Matmul(real, Weight(b, "w2", {5, 4})));
  Graph graph;
  Shrunk(std::move(b), graph);
  EXPECT_EQ(Named(graph, "w1").quant->scales, (std::vector<double>{0.1, 0.2, 0.4, 0.5}));
  EXPECT_EQ(Named(graph, "s").type.shape, Shape({4}));
}

TEST_F(ShrinkTest, WhatIsKnownThroughoutBecomesAConstant) {
  GraphBuilder b("known");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId dead =
      b.Add(b.Mul(b.Exp(x), b.Constant("zeros", Tensor(DType::kF32, {6}))), b.Constant("c", Normal({6})));
  b.Output(b.Mul(x, b.Tanh(dead)));
  Graph graph;
  const ShrinkReport report = Shrunk(std::move(b), graph);
  EXPECT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(report.values_folded, 1);
}

// Two computed zeros that meet: each alone excuses the other, both together would leave 3 - 3 and garbage.
TEST_F(ShrinkTest, ZerosThatExcuseEachOther) {
  GraphBuilder b("mutual");
  const ValueId x = b.Input("x", DType::kF32, {6});
  const auto half_zero = [&](std::string_view name) {
    const ValueId three = b.Constant(std::string(name) + "3", Tensor::FromVector<float>({6}, {3, 3, 3, 1, 2, 3}));
    const ValueId mask = b.Constant(std::string(name) + "m", Tensor::FromVector<float>({6}, {0, 0, 0, 1, 1, 1}));
    // (x * mask + 3) - 3 where the mask is 0: known to be 0.
    return b.Sub(b.Add(b.Mul(x, mask), three), b.Constant(std::string(name) + "s", Tensor::Full(DType::kF32, {6}, 3)));
  };
  b.Output(b.Mul(half_zero("p"), half_zero("q")));
  Graph graph;
  Shrunk(std::move(b), graph);
}

// Cutting what feeds a logarithm may make it infinite where nobody needs it; a zero does not excuse that.
TEST_F(ShrinkTest, ZeroTimesInfinityDoesNotArise) {
  GraphBuilder b("log");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  const ValueId d = b.Constant("d", Tensor::FromVector<float>({4}, {1, 2, 3, 4}));
  const ValueId logs = b.Log(b.Add(b.Mul(b.Abs(x), d), d));
  const ValueId mask = b.Constant("mask", Tensor::FromVector<float>({2, 4}, {0, 1, 0, 1, 0, 0, 1, 1}));
  b.Output(b.Mul(logs, mask));
  Graph graph;
  Shrunk(std::move(b), graph);
}

// A graph output keeps its columns; the weights of those that a mask drops are not needed.
TEST_F(ShrinkTest, DeadWeightsAreZeroAndSaySo) {
  GraphBuilder b("dead");
  const ValueId x = b.Input("x", DType::kF32, {2, 6});
  const ValueId h = b.Matmul(x, Weight(b, "w1", {6, 4}));
  b.Output(b.Mul(h, b.Constant("mask", Tensor::FromVector<float>({4}, {1, 0, 1, 1}))));
  Graph graph;
  Shrunk(std::move(b), graph);
  const Value& w1 = Named(graph, "w1");
  ASSERT_TRUE(w1.tesa.has_value());
  EXPECT_EQ(w1.tesa->num_kept(), 18);
  for (int64_t k = 0; k < 6; ++k) EXPECT_EQ(w1.constant.Get(k * 4 + 1), 0);
}

// A channel that is constant but for a border of padding would leave a number for every pixel and channel behind it:
// worth it where much work goes, not for one channel of 64.
TEST_F(ShrinkTest, LargeBiasesMustSaveMoreThanTheyCost) {
  for (const int64_t constant_channels : {1, 40}) {
    GraphBuilder b("border");
    const ValueId x = b.Input("x", DType::kF32, {1, 40, 40, 4});
    Tensor pointwise = Normal({64, 4, 1, 1});
    for (int64_t k = 0; k < constant_channels * 4; ++k) pointwise.Set(k, 0);
    const ValueId first = b.Add(b.Conv(x, b.Constant("w1", pointwise), {.layout = "nhwc"}),
                                b.Constant("bias", Tensor::Full(DType::kF32, {64}, 1)));
    const ValueId second =
        b.Conv(first, b.Constant("w2", Normal({64, 1, 3, 3})), {.pads = {1, 1, 1, 1}, .layout = "nhwc"}, 64);
    b.Output(b.Conv(second, b.Constant("w3", Normal({48, 64, 1, 1})), {.layout = "nhwc"}));
    Graph graph;
    Shrunk(std::move(b), graph);
    const int64_t left = constant_channels == 1 ? 64 : 24;
    EXPECT_EQ(Named(graph, "w3").type.shape, Shape({48, left, 1, 1}));
  }
}

}  // namespace
}  // namespace tessera
