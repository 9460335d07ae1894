#include "graph/passes/choose_planes.h"

#include "graph/passes/move_layout.h"

namespace tessera {
namespace {

// A dense convolution with so many weights at most is straight code or short loops for the kernels that scattered ones
// have.
constexpr int64_t kFewWeights = 48 << 10;
// More kept than this is as good as dense.
constexpr double kMostKept = 0.75;

// What a resized pixel costs more with channels first.
constexpr int64_t kResizedPixel = 5;

double KeptShare(const Value& weights) {
  if (!weights.tesa || weights.type.shape.num_elements() == 0) return 1;
  return static_cast<double>(weights.tesa->KeptBitmap().Count()) /
         static_cast<double>(weights.type.shape.num_elements());
}

LayoutRole RoleOfConv(const Graph& graph, const Node& node) {
  const Value &x = graph[node.inputs[0]], &w = graph[node.inputs[1]], &y = graph[node.outputs[0]];
  if (node.attrs.String("layout") != "nhwc" || x.type.shape.rank() != 4 || node.outputs.size() != 1 ||
      x.type.dtype != DType::kF32 || w.type.dtype != DType::kF32 || !graph.IsConstant(node.inputs[1]) ||
      (node.epilogue && node.epilogue->body.uses_index())) {
    return LayoutRole::Stays();
  }
  const Shape& filter = w.type.shape;
  const int64_t groups = node.attrs.Int("groups"), taps = filter[2] * filter[3];
  if (groups > 1 && filter[1] == 1 && filter[0] == groups) {
    return node.attrs.Ints("strides")[1] <= 2 ? LayoutRole::Follows() : LayoutRole::Stays();
  }
  // With channels first, windows of more than one pixel are copied in front of the product; a vector of that costs a
  // quarter of what a transposed one does.
  const int64_t pixels = y.type.shape.num_elements() / y.type.shape[3];
  const int64_t windows = taps == 1 ? 0 : pixels * taps * x.type.shape[3] / 4;
  if (KeptShare(w) > kMostKept) {
    return w.type.shape.num_elements() <= kFewWeights ? LayoutRole::Follows(0, windows) : LayoutRole::Stays();
  }
  // With channels last: both ends transposed on the way; there is no such product of windows, only a dense one.
  const int64_t staying =
      taps == 1 ? x.type.shape.num_elements() + y.type.shape.num_elements() / 2 : y.type.shape.num_elements() * taps;
  return LayoutRole::Follows(staying, windows);
}

}  // namespace

Status ChoosePlanes(Graph& graph) {
  return MoveLayout(graph, ImageLayout::kChannelsFirst, [](const Graph& g, const Node& node) {
    switch (node.op) {
      case Op::kConv: return RoleOfConv(g, node);
      // Vectors of channels are what these kernels are good at.
      case Op::kMaxPool:
      case Op::kAvgPool:
      case Op::kSoftmax:
      case Op::kLogSoftmax:
      case Op::kArgMax:
      case Op::kArgMin: return LayoutRole::Stays();
      // Along rows every pixel's sources are looked up one by one: 0.9 ns a pixel, 0.1 ns with channels last.
      case Op::kResize: {
        const int64_t pixels = g[node.outputs[0]].type.shape.num_elements();
        LayoutRole role = FollowerRole(g, node, ImageLayout::kChannelsFirst);
        if (role.kind == LayoutRole::Kind::kMoves) role.cost_of_moving = kResizedPixel * pixels;
        return role;
      }
      default: return FollowerRole(g, node, ImageLayout::kChannelsFirst);
    }
  });
}

}  // namespace tessera
