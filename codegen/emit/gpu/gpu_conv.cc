// The convolution emitter for GPUs: dense convolutions as matrix products (matmul_kernel.h).
//
//   channels last    C[pixel, out]         = sum over depth of A[pixel, depth] * W[out, depth]      depth = tap,
//   channel channels first   C[image][out, pixel]  = sum over depth of W[out, depth] * B[image][depth, pixel] channel,
//   tap
//
//   1x1, stride 1:   A or B is the image where it lies: one step
//   "gather …":      channels last; windows are gathered while tiles are loaded (tile_copy.h): one step
//   otherwise:       windows are copied first (gpu_stages.h), 16 bytes at once where channels allow it: taps times the
//                    image, most of which stays in the second-level cache
//
// Several groups are a batch of products over windows of their own channels, gathered. Weights with channels last are
// laid while compiling as [out, ky, kx, in], lines of a multiple of 16 bytes. Ways are the product's, by both routes.
// What binds: the product; for few channels the gathering or the copy. Tested by gpu_conv_test.cc.
#include "codegen/emit/gpu/gpu_conv.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/emit/gpu/gpu_stages.h"
#include "codegen/emitter.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr std::string_view kGather = "gather ";  // begins names of ways

struct GpuConv {
  ConvGeometry g;
  bool channels_last = true;
  bool gathers = false;  // windows may be gathered

  bool copies() const { return !g.IsMatmul(); }
  int64_t depth() const { return g.taps() * g.in_channels; }
  int column_dims(const Shape& out) const { return channels_last ? 1 : out.rank() - 2; }
  DType a() const { return channels_last ? g.type : g.weights_type; }
  DType b() const { return channels_last ? g.weights_type : g.type; }

  MatmulProblem Product() const {
    MatmulProblem p;
    p.depth = depth();
    if (channels_last) {
      p.rows = g.pixels();
      p.columns = g.out_channels;
      p.b_transposed = p.b_constant = true;
      p.a_matrices = p.b_matrices = g.groups;
      if (g.groups > 1) p.batch = {{.extent = g.groups, .a_step = 1, .b_step = 1}};
      return p;
    }
    p.rows = g.out_channels;
    p.columns = g.y.out * g.x.out;
    p.b_matrices = g.batch;
    p.batch = {{.extent = g.batch, .a_step = 0, .b_step = 1}};
    return Simplify(p);
  }

  // The windows as a Compute: a value for each pixel of the result, tap and channel, in the order of the product.
  Compute Windows() const {
    const int64_t c = g.in_channels;
    const BufferRef in = {BufferKind::kInput, 0}, out = {BufferKind::kOutput, 0};
    const Shape image = channels_last ? Shape({g.batch, g.y.in, g.x.in, c}) : Shape({g.batch, c, g.y.in, g.x.in});
    const Shape windows = channels_last ? Shape({g.batch, g.y.out, g.x.out, g.y.taps, g.x.taps, c})
                                        : Shape({g.batch, c, g.y.taps, g.x.taps, g.y.out, g.x.out});
    const auto position = [](const ConvAxis& axis, int window, int tap) {
      return tap < window ? AxisPlus(Axis(tap, axis.dilation, -axis.pad), window, axis.stride)
                          : AxisPlus(Axis(window, axis.stride, -axis.pad), tap, axis.dilation);
    };
    Access read = {.buffer = in, .view = image};
    if (channels_last) {
      read.index = {Axis(0), position(g.y, 1, 3), position(g.x, 2, 4), Axis(5)};
    } else {
      read.index = {Axis(0), Axis(1), position(g.y, 4, 2), position(g.x, 5, 3)};
    }
    read.guarded = !g.y.inside() || !g.x.inside();
    read.fill = static_cast<double>(g.pad_value);
    Compute compute;
    compute.inputs = {{g.type, image}};
    compute.outputs = {{g.type, windows}};
    compute.stages = {MapStage("windows", windows, {std::move(read)}, IdentityBody(g.type), out)};
    return compute;
  }
};

std::optional<GpuConv> ProblemOf(const Graph& graph, const Node& node, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kConv) return no("no conv");
  GpuConv p;
  p.channels_last = node.attrs.String("layout") == "nhwc";
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why, p.channels_last ? "nhwc" : "nchw");
  if (!g) return std::nullopt;
  p.g = *g;
  p.gathers = p.channels_last && p.copies() && CanGatherWindows(*g, why);
  if (g->groups != 1) {
    if (g->in_channels == 1 && g->out_channels == 1) return no("one channel a group");
    if (!p.channels_last) return no("expected one group or channels last, found ", g->groups);
    if (!p.gathers) return std::nullopt;
  }
  if (TypeInfo(g->type).bits < 8 || TypeInfo(g->weights_type).bits < 8) return no("elements of less than a byte");
  if (node.epilogue && node.epilogue->body.uses_index()) return no("the epilogue asks where it is");
  const TileEpilogue epilogue(graph, node, p.column_dims(graph[node.outputs[0]].type.shape));
  if (!epilogue.even()) return no("operands of the epilogue are not walked evenly along pixels");
  if (!epilogue.bytewise()) return no("results or operands of less than a byte");
  constexpr int64_t kMost = int64_t{1} << 30;
  if (g->pixels() * p.depth() > kMost) return no("too large for 32-bit indices");
  return p;
}

}  // namespace

extern const std::string_view kGpuConvDoc;
const std::string_view kGpuConvDoc =
    "dense convolutions as products, of the image itself or of its windows, gathered or copied";

std::vector<Way> WaysGpuConv(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<GpuConv> p = ProblemOf(graph, node, why);
  if (!p) return {};
  std::vector<Way> ways;
  if (p->gathers) {
    for (const GpuMatmulWay& way : GpuMatmulWays(p->Product(), p->a(), p->b(), target, why, &p->g)) {
      ways.push_back({.name = internal::Join(kGather, way.tiling.Name()), .us = way.us});
    }
  }
  if (p->g.groups == 1) {
    double copy = 0;
    if (p->copies()) {
      const Compute windows = p->Windows();
      copy = GpuStageMicroseconds(windows, windows.stages[0], target);
    }
    for (const GpuMatmulWay& way : GpuMatmulWays(p->Product(), p->a(), p->b(), target, why)) {
      ways.push_back({.name = way.tiling.Name(), .us = way.us + copy});
    }
  }
  std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) { return a.us < b.us; });
  constexpr size_t kMostWays = 4;
  if (ways.size() > kMostWays && !target.whole_space) ways.resize(kMostWays);
  return ways;
}

std::optional<double> GpuConvMicroseconds(const Graph& graph, const Node& node, const Target& target,
                                          std::string* why) {
  const std::vector<Way> ways = WaysGpuConv(graph, node, target, why);
  if (ways.empty()) return std::nullopt;
  return ways[0].us;
}

Status PlanGpuConv(const Node& node, const std::string& way, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  std::string why;
  const std::optional<GpuConv> p = ProblemOf(graph, node, &why);
  TES_CHECK(p.has_value(), node.name, ": ", why);
  StepArg image = builder.Read(node.inputs[0]);
  const bool gathers = way.rfind(kGather, 0) == 0;
  if (p->copies() && !gathers) {
    const Compute windows = p->Windows();
    const int buffer =
        builder.Temp(node.name + ".windows", ByteSize(p->g.type, windows.outputs[0].shape.num_elements()));
    PlanStep step = PlanGpuStage(windows, windows.stages[0], builder.target(), [&](BufferRef ref) -> StepArg {
      return ref.kind == BufferKind::kInput ? image : StepArg{.buffer = buffer, .writes = true};
    });
    step.label = node.name;
    builder.AddStep(std::move(step));
    image = {.buffer = buffer};
  }
  const MatmulProblem product = p->Product();
  const Value& weights = graph[node.inputs[1]];
  StepArg filter;
  if (p->channels_last) {
    const bool rounds = MultipliesTf32(way, p->b());
    const auto lay = [&] {
      Tensor laid = LayDepthInner(WeightsInWindowOrder(weights.constant, p->g), product, LaidPitch(product, p->b()));
      return rounds ? RoundedToTf32(std::move(laid)) : laid;
    };
    filter.buffer = builder.ConstantOnce(weights.name + (rounds ? ".windows_inner.tf32" : ".windows_inner"), lay);
  } else {
    filter = builder.Read(node.inputs[1]);
  }
  const TileEpilogue epilogue(graph, node, p->column_dims(graph[node.outputs[0]].type.shape));
  const GpuMatmulOperands operands = {.a_type = p->a(),
                                      .b_type = p->b(),
                                      .a = p->channels_last ? image : filter,
                                      .b = p->channels_last ? filter : image,
                                      .windows = gathers ? &p->g : nullptr};
  const std::string tiling = gathers ? way.substr(kGather.size()) : way;
  return PlanGpuMatmulSteps(node, product, operands, epilogue, tiling, builder);
}

}  // namespace tessera
