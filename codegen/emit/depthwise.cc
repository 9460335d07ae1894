// The depthwise convolution emitter: channels-last images, one filter per channel.
//
//   for row of the result:  for tile of `width` pixels in the row:
//     for vector of channels:
//       sums[p] = 0
//       for ky (those within the image):
//         weights[kx] = filter[ky][kx][channels]
//         for each column of pixels that the tile's windows touch, once:
//           v = image[y][column][channels];   sums[p] += v * weights[kx]   for every p, kx that see it
//       result[p] = epilogue(sums[p])
//
//   3x3, stride 1, 4 pixels:   columns  0 1 2 3 4 5      6 loads of the image for 12 products
//                       sums[0] sees    0 1 2
//                       sums[1] sees      1 2 3 …
//
// Neighbouring windows share columns, so a tile loads (width - 1)·stride + kx columns instead of width·kx. With 7
// pixels of a 3x3 filter a kernel row takes 9 + 3 loads for 21 products: arithmetic is the bound, then the cache that
// holds the image. Which taps fall into padding to the left and right depends on the tile's place alone: tiles that
// touch padding are written out for their place, all others share one piece of code for each of their (at most two)
// widths.
#include <algorithm>
#include <optional>

#include "codegen/cost_model.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// More pieces of code for tiles at the borders than this are not worth it (filters of a third of the row's length).
constexpr int64_t kMaxBorderTiles = 4;

int64_t DivideUp(int64_t x, int64_t y) { return (x + y - 1) / y; }

struct DepthwiseSchedule {
  ConvGeometry g;
  int lanes = 1;
  // Tiles of a row: the first `wide_tiles` have `width` pixels, the others one less.
  int64_t tiles = 1, wide_tiles = 1;
  int width = 1;
  // Tiles [first_inner, end_inner) touch no padding at their sides.
  int64_t first_inner = 0, end_inner = 0;
  int64_t chunk_vectors = 1;  // vectors of channels of a task

  int64_t vectors() const { return DivideUp(g.groups, lanes); }
  int64_t chunks() const { return DivideUp(vectors(), chunk_vectors); }
  int64_t rows() const { return g.batch * g.y.out; }
  int64_t tasks() const { return rows() * chunks(); }
  int64_t FirstPixel(int64_t tile) const { return tile * width - std::max<int64_t>(0, tile - wide_tiles); }
  int WidthOf(int64_t tile) const { return tile < wide_tiles ? width : width - 1; }
  std::string Key() const {
    return internal::Join(g.Key(), " lanes ", lanes, " tiles ", tiles, " wide ", wide_tiles, " width ", width,
                          " inner ", first_inner, "..", end_inner, " chunk ", chunk_vectors);
  }
};

DepthwiseSchedule ScheduleDepthwise(const ConvGeometry& g, const Target& target) {
  DepthwiseSchedule s;
  s.g = g;
  s.lanes = target.Lanes(TypeInfo(g.type).bits);
  // Sums, a kernel row of weights and a few loads in flight share the registers; wider tiles than 8 gain nothing.
  const int64_t weights = std::min<int64_t>(g.x.taps, 5);
  const int64_t most = std::clamp<int64_t>(target.vector_registers - weights - 4, 1, 8);
  s.tiles = DivideUp(g.x.out, most);
  s.width = static_cast<int>(DivideUp(g.x.out, s.tiles));
  s.wide_tiles = g.x.out - s.tiles * (s.width - 1);
  const auto inner = [&](int64_t tile) {
    return g.x.window_inside(s.FirstPixel(tile)) && g.x.window_inside(s.FirstPixel(tile) + s.WidthOf(tile) - 1);
  };
  s.end_inner = s.tiles;
  while (s.first_inner < s.tiles && !inner(s.first_inner)) ++s.first_inner;
  while (s.end_inner > s.first_inner && !inner(s.end_inner - 1)) --s.end_inner;
  // Enough tasks for some threads to get equal shares, of at least two vectors so that a pixel's reads are neighbours.
  constexpr int64_t kWantedTasks = 48;
  const int64_t chunks =
      std::clamp<int64_t>(DivideUp(kWantedTasks, s.rows()), 1, std::max<int64_t>(1, s.vectors() / 2));
  s.chunk_vectors = DivideUp(s.vectors(), chunks);
  return s;
}

class DepthwiseEmitter {
 public:
  DepthwiseEmitter(KernelBuilder& b, const DepthwiseSchedule& schedule, const TileEpilogue& epilogue)
      : b_(b), s_(schedule), g_(schedule.g), epilogue_(epilogue) {}

  // task -> chunk of channels, row of the result.
  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      IrValue chunk = ir().CreateUDiv(task, b_.I64(s_.rows()));
      row_ = ir().CreateURem(task, b_.I64(s_.rows()));
      first_channel_ = Times(chunk, s_.chunk_vectors * s_.lanes);
      end_channel_ = Least(Plus(first_channel_, s_.chunk_vectors * s_.lanes), b_.I64(g_.groups));
      IrValue image = g_.batch == 1 ? b_.I64(0) : ir().CreateUDiv(row_, b_.I64(g_.y.out));
      IrValue oy = g_.batch == 1 ? row_ : ir().CreateURem(row_, b_.I64(g_.y.out));
      IrValue y0 = Plus(Times(oy, g_.y.stride), -g_.y.pad);
      image_row_ = Plus(Times(image, g_.y.in), y0);
      // Taps ky in [first_tap_, end_tap_) lie within the image: 0 <= y0 + ky * dilation < in.
      first_tap_ = b_.I64(0);
      end_tap_ = b_.I64(g_.y.taps);
      if (!g_.y.inside()) {
        IrValue before = ir().CreateSub(b_.I64(g_.y.dilation - 1), y0);
        IrValue below = ir().CreateSDiv(before, b_.I64(g_.y.dilation));
        first_tap_ = ir().CreateSelect(ir().CreateICmpSLT(y0, b_.I64(0)), below, first_tap_);
        IrValue left = ir().CreateSub(b_.I64(g_.y.in + g_.y.dilation - 1), y0);
        end_tap_ = Least(ir().CreateSDiv(left, b_.I64(g_.y.dilation)), end_tap_);
      }
      EmitTiles();
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, b_.I64(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, b_.I64(by), "", false, true); }
  IrValue Least(IrValue x, IrValue y) { return ir().CreateSelect(ir().CreateICmpSLT(x, y), x, y); }

  void EmitTiles() {
    for (int64_t tile = 0; tile < s_.first_inner; ++tile) BorderTile(tile);
    const auto inner = [&](int64_t begin, int64_t end, int width) {
      if (begin >= end) return;
      // Tiles of one width are `width` pixels apart.
      b_.For("tile", b_.I64(0), b_.I64(end - begin), 1, [&](IrValue number) {
        EmitChannels(Plus(Times(number, width), s_.FirstPixel(begin)), width, std::nullopt);
      });
    };
    const int64_t middle = std::clamp(s_.wide_tiles, s_.first_inner, s_.end_inner);
    inner(s_.first_inner, middle, s_.width);
    inner(middle, s_.end_inner, s_.width - 1);
    for (int64_t tile = s_.end_inner; tile < s_.tiles; ++tile) BorderTile(tile);
  }

  void BorderTile(int64_t tile) { EmitChannels(b_.I64(s_.FirstPixel(tile)), s_.WidthOf(tile), s_.FirstPixel(tile)); }

  // `place`: the first pixel where it is known, so that taps in the padding are left out.
  void EmitChannels(IrValue pixel, int width, std::optional<int64_t> place) {
    // Whole vectors, then what is left of the last one.
    IrValue whole_end = end_channel_;
    const int64_t rest = g_.groups % s_.lanes;
    if (rest != 0) whole_end = Least(end_channel_, b_.I64(g_.groups - rest));
    b_.For("channel", first_channel_, whole_end, s_.lanes,
           [&](IrValue channel) { EmitTile(pixel, width, place, channel, nullptr); });
    if (rest == 0) return;
    b_.If("last_channels", ir().CreateICmpEQ(end_channel_, b_.I64(g_.groups)),
          [&] { EmitTile(pixel, width, place, b_.I64(g_.groups - rest), b_.MaskBelow(b_.I64(rest), s_.lanes)); });
  }

  void EmitTile(IrValue pixel, int width, std::optional<int64_t> place, IrValue channel, IrValue mask) {
    const int64_t columns = (width - 1) * g_.x.stride + (g_.x.taps - 1) * g_.x.dilation + 1;
    IrValue first_column = Plus(Times(pixel, g_.x.stride), -g_.x.pad);
    IrValues sums(width, b_.Zero(g_.type, s_.lanes));
    sums = b_.For("ky", first_tap_, end_tap_, 1, sums, [&](IrValue ky, const IrValues& carried) {
      IrValues next = carried;
      IrValue at = Plus(Times(Plus(image_row_, Times(ky, g_.y.dilation)), g_.x.in), first_column);
      at = Plus(Times(at, g_.groups), channel);
      IrValue filter = Plus(Times(ky, g_.x.taps * g_.groups), channel);
      IrValues weights;
      for (int64_t kx = 0; kx < g_.x.taps; ++kx) {
        weights.push_back(b_.Load(b_.arg(1), Plus(filter, kx * g_.groups), g_.type, s_.lanes, mask));
      }
      for (int64_t column = 0; column < columns; ++column) {
        if (place && !Inside(*place * g_.x.stride - g_.x.pad + column)) continue;
        IrValue value = nullptr;
        for (int p = 0; p < width; ++p) {
          const int64_t offset = column - p * g_.x.stride;
          if (offset < 0 || offset % g_.x.dilation != 0 || offset / g_.x.dilation >= g_.x.taps) continue;
          if (value == nullptr) value = b_.Load(b_.arg(0), Plus(at, column * g_.groups), g_.type, s_.lanes, mask);
          next[p] = b_.Fma(value, weights[offset / g_.x.dilation], next[p]);
        }
      }
      return next;
    });
    EpilogueEmitter finish(b_, epilogue_, 2);
    IrValue first_row = Plus(Times(row_, g_.x.out), pixel);
    for (int p = 0; p < width; ++p) finish.Store(sums[p], Plus(first_row, p), channel, mask);
  }

  bool Inside(int64_t column) const { return column >= 0 && column < g_.x.in; }

  KernelBuilder& b_;
  const DepthwiseSchedule& s_;
  const ConvGeometry& g_;
  const TileEpilogue& epilogue_;
  IrValue row_ = nullptr, image_row_ = nullptr;  // of the result; of the image, for ky = 0
  IrValue first_channel_ = nullptr, end_channel_ = nullptr;
  IrValue first_tap_ = nullptr, end_tap_ = nullptr;
};

// Arguments: image, filter [ky, kx, channels], the epilogue's operands, result.
KernelSpec DepthwiseKernel(const DepthwiseSchedule& schedule, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "depthwise";
  kernel.key = "depthwise " + schedule.Key() + " " + epilogue.Key();
  kernel.emit = [schedule, epilogue](KernelBuilder& b) { DepthwiseEmitter(b, schedule, epilogue).Emit(); };
  return kernel;
}

// [channels, 1, ky, kx] as [ky, kx, channels].
Tensor FilterByTaps(const Tensor& weights, const ConvGeometry& g) {
  Tensor turned(weights.dtype(), Shape({g.taps(), g.groups}));
  const auto copy = [&](auto from, auto to) {
    for (int64_t c = 0; c < g.groups; ++c) {
      for (int64_t t = 0; t < g.taps(); ++t) to[t * g.groups + c] = from[c * g.taps() + t];
    }
  };
  if (g.type == DType::kF64) {
    copy(weights.data<double>(), turned.mutable_data<double>());
  } else {
    copy(weights.data<float>(), turned.mutable_data<float>());
  }
  return turned;
}

}  // namespace

extern const std::string_view kDepthwiseDoc;
const std::string_view kDepthwiseDoc = "channels-last depthwise convolutions of f32 and f64, vectors over channels";

std::optional<double> EstimateDepthwise(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why);
  if (!g) return std::nullopt;
  if (g->type != g->weights_type || (g->type != DType::kF32 && g->type != DType::kF64)) {
    *why = internal::Join("expected f32 or f64, found ", Name(g->type), " and ", Name(g->weights_type));
    return std::nullopt;
  }
  if (g->in_channels != 1 || g->out_channels != 1) {
    *why = internal::Join("expected one channel a group, found ", g->in_channels, " -> ", g->out_channels);
    return std::nullopt;
  }
  const DepthwiseSchedule s = ScheduleDepthwise(*g, target);
  const int64_t border = s.first_inner + (s.tiles - s.end_inner);
  if (border > kMaxBorderTiles) {
    *why = internal::Join("expected at most ", kMaxBorderTiles, " tiles at the borders of a row, found ", border);
    return std::nullopt;
  }
  const MachineModel machine(target);
  const double vectors = static_cast<double>(g->pixels() * s.vectors());
  const double taps = static_cast<double>(g->taps());
  const double loads = static_cast<double>(g->y.taps) *
                       (static_cast<double>(g->x.stride) + 2.0 * static_cast<double>(g->x.taps) / s.width);
  const double finish = (TileEpilogue(graph, node).cost() + 2) * machine.op_ns;
  const double compute = vectors * (std::max(taps * machine.fma_ns, loads * machine.load_ns) + finish);
  return std::max(compute, g->bytes() / machine.l2_bytes_per_ns) / 1000 + machine.step_ns / 1000;
}

Status PlanDepthwise(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<ConvGeometry> g = ReadConvGeometry(builder.graph(), node, &why);
  TES_CHECK(g.has_value(), why);
  const TileEpilogue epilogue(builder.graph(), node);
  const DepthwiseSchedule schedule = ScheduleDepthwise(*g, builder.target());
  const Value& weights = builder.graph()[node.inputs[1]];
  PlanStep step;
  step.kernel = DepthwiseKernel(schedule, epilogue);
  step.args = {builder.Read(node.inputs[0]),
               {.buffer = builder.Constant(weights.name + ".taps", FilterByTaps(weights.constant, *g))}};
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks();
  step.label = node.name;
  step.flops = g->flops();
  step.bytes = g->bytes();
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
