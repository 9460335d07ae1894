#include "graph/passes/scale_blocks.h"

#include <algorithm>
#include <optional>
#include <string>

#include "graph/builder.h"
#include "graph/passes/pipeline.h"
#include "graph/passes/testing/keeps_meaning.h"
#include "graph/text.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

struct Case {
  DType x = DType::kU8;
  int64_t zero = 128, depth = 64, block = 16;
  bool transposed = false, asymmetric = false, relu = false;
  bool pruned = false, computed_scale = false;
};

// relu?(dequantize(x) · dequantize(w)), w with a scale for each block of each column.
Graph Network(const Case& c, uint64_t seed) {
  Random random(seed);
  GraphBuilder b("blocks");
  const int64_t columns = 10, blocks = (c.depth + c.block - 1) / c.block;
  const ValueId scale = c.computed_scale ? b.Input("scale", DType::kF32, {}) : b.Number(0.02);
  const ValueId zero = b.Constant("zero", Tensor::Full(c.x, {}, static_cast<double>(c.zero)));
  const ValueId x = b.Dequantize(b.Input("x", c.x, {2, 3, c.depth}), scale, zero);
  const Shape shape = c.transposed ? Shape{columns, c.depth} : Shape{c.depth, columns};
  const Shape of_scales = c.transposed ? Shape{columns, blocks} : Shape{blocks, columns};
  Tensor scales(DType::kF32, of_scales);
  for (int64_t k = 0; k < scales.num_elements(); ++k) scales.Set(k, random.Uniform(0.001, 0.02));
  const DType type = c.asymmetric ? DType::kU4 : DType::kI4;
  Tensor w(type, shape), zeros(type, of_scales);
  for (int64_t k = 0; k < w.num_elements(); ++k) w.SetInt(k, random.Int(MinInt(type), MaxInt(type)));
  for (int64_t k = 0; c.asymmetric && k < zeros.num_elements(); ++k) zeros.SetInt(k, random.Int(0, 15));
  std::optional<Attribute> tesa;
  if (c.pruned) {
    Bitmap kept(shape.num_elements());
    for (int64_t k = 0; k < shape.num_elements(); ++k) kept.Set(k, k % 2 == 0);
    tesa = Attribute::FromKept(shape, kept, 4);
    w = tesa->ApplyTo(w);
  }
  const ValueId integers = b.Constant("w", std::move(w));
  if (tesa) b.SetTesa(integers, *tesa);
  const ValueId shift = c.asymmetric ? b.Constant("zeros", std::move(zeros)) : ValueId::kNone;
  const ValueId reals =
      b.Dequantize(integers, b.Constant("scales", std::move(scales)), shift, c.transposed ? 1 : 0, c.block);
  ValueId y = b.Matmul(x, reals, false, c.transposed);
  if (c.relu) y = b.Relu(y);
  b.Output(y);
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

bool Has(const Graph& graph, Op op) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& n) { return n.op == op; });
}

TEST(ScaleBlocks, KeepsMeaning) { ExpectKeepsMeaning(ScaleBlocks, 300, {1e-6, 1e-6}); }

TEST(ScaleBlocks, RunsOnIntegersForProcessorsOnly) {
  uint64_t seed = 0;
  for (const Case& c : {Case{}, Case{.zero = 0}, Case{.x = DType::kI8, .zero = 0}, Case{.x = DType::kI8, .zero = -7},
                        Case{.depth = 96, .block = 32, .transposed = true, .relu = true},
                        Case{.zero = 3, .block = 64, .asymmetric = true},
                        Case{.depth = 128, .block = 64, .transposed = true, .asymmetric = true}}) {
    const Graph graph = Network(c, ++seed);
    Graph host = graph, gpu = graph;
    ASSERT_OK(OptimizeForHost(host));
    EXPECT_TRUE(Has(host, Op::kScaledMatmul) && !Has(host, Op::kMatmul)) << PrintGraph(host);
    EXPECT_OK(SameMeaning(graph, host, seed, {1e-5, 1e-5}));
    ASSERT_OK(RunPasses(gpu, SimplifyPipeline()));
    ASSERT_OK(RunPasses(gpu, LoweringPipeline(MachineKind::kGpu)));
    EXPECT_FALSE(Has(gpu, Op::kScaledMatmul)) << PrintGraph(gpu);
  }
}

// The zero point's share joins the sums in an epilogue: one node is left.
TEST(ScaleBlocks, LeavesOneNode) {
  Graph host = Network({.relu = true}, 5);
  ASSERT_OK(OptimizeForHost(host));
  EXPECT_EQ(host.nodes.size(), 1u) << PrintGraph(host);
}

TEST(ScaleBlocks, LeavesOtherWeights) {
  uint64_t seed = 20;
  for (const Case& c : {Case{.depth = 72, .block = 16}, Case{.pruned = true}, Case{.computed_scale = true}}) {
    const Graph graph = Network(c, ++seed);
    Graph host = graph;
    ASSERT_OK(OptimizeForHost(host));
    EXPECT_FALSE(Has(host, Op::kScaledMatmul)) << PrintGraph(host);
    EXPECT_OK(SameMeaning(graph, host, seed, {1e-5, 1e-5}));
  }
}

}  // namespace
}  // namespace tessera
