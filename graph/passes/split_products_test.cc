// Attention blocks whose queries, keys and values are one product, in every way they are cut apart: before and after in
// double, and what the simplified graph consists of. codegen/emit/host/attention_test.cc compiles them.
#include "graph/passes/split_products.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/builder.h"
#include "graph/passes/canonicalize.h"
#include "graph/passes/pipeline.h"
#include "graph/passes/testing/keeps_meaning.h"
#include "graph/testing/fused_qkv.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

int Count(const Graph& graph, Op op) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.op == op; }));
}

Graph Split(const Graph& before) {
  Graph after = before;
  EXPECT_OK(Canonicalize(after));
  EXPECT_OK(SplitProducts(after));
  EXPECT_OK(SameMeaning(before, after, 7));
  return after;
}

TEST(SplitProducts, EveryFormBecomesThreeProducts) {
  for (const QkvForm form : kQkvForms) {
    for (const int64_t batch : {1, 2}) {
      for (const QkvMask mask : {QkvMask::kNone, QkvMask::kAdded, QkvMask::kCausalChoice}) {
        for (const bool quantised : {false, true}) {
          SCOPED_TRACE(testing::Message() << static_cast<int>(form) << " " << batch << " " << static_cast<int>(mask)
                                          << (quantised ? " quantised" : ""));
          const Graph block = FusedQkvBlock({.form = form,
                                             .batch = batch,
                                             .positions = 5,
                                             .heads = 3,
                                             .depth = 4,
                                             .mask = mask,
                                             .quantised = quantised,
                                             .pruned = batch == 2 ? 0.5 : 0});
          const Graph split = Split(block);
          EXPECT_EQ(Count(split, Op::kSlice), 0);
          EXPECT_EQ(Count(split, Op::kMatmul), 6);  // three projections, two of attention, one behind
          Graph simple = block;
          ASSERT_OK(OptimizeForHost(simple));
          EXPECT_EQ(Count(simple, Op::kSlice), 0);
          if (quantised) continue;
          EXPECT_EQ(Count(simple, Op::kAttention), 1);
          EXPECT_EQ(Count(simple, Op::kTranspose), 0);
          EXPECT_OK(SameMeaning(block, simple, 8, {1e-5, 1e-6}));
        }
      }
    }
  }
}

TEST(SplitProducts, DeclaredSparsityFollowsItsColumns) {
  const Graph split =
      Split(FusedQkvBlock({.form = QkvForm::kInHeads, .positions = 4, .heads = 2, .depth = 8, .pruned = 0.7}));
  int pruned = 0;
  for (const Value& value : split.values) {
    if (value.kind != ValueKind::kConstant || value.type.shape != Shape({16, 16}) || !value.tesa) continue;
    ++pruned;
    EXPECT_EQ(value.tesa->KeptBitmap(), NonZeros(value.constant));
    EXPECT_LT(value.tesa->density(), 0.5);
  }
  EXPECT_EQ(pruned, 4);
}

TEST(SplitProducts, StaysWhereItWouldNotPay) {
  // Something else reads the product.
  EXPECT_EQ(Count(Split(FusedQkvBlock({.read_whole = true})), Op::kSlice), 3);
  // One row: slices are runs of bytes.
  EXPECT_EQ(Count(Split(FusedQkvBlock({.positions = 1})), Op::kSlice), 3);
}

// Slices of a product of 6 rows and 40 columns.
int SlicesLeft(const std::vector<std::pair<int64_t, int64_t>>& runs, bool rows = false) {
  GraphBuilder b("slices");
  const ValueId y =
      b.Relu(b.Matmul(b.Input("x", DType::kF32, {6, 3}), b.Constant("w", Tensor::Full(DType::kF32, {3, 40}, 0.5))));
  for (const auto& [start, size] : runs) {
    b.Output(b.Neg(rows ? b.Slice(y, {start, 0}, {size, 40}) : b.Slice(y, {0, start}, {6, size})));
  }
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return Count(Split(*graph), Op::kSlice);
}

TEST(SplitProducts, ColumnsAreComputedOnce) {
  EXPECT_EQ(SlicesLeft({{0, 20}, {20, 20}}), 0);
  EXPECT_EQ(SlicesLeft({{8, 16}}), 0);
  EXPECT_EQ(SlicesLeft({{0, 30}, {10, 30}}), 2);     // twice
  EXPECT_EQ(SlicesLeft({{0, 20}, {20, 4}}), 2);      // too narrow
  EXPECT_EQ(SlicesLeft({{0, 3}, {3, 3}}, true), 2);  // rows
}

TEST(SplitProducts, KeepsMeaningOfRandomGraphs) { ExpectKeepsMeaning(SplitProducts); }

}  // namespace
}  // namespace tessera
