// What shrinking is made of: lists of indices, nodes made anew, and the comparison that lets only equal ones through.
#include <numeric>

#include "graph/builder.h"
#include "graph/op.h"
#include "gtest/gtest.h"
#include "propagate/shrink/kept.h"
#include "propagate/shrink/rebuild.h"
#include "propagate/shrink/ties.h"

namespace tessera {
namespace {

Tensor Iota(DType dtype, const Shape& shape) {
  Tensor tensor(dtype, shape);
  for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.SetInt(k, k % 8);
  return tensor;
}

TEST(Kept, SelectsElementsOfAnyType) {
  const AxisLists lists = {std::vector<int64_t>{0, 2}, std::nullopt, std::vector<int64_t>{1, 2, 4}};
  for (DType dtype : {DType::kF32, DType::kF64, DType::kI8, DType::kI64, DType::kU4, DType::kBF16}) {
    const Tensor whole = Iota(dtype, {3, 2, 5});
    const Tensor part = SelectedTensor(whole, lists);
    ASSERT_EQ(part.shape(), Shape({2, 2, 3})) << dtype;
    int64_t k = 0;
    ForEachIndex(part.shape(), [&](const std::vector<int64_t>& at) {
      const int64_t from =
          ((*lists[0])[static_cast<size_t>(at[0])] * 2 + at[1]) * 5 + (*lists[2])[static_cast<size_t>(at[2])];
      EXPECT_EQ(part.GetInt(k++), whole.GetInt(from)) << dtype;
    });
  }
}

TEST(Kept, SelectsCellsAndAttributesAlike) {
  const AxisLists lists = {std::vector<int64_t>{1, 3, 4}, std::vector<int64_t>{0, 5}};
  std::vector<uint8_t> bits(5 * 6);
  for (size_t k = 0; k < bits.size(); ++k) bits[k] = k % 3 == 0 ? 0 : (k % 2 == 0 ? 8 : 32);
  const Attribute part = SelectedAttribute(Attribute::FromBits({5, 6}, bits), lists);
  ASSERT_EQ(part.shape(), Shape({3, 2}));
  int64_t k = 0;
  for (int64_t row : *lists[0]) {
    for (int64_t column : *lists[1]) EXPECT_EQ(part.bits(k++), bits[static_cast<size_t>(row * 6 + column)]);
  }
}

TEST(Kept, ComplementAndSpelledMakeTheWhole) {
  const IndexList list = std::vector<int64_t>{1, 2, 5};
  EXPECT_EQ(Complement(list, 7), (std::vector<int64_t>{0, 3, 4, 6}));
  EXPECT_TRUE(Complement(std::nullopt, 7).empty());
  EXPECT_EQ(Spelled(std::nullopt, 3), (std::vector<int64_t>{0, 1, 2}));
}

TEST(Kept, QuantisationPerAxisIsCutAndBlocksAreNot) {
  const QuantParams per_axis = {.scales = {1, 2, 3}, .zero_points = {4, 5, 6}, .axis = 1};
  const AxisLists lists = {std::nullopt, std::vector<int64_t>{0, 2}};
  const std::optional<QuantParams> cut = SelectedQuant(per_axis, lists);
  ASSERT_TRUE(cut.has_value());
  EXPECT_EQ(cut->scales, (std::vector<double>{1, 3}));
  EXPECT_EQ(cut->zero_points, (std::vector<int64_t>{4, 6}));
  EXPECT_FALSE(SelectedQuant({.scales = {1, 2}, .axis = 1, .block_size = 2}, lists).has_value());
}

TEST(ViewGroups, SplitMergeAndOnes) {
  const std::vector<ViewGroup> split = ViewGroups({1, 5, 12}, {5, 3, 4, 1});
  ASSERT_EQ(split.size(), 2u);
  EXPECT_EQ(split[0].tensor_dims, (std::vector<int>{1}));
  EXPECT_EQ(split[0].view_dims, (std::vector<int>{0}));
  EXPECT_EQ(split[1].view_dims, (std::vector<int>{1, 2}));
  const std::vector<ViewGroup> mixed = ViewGroups({6, 4}, {8, 3});
  ASSERT_EQ(mixed.size(), 1u);
  EXPECT_EQ(mixed[0].tensor_dims.size(), 2u);
  EXPECT_EQ(mixed[0].view_dims.size(), 2u);
}

// One node, its operands' lists, and the node over what is left. The comparison must accept it as it is and refuse it
// with any one parameter changed.
struct Cut {
  Graph graph;
  Node node;
  NodeLists lists;

  std::optional<Steps> Compare(const Attrs& attrs) const {
    Graph after = graph;
    Node fitting = node;
    fitting.attrs = attrs;
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      Value& value = after[node.inputs[k]];
      value.type.shape = SelectedShape(value.type.shape, lists.inputs[k]);
    }
    const StatusOr<std::vector<TensorType>> types = InferTypes(after, fitting);
    if (!types.ok() || (*types)[0].shape != SelectedShape(graph[node.outputs[0]].type.shape, lists.outputs[0])) {
      return std::nullopt;
    }
    return SameSteps(NodeCompute(graph, node), NodeCompute(after, fitting), lists);
  }
  std::optional<Steps> Fit() const {
    const std::optional<Attrs> attrs = FittingAttrs(graph, node, lists);
    return attrs ? Compare(*attrs) : std::nullopt;
  }
};

Cut MakeCut(GraphBuilder b, ValueId result, std::vector<AxisLists> inputs, AxisLists output) {
  b.Output(result);
  Cut cut = {.graph = *std::move(b).Build()};
  cut.node = cut.graph.nodes.back();
  cut.lists = {std::move(inputs), {std::move(output)}};
  return cut;
}

TEST(SameSteps, SliceOfWhatStays) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {10});
  // Elements 2, 4, 6, 8; of x stay 0, 2, 3, 6, 8: of the slice 2, 6, 8, one after the other but for 3.
  const ValueId y = b.Slice(x, {2}, {4}, {2});
  Cut cut = MakeCut(std::move(b), y, {{std::vector<int64_t>{0, 2, 3, 6, 8}}}, {std::vector<int64_t>{0, 2, 3}});
  EXPECT_FALSE(cut.Fit().has_value()) << "positions 1, 3, 4 are not evenly spaced";
  cut.lists = {{{std::vector<int64_t>{0, 2, 6, 8}}}, {{std::vector<int64_t>{0, 2, 3}}}};
  EXPECT_TRUE(cut.Fit().has_value());
  Attrs wrong = *FittingAttrs(cut.graph, cut.node, cut.lists);
  wrong.Set("starts", std::vector<int64_t>{0});
  EXPECT_FALSE(cut.Compare(wrong).has_value());
}

TEST(SameSteps, PadsThatStay) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {4, 3});
  const ValueId y = b.Pad(x, {2, 0, 1, 0}, "constant", 0.5);
  // The result's rows: pad pad 0 1 2 3 pad; the first pad and row 1 go.
  Cut cut = MakeCut(std::move(b), y, {{std::vector<int64_t>{0, 2, 3}, std::nullopt}},
                    {std::vector<int64_t>{1, 2, 4, 5, 6}, std::nullopt});
  ASSERT_TRUE(cut.Fit().has_value());
  EXPECT_EQ(FittingAttrs(cut.graph, cut.node, cut.lists)->Ints("pads"), (std::vector<int64_t>{1, 0, 1, 0}));
  Attrs wrong = cut.node.attrs;
  wrong.Set("pads", std::vector<int64_t>{0, 0, 2, 0});
  EXPECT_FALSE(cut.Compare(wrong).has_value());
}

TEST(SameSteps, ASumSaysWhatItLost) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {2, 4}), w = b.Input("w", DType::kF32, {4, 3});
  const ValueId y = b.Matmul(x, w);
  const AxisLists of_x = {std::nullopt, std::vector<int64_t>{0, 3}}, of_w = {std::vector<int64_t>{0, 3}, std::nullopt};
  Cut cut = MakeCut(std::move(b), y, {of_x, of_w}, {std::nullopt, std::nullopt});
  const std::optional<Steps> steps = cut.Fit();
  ASSERT_TRUE(steps.has_value());
  EXPECT_EQ(steps->summed, 2);
  EXPECT_EQ(*steps->kept, (std::vector<int64_t>{0, 3}));
  // Other indices of the operands are other products.
  cut.lists.inputs[1][0] = std::vector<int64_t>{0, 2};
  EXPECT_FALSE(cut.Fit().has_value());
}

TEST(SameSteps, AMeanOfFewerIsAnotherMean) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  const ValueId y = b.Reduce(Op::kReduceMean, x, {1});
  Cut cut = MakeCut(std::move(b), y, {{std::nullopt, std::vector<int64_t>{0, 3}}}, {std::nullopt, std::nullopt});
  EXPECT_FALSE(cut.Fit().has_value());
}

TEST(SameSteps, ASoftmaxLosesRowsButNoColumns) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {3, 4});
  const ValueId y = b.Softmax(x, 1);
  const AxisLists rows = {std::vector<int64_t>{0, 2}, std::nullopt},
                  columns = {std::nullopt, std::vector<int64_t>{1, 2}};
  Cut cut = MakeCut(std::move(b), y, {rows}, rows);
  EXPECT_TRUE(cut.Fit().has_value());
  cut.lists = {{columns}, {columns}};
  EXPECT_FALSE(cut.Fit().has_value());
}

TEST(SameSteps, WindowsStayWhole) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {1, 2, 5, 5});
  const ValueId y = b.MaxPool(x, {1, 1});
  const AxisLists columns = {std::nullopt, std::nullopt, std::nullopt, std::vector<int64_t>{0, 1, 4}};
  Cut cut = MakeCut(std::move(b), y, {columns}, columns);
  EXPECT_FALSE(cut.Fit().has_value());
}

TEST(Ties, OnlyAPlainSumMayLoseSteps) {
  GraphBuilder b("g");
  const ValueId x = b.Input("x", DType::kF32, {2, 4});
  b.Output(b.Reduce(Op::kReduceSum, x, {1}));
  b.Output(b.Reduce(Op::kReduceMax, x, {1}));
  b.Output(b.Reduce(Op::kReduceL2, x, {1}));
  const Graph graph = *std::move(b).Build();
  const auto plainly = [&](size_t n) {
    return SumsPlainly(GetOp(graph.nodes[n].op).compute(MakeContext(graph, graph.nodes[n])));
  };
  EXPECT_TRUE(plainly(0));
  EXPECT_FALSE(plainly(1));
  EXPECT_FALSE(plainly(2));
}

}  // namespace
}  // namespace tessera
