// Which products become one, which do not, and that results stay what they were.
#include "codegen/merge_products.h"

#include <algorithm>

#include "codegen/testing/run_compiled.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/random.h"

namespace tessera {
namespace {

Target Gpu() { return *MakeTarget("simt:nvptx:sm_90"); }

int CountProducts(const Graph& graph) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) { return n.op == Op::kMatmul; }));
}

// The sum of `products` of x, each with a bias for each column.
struct Case {
  int products = 3;
  DType type = DType::kF32;
  Shape x = {2, 7, 24};
  bool transposed = false;
};

Graph MakeGraph(const Case& c, const std::function<void(int product, Graph&, Node&)>& change = nullptr) {
  Random random(3);
  GraphBuilder b("products");
  const ValueId x = b.Add(b.Input("x", c.type, c.x), b.Input("y", c.type, c.x));
  const int64_t depth = c.x[c.x.rank() - 1], columns = 10;
  ValueId total = ValueId::kNone;
  for (int k = 0; k < c.products; ++k) {
    const auto constant = [&](const std::string& name, const Shape& shape) {
      return b.Constant(name + std::to_string(k), RandomTensorIn(random, {c.type, shape}, -1, 1));
    };
    const ValueId w = constant("w", c.transposed ? Shape({columns, depth}) : Shape({depth, columns}));
    BodyBuilder body;
    const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32);
    const ValueId product = b.WithEpilogue(c.transposed ? b.Matmul(x, w, false, true) : b.Matmul(x, w),
                                           body.Finish(Max(sum + bias, 0.0)), {constant("bias", {columns})}, c.type);
    total = k == 0 ? product : b.Add(total, product);
  }
  b.Output(total);
  Graph graph = Built(std::move(b));
  int k = 0;
  for (Node& node : graph.nodes) {
    if (node.op == Op::kMatmul && change) change(k++, graph, node);
  }
  return graph;
}

TEST(MergeProductsTest, ProductsOfOneOperandBecomeOne) {
  for (DType type : {DType::kF32, DType::kF16}) {
    for (const Case& c : {Case{3, type}, Case{2, type, {5, 24}}, Case{4, type, {1, 9, 40}, true}}) {
      const Graph graph = MakeGraph(c);
      const Graph merged = MergeProducts(graph, Gpu());
      EXPECT_TRUE(Verify(merged).ok()) << Verify(merged);
      EXPECT_EQ(CountProducts(merged), 1);
      EXPECT_TRUE(
          CompiledAgrees(graph, RandomInputs(graph, 4), "simt:nvptx:sm_90", {}, type == DType::kF32 ? 1e-5 : 4e-3));
    }
  }
}

TEST(MergeProductsTest, PartsAreOnlyNames) {
  const Graph graph = MakeGraph({});
  const StatusOr<Plan> plan = MakePlan(graph, Gpu(), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  // x + y, the product, two sums.
  EXPECT_EQ(plan->steps.size(), 4u);
}

TEST(MergeProductsTest, WhatDiffersStaysApart) {
  const auto left = [](const Graph& graph) { return CountProducts(MergeProducts(graph, Gpu())); };
  EXPECT_EQ(left(MakeGraph({},
                           [](int k, Graph& graph, Node& node) {
                             if (k == 1) graph[node.inputs[1]].tesa = Attribute{};
                           })),
            2);
  EXPECT_EQ(left(MakeGraph({},
                           [](int k, Graph&, Node& node) {
                             if (k != 1) return;
                             BodyBuilder body;
                             const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32);
                             node.epilogue->body = body.Finish(sum - bias);
                           })),
            2);
  EXPECT_EQ(left(MakeGraph({},
                           [](int k, Graph& graph, Node& node) {
                             if (k == 2) graph.outputs.push_back(node.outputs[0]);
                           })),
            2);
  EXPECT_EQ(CountProducts(MergeProducts(MakeGraph({}), *MakeTarget("host"))), 3);
}

}  // namespace
}  // namespace tessera
