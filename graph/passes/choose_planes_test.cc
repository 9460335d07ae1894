#include "graph/passes/choose_planes.h"

#include <algorithm>

#include "graph/builder.h"
#include "graph/passes/canonicalize.h"
#include "graph/passes/choose_layout.h"
#include "graph/passes/move_layout.h"
#include "graph/passes/testing/keeps_meaning.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "gtest/gtest.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

// Everything that can move to channels first does, behind a pass that moves everything to channels last.
Status MoveThereAndBack(Graph& graph) {
  RETURN_IF_ERROR(ChooseLayout(graph));
  return MoveLayout(graph, ImageLayout::kChannelsFirst, [](const Graph& g, const Node& node) {
    switch (node.op) {
      case Op::kConv:
      case Op::kMaxPool:
      case Op::kAvgPool:
        return node.attrs.String("layout") == "nhwc" && node.outputs.size() == 1 ? LayoutRole::Moves()
                                                                                 : LayoutRole::Stays();
      default: return FollowerRole(g, node, ImageLayout::kChannelsFirst);
    }
  });
}

TEST(MoveLayout, KeepsMeaningOfRandomGraphs) { ExpectKeepsMeaning(MoveThereAndBack); }

class Network {
 public:
  explicit Network(const char* layout) : layout_(layout) {}
  ValueId Conv(ValueId x, int64_t rows, int64_t taps, int64_t stride, double kept, bool depthwise = false) {
    const int64_t channels = b.ShapeOf(x)[layout_ == "nhwc" ? 3 : 1];
    const Shape shape = depthwise ? Shape({channels, 1, taps, taps}) : Shape({rows, channels, taps, taps});
    const Tensor weights = RandomTensor(random_, {DType::kF32, shape});
    const Attribute tesa = RandomAttribute(random_, shape, Pattern::Scattered(), kept, 32);
    const ValueId w = b.Constant("w", kept < 1 ? tesa.ApplyTo(weights) : weights);
    if (kept < 1) b.SetTesa(w, tesa);
    const int64_t pad = taps / 2;
    return b.Conv(x, w, {.strides = {stride, stride}, .pads = {pad, pad, pad, pad}, .layout = layout_},
                  depthwise ? channels : 1);
  }
  Graph Finish(ValueId y) {
    b.Output(y);
    StatusOr<Graph> graph = std::move(b).Build();
    TES_CHECK(graph.ok(), graph.status());
    return *std::move(graph);
  }
  GraphBuilder b{"network"};

 private:
  const std::string layout_;
  Random random_{3};
};

int CountOf(const Graph& graph, Op op) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.op == op; }));
}
int PlanarConvs(const Graph& graph) {
  return static_cast<int>(std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op == Op::kConv && node.attrs.String("layout") == "nchw";
  }));
}

TEST(ChoosePlanes, APrunedNetworkMovesAsAWhole) {
  for (const char* layout : {"nchw", "nhwc"}) {
    Network n(layout);
    const bool first = std::string(layout) == "nchw";
    ValueId x = n.b.Input("x", DType::kF32, first ? Shape({1, 3, 64, 64}) : Shape({1, 64, 64, 3}));
    x = n.b.Relu(n.Conv(x, 16, 3, 2, 1));
    x = n.b.Relu(n.Conv(x, 0, 3, 1, 1, /*depthwise=*/true));
    x = n.b.Relu(n.Conv(x, 64, 1, 1, 0.1));
    x = n.b.Relu(n.Conv(x, 0, 3, 2, 1, /*depthwise=*/true));
    x = n.b.Relu(n.Conv(x, 64, 1, 1, 0.1));
    Graph graph =
        n.Finish(n.b.Reduce(Op::kReduceMean, x, first ? std::vector<int64_t>{2, 3} : std::vector<int64_t>{1, 2}));
    ASSERT_OK(ChooseLayout(graph));
    ASSERT_OK(ChoosePlanes(graph));
    ASSERT_OK(Canonicalize(graph));
    ASSERT_OK(Verify(graph));
    // From channels last, the least is transposed behind the first two.
    EXPECT_EQ(PlanarConvs(graph), first ? 5 : 3) << PrintGraph(graph);
    EXPECT_EQ(CountOf(graph, Op::kTranspose), first ? 0 : 1) << PrintGraph(graph);
  }
}

TEST(ChoosePlanes, DenseNetworksStay) {
  Network n("nhwc");
  ValueId x = n.b.Input("x", DType::kF32, {1, 32, 32, 16});
  x = n.Conv(x, 32, 1, 1, 1);
  x = n.Conv(x, 0, 3, 1, 1, /*depthwise=*/true);
  Graph graph = n.Finish(n.Conv(x, 64, 3, 1, 1));
  ASSERT_OK(ChoosePlanes(graph));
  EXPECT_EQ(PlanarConvs(graph), 0);
}

TEST(ChoosePlanes, OneProductAmongDenseConvolutionsStays) {
  Network n("nhwc");
  ValueId x = n.b.Input("x", DType::kF32, {1, 14, 14, 256});
  x = n.Conv(x, 256, 3, 1, 1);
  x = n.Conv(x, 256, 1, 1, 0.1);
  Graph graph = n.Finish(n.Conv(x, 256, 3, 1, 1));
  ASSERT_OK(ChoosePlanes(graph));
  EXPECT_EQ(PlanarConvs(graph), 0);
}

}  // namespace
}  // namespace tessera
