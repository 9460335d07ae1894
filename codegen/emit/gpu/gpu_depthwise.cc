// The depthwise convolution emitter for GPUs: one filter a channel, channels last or first.
//
//   a thread has `rows` x `columns` pixels of `lanes` channels (last) or of one channel (first):
//     weights[ky][kx]                                        in registers
//     for each pixel that its windows touch, once:
//       v = image[y][x], or what lies outside
//       sums[r][p] += v * weights[ky][kx]    for every r, p, ky, kx that see it
//     out[r][p] = epilogue(sums[r][p])
//
//   3x3, stride 1, 2x4 pixels:   4 x 6 loads for 72 products
//
// Neighbouring threads have neighbouring channels (4 of them, 16 bytes of f32) or, with channels first, neighbouring
// columns. Everything is written out; what lies outside is read from a place that exists and replaced, so that the
// loads go together. Small images take fewer pixels a thread, so that more threads hide the latency.
//
// What binds: at f32 the second-level cache or memory; 9 products an element cost a third of that. Tested by
// gpu_depthwise_test.cc.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>

#include "base/round.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/gpu/warp_join.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "codegen/gpu_model.h"
#include "graph/op.h"

namespace tessera {
namespace {

constexpr int64_t kThreads = 128;
constexpr int64_t kMostWeights = 64;  // registers of a thread

struct GpuDepthwise {
  ConvGeometry g;
  bool channels_last = true;
  int lanes = 1;
  int64_t rows = 1, columns = 1;  // pixels of a thread

  int64_t tiles_y() const { return DivideUp(g.y.out, rows); }
  int64_t tiles_x() const { return DivideUp(g.x.out, columns); }
  int64_t work() const { return g.batch * (g.groups / lanes) * tiles_y() * tiles_x(); }  // threads
  DType sum() const { return ComputeType(g.type); }
  std::string Way() const { return internal::Join(rows, "x", columns); }
  std::string Key() const {
    return internal::Join("gpu_depthwise ", g.Key(), channels_last ? " last" : " first", " lanes ", lanes, " tile ",
                          rows, "x", columns);
  }
};

// Image, filter ([taps][channels] or [channels][taps]), the epilogue's operands, result.
class GpuDepthwiseEmitter {
 public:
  GpuDepthwiseEmitter(KernelBuilder& b, const GpuDepthwise& problem, const TileEpilogue& epilogue)
      : b_(b), p_(problem), g_(problem.g), epilogue_(epilogue) {}

  void Emit() {
    b_.AssumeAligned(true);
    IrValue number =
        ir().CreateAdd(ir().CreateMul(b_.BlockId(0), I32(kThreads), "", true, true), b_.ThreadId(), "", true, true);
    if (p_.work() % kThreads == 0) return EmitThread(number);
    b_.If("exists", ir().CreateICmpULT(number, I32(p_.work())), [&] { EmitThread(number); });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue Wide(IrValue x) { return ir().CreateSExt(x, ir().getInt64Ty()); }
  // In 32 bits, signed: places may lie before the image.
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, I32(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, I32(by), "", false, true); }

  // number -> tile of x, tile of y, channels, image: channels or columns run fastest.
  void EmitThread(IrValue number) {
    const auto next = [&](int64_t extent) {
      IrValue at = ir().CreateURem(number, I32(extent));
      number = ir().CreateUDiv(number, I32(extent));
      return at;
    };
    const int64_t vectors = g_.groups / p_.lanes;
    IrValue channel = nullptr, tile_x = nullptr, tile_y = nullptr;
    if (p_.channels_last) channel = next(vectors);
    tile_x = next(p_.tiles_x());
    tile_y = next(p_.tiles_y());
    if (!p_.channels_last) channel = next(vectors);
    image_ = number;
    channel_ = Times(channel, p_.lanes);
    oy_ = Times(tile_y, p_.rows);
    ox_ = Times(tile_x, p_.columns);
    EmitSums();
    EmitResults();
  }

  void EmitSums() {
    IrValues weights;
    for (int64_t t = 0; t < g_.taps(); ++t) {
      IrValue at = p_.channels_last ? Plus(channel_, t * g_.groups) : Plus(Times(channel_, g_.taps()), t);
      weights.push_back(b_.Load(b_.arg(1), Wide(at), g_.weights_type, p_.lanes));
    }
    sums_.assign(static_cast<size_t>(p_.rows * p_.columns), b_.Zero(p_.sum(), p_.lanes));
    IrValue y0 = Plus(Times(oy_, g_.y.stride), -g_.y.pad), x0 = Plus(Times(ox_, g_.x.stride), -g_.x.pad);
    const auto span = [](const ConvAxis& axis, int64_t outputs) {
      return (outputs - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1;
    };
    // The tap with which output `o` sees pixel `at`, or -1.
    const auto tap = [](const ConvAxis& axis, int64_t at, int64_t o) {
      const int64_t offset = at - o * axis.stride;
      return offset >= 0 && offset % axis.dilation == 0 && offset / axis.dilation < axis.taps ? offset / axis.dilation
                                                                                              : int64_t{-1};
    };
    const auto exists = [&](const ConvAxis& axis, int64_t outputs, IrValue at) -> IrValue {
      if (axis.inside() && axis.out % outputs == 0) return nullptr;
      return ir().CreateICmpULT(at, I32(axis.in));
    };
    IrValues column_exists;
    for (int64_t ix = 0; ix < span(g_.x, p_.columns); ++ix)
      column_exists.push_back(exists(g_.x, p_.columns, Plus(x0, ix)));
    for (int64_t iy = 0; iy < span(g_.y, p_.rows); ++iy) {
      IrValue y = Plus(y0, iy);
      IrValue row_exists = exists(g_.y, p_.rows, y);
      IrValue row = p_.channels_last ? Plus(Times(image_, g_.y.in), y)
                                     : Plus(Times(Plus(Times(image_, g_.groups), channel_), g_.y.in), y);
      IrValue first = Plus(Times(row, g_.x.in), x0);
      for (int64_t ix = 0; ix < span(g_.x, p_.columns); ++ix) {
        IrValue value = nullptr;
        for (int64_t r = 0; r < p_.rows; ++r) {
          for (int64_t p = 0; p < p_.columns; ++p) {
            const int64_t ky = tap(g_.y, iy, r), kx = tap(g_.x, ix, p);
            if (ky < 0 || kx < 0) continue;
            if (value == nullptr) value = Pixel(Plus(first, ix), row_exists, column_exists[static_cast<size_t>(ix)]);
            IrValue& sum = sums_[static_cast<size_t>(r * p_.columns + p)];
            IrValue weight = weights[static_cast<size_t>(ky * g_.x.taps + kx)];
            sum = IsFloat(p_.sum()) ? b_.Fma(value, weight, sum) : ir().CreateAdd(ir().CreateMul(value, weight), sum);
          }
        }
      }
    }
  }

  IrValue Pixel(IrValue at, IrValue row_exists, IrValue column_exists) {
    if (p_.channels_last) at = Plus(Times(at, g_.groups), channel_);
    IrValue exists = row_exists;
    if (column_exists != nullptr) exists = exists == nullptr ? column_exists : ir().CreateAnd(exists, column_exists);
    if (exists == nullptr) return b_.Load(b_.arg(0), Wide(at), g_.type, p_.lanes);
    IrValue value = b_.Load(b_.arg(0), Wide(ir().CreateSelect(exists, at, I32(0))), g_.type, p_.lanes);
    return ir().CreateSelect(exists, value, b_.ConstantInt(p_.sum(), g_.pad_value, p_.lanes));
  }

  void EmitResults() {
    for (int64_t r = 0; r < p_.rows; ++r) {
      for (int64_t p = 0; p < p_.columns; ++p) {
        IrValue y = Plus(oy_, r), x = Plus(ox_, p), exists = nullptr;
        if (g_.y.out % p_.rows != 0 && r > 0) exists = ir().CreateICmpULT(y, I32(g_.y.out));
        if (g_.x.out % p_.columns != 0 && p > 0) {
          IrValue in_row = ir().CreateICmpULT(x, I32(g_.x.out));
          exists = exists == nullptr ? in_row : ir().CreateAnd(exists, in_row);
        }
        const auto store = [&] {
          EpilogueEmitter finish(b_, epilogue_, 2);
          IrValue& sum = sums_[static_cast<size_t>(r * p_.columns + p)];
          if (p_.channels_last) {
            IrValue pixel = Plus(Times(Plus(Times(image_, g_.y.out), y), g_.x.out), x);
            finish.Store(sum, Wide(pixel), Wide(channel_));
          } else {
            IrValue plane = Plus(Times(image_, g_.groups), channel_);
            finish.Store(sum, Wide(Plus(Times(plane, g_.y.out), y)), Wide(x));
          }
        };
        exists == nullptr ? store() : b_.If("store", exists, store);
      }
    }
  }

  KernelBuilder& b_;
  const GpuDepthwise& p_;
  const ConvGeometry& g_;
  const TileEpilogue& epilogue_;
  IrValue image_ = nullptr, channel_ = nullptr, oy_ = nullptr, ox_ = nullptr;  // i32
  IrValues sums_;
};

// `aligned`: buffers are used from multiples of 16 bytes on.
std::optional<GpuDepthwise> ProblemOf(const Graph& graph, const Node& node, bool aligned, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (node.op != Op::kConv) return no("no conv");
  GpuDepthwise p;
  p.channels_last = node.attrs.String("layout") == "nhwc";
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why, p.channels_last ? "nhwc" : "nchw");
  if (!g) return std::nullopt;
  p.g = *g;
  if (g->in_channels != 1 || g->out_channels != 1) {
    return no("expected one channel a group, found ", g->in_channels, " -> ", g->out_channels);
  }
  if (ComputeType(g->type) != ComputeType(g->weights_type) || TypeInfo(g->type).bits < 8 ||
      TypeInfo(g->weights_type).bits < 8 || ComputeType(g->type) == DType::kI64) {
    return no("found an image of ", Name(g->type), ", weights of ", Name(g->weights_type));
  }
  if (node.epilogue && node.epilogue->body.uses_index()) return no("the epilogue asks where it is");
  if (!TileEpilogue(graph, node).bytewise()) return no("results or operands smaller than a byte");
  constexpr int64_t kMost = int64_t{1} << 30;
  if (std::max(g->batch * g->y.in * g->x.in, g->pixels()) * g->groups > kMost)
    return no("too large for 32-bit indices");
  if (g->taps() > kMostWeights) return no(g->taps(), " weights do not fit into registers");
  if (p.channels_last && aligned) {
    p.lanes = TypeInfo(p.sum()).bits > 32 ? 2 : 4;
    while (g->groups % p.lanes != 0 || g->taps() * p.lanes > kMostWeights) p.lanes /= 2;
  }
  return p;
}

// The problem by tiles that it may be cut into, the one to take first; all of them where the target asks for it.
std::vector<GpuDepthwise> TilesOf(GpuDepthwise p, const Target& target) {
  struct Tile {
    int64_t rows, columns;
  };
  constexpr Tile kLast[] = {{2, 4}, {2, 2}, {1, 2}, {1, 1}}, kFirst[] = {{4, 1}, {2, 1}, {1, 1}};
  std::vector<GpuDepthwise> tiles;
  for (const Tile& tile : p.channels_last ? std::span<const Tile>(kLast) : std::span<const Tile>(kFirst)) {
    p.rows = std::min(tile.rows, p.g.y.out);
    p.columns = std::min(tile.columns, p.g.x.out);
    if (tiles.empty() || tiles.back().Way() != p.Way()) tiles.push_back(p);
  }
  // The largest one that leaves enough threads.
  constexpr int64_t kThreadsOfUnit = 256;
  auto taken = std::find_if(tiles.begin(), tiles.end(), [&](const GpuDepthwise& tile) {
    return tile.work() >= GpuModel(target).units * kThreadsOfUnit;
  });
  if (taken == tiles.end()) --taken;
  std::rotate(tiles.begin(), taken, taken + 1);
  if (!target.whole_space) tiles.resize(1);
  return tiles;
}

double Microseconds(const GpuDepthwise& p, double epilogue, const Target& target) {
  const GpuModel gpu(target);
  const ConvGeometry& g = p.g;
  const double pixels = static_cast<double>(p.rows * p.columns);
  const double loads =
      static_cast<double>(((p.rows - 1) * g.y.stride + g.y.taps) * ((p.columns - 1) * g.x.stride + g.x.taps));
  // Instructions of a thread: products of each lane, a load with its address and conversion, the epilogue.
  const double lanes = p.lanes;
  const double instructions = static_cast<double>(g.taps()) * (pixels * lanes + 1) + loads * (5 + lanes) +
                              pixels * (6 + lanes * (1 + epilogue)) + 40;
  const double per_us = gpu.units * gpu.lanes_per_clock * gpu.clock_ghz * 1e3;
  // The image comes from the first-level cache but for the first time; loads go together, in about three rounds.
  constexpr double kLatency = 1.5;
  return gpu.launch_us + std::max({static_cast<double>(p.work()) * instructions / per_us,
                                   2 * g.bytes() / gpu.l2_bytes_per_ns / 1000, kLatency});
}

}  // namespace

extern const std::string_view kGpuDepthwiseDoc;
const std::string_view kGpuDepthwiseDoc = "depthwise convolutions, some pixels a thread, weights in registers";

std::vector<Way> WaysGpuDepthwise(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<GpuDepthwise> p = ProblemOf(graph, node, true, why);
  if (!p) return {};
  std::vector<Way> ways;
  for (const GpuDepthwise& tile : TilesOf(*p, target)) {
    ways.push_back({.name = tile.Way(), .us = Microseconds(tile, TileEpilogue(graph, node).cost(), target)});
  }
  return ways;
}

Status PlanGpuDepthwise(const Node& node, const std::string& way, PlanBuilder& builder) {
  const Graph& graph = builder.graph();
  const Value& weights = graph[node.inputs[1]];
  auto epilogue = std::make_shared<const TileEpilogue>(graph, node);
  PlanStep step;
  step.args = {builder.Read(node.inputs[0])};
  std::string why;
  const auto problem = [&](bool aligned) {
    std::optional<GpuDepthwise> p = ProblemOf(graph, node, aligned, &why);
    TES_CHECK(p.has_value(), node.name, ": ", why);
    TES_CHECK(std::sscanf(way.c_str(), "%" SCNd64 "x%" SCNd64, &p->rows, &p->columns) == 2, way);
    return *std::move(p);
  };
  const GpuDepthwise any = problem(false);
  if (any.channels_last) {
    const auto turn = [&] { return FilterByTaps(weights.constant, any.g); };
    step.args.push_back({.buffer = builder.ConstantOnce(weights.name + ".taps", turn)});
  } else {
    step.args.push_back(builder.Read(node.inputs[1]));
  }
  epilogue->AddArguments(node, builder, step);
  constexpr int64_t kBytes = 16;
  const bool aligned =
      std::all_of(step.args.begin(), step.args.end(), [](const StepArg& arg) { return arg.offset % kBytes == 0; });
  auto p = std::make_shared<const GpuDepthwise>(problem(aligned));
  step.launch = {.x = DivideUp(p->work(), kThreads), .threads = kThreads};
  step.label = node.name;
  step.flops = p->g.flops();
  step.bytes = p->g.bytes();
  step.kernel.family = "depthwise";
  step.kernel.key = p->Key() + "\n" + epilogue->Key();
  step.kernel.block_threads = static_cast<int>(kThreads);
  // Up to 168 registers, or 255 for the largest tile.
  const int64_t registers = (p->rows * p->columns + p->g.taps()) * p->lanes;
  constexpr int64_t kMany = 64;
  step.kernel.blocks_per_unit = registers > kMany ? 2 : 3;
  step.kernel.emit = [p, epilogue](KernelBuilder& b) { GpuDepthwiseEmitter(b, *p, *epilogue).Emit(); };
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
