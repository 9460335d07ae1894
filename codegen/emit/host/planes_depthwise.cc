// The planes_depthwise emitter: depthwise convolutions of images with channels first, vectors of neighbouring pixels.
//
//   for plane (image and channel):
//     weights[ky][kx] in all lanes
//     for strip of up to a vector of columns:  for tile of `height` rows:
//       sums[r] = 0
//       for each row of the image that the tile's windows touch, once:
//         v[kx] = row[strip's columns * stride + kx - pad]       masked where the strip touches the image's sides
//         sums[r] += v[kx] * weights[ky][kx]   for every r, ky that see the row
//       result[r][strip] = epilogue(sums[r])
//
//   3x3, stride 1, 7 rows:   9 rows of 3 loads for 63 products: arithmetic binds, though two of three loads touch two
//                            lines of the cache each
//   stride 2:                two loads, and a shuffle for each of the two taps that share them
//
// What the sides cut off is known for each strip where it stands: strips at the sides are written out, all others share
// a loop. Rows above and below the image are a row of zeros, or left out where one or two tiles make the image. The
// last strip of a row is half a vector where that suffices: cores that split 512 bits take half the time for it.
//
// Where planes lie in bands (planes.h) a task computes rows of one, so that addresses are those of a whole plane but
// for a start of its own; only rows beside the band lie elsewhere. An address for each row by its number instead kept
// so many registers busy that the weights were spilled (12 % slower on one core).
#include <algorithm>
#include <numeric>
#include <optional>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/host/planes.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// More strips at the sides than this are filters of a large part of the row's length.
constexpr int kMaxBorderStrips = 4;
// Filters with more taps are read from memory again and again, and there are better ways.
constexpr int64_t kMaxTaps = 49;
constexpr int64_t kMaxStrideX = 2;
constexpr int64_t kLineElements = 16;

// Columns [first, first + count) of a result's row, in a vector of `lanes`.
struct Strip {
  int64_t first = 0;
  int count = 0, lanes = 0;
};

struct PlanesSchedule {
  ConvGeometry g;
  PlaneLayout in, out;
  int lanes = 1;
  int height = 1;          // rows of a tile; what is left over is one tile more
  int64_t band_tiles = 1;  // whole tiles of a task

  int64_t planes() const { return g.batch * g.groups; }
  int64_t tiles() const { return g.y.out / height; }
  int rest() const { return static_cast<int>(g.y.out % height); }
  int64_t bands() const {
    return unrolled() ? tiles() + (rest() > 0 ? 1 : 0) : std::max<int64_t>(1, DivideUp(tiles(), band_tiles));
  }
  int64_t tasks() const { return planes() * bands(); }
  int64_t task_rows() const { return unrolled() ? height : band_tiles * height; }
  // Few enough tiles to write each out for its place? Each is a band then.
  bool unrolled() const { return tiles() + (rest() > 0 ? 1 : 0) <= 2; }
  std::vector<Strip> Strips() const;
  // The columns that one load reads for a strip, from the tap that it serves on.
  int64_t LoadSpan(int strip_lanes) const { return strip_lanes * g.x.stride; }
  // Does nothing that the strip loads lie beside the image?
  bool IsInner(const Strip& strip) const;
  std::string Key() const {
    return internal::Join(g.Key(), " from ", in.Key(), " to ", out.Key(), " lanes ", lanes, " height ", height,
                          " band ", band_tiles);
  }
};

std::vector<Strip> PlanesSchedule::Strips() const {
  std::vector<Strip> strips;
  for (int64_t first = 0; first < g.x.out; first += lanes) {
    const int count = static_cast<int>(std::min<int64_t>(lanes, g.x.out - first));
    strips.push_back({first, count, lanes == 16 && count <= 8 ? 8 : lanes});
  }
  return strips;
}

bool PlanesSchedule::IsInner(const Strip& strip) const {
  const int64_t first = strip.first * g.x.stride - g.x.pad, last_tap = (g.x.taps - 1) * g.x.dilation;
  return strip.count == strip.lanes && first >= 0 && first + last_tap + LoadSpan(strip.lanes) <= g.x.in;
}

// Do rows of the image follow those of the result, so that bands of both have one border?
bool InStep(const ConvGeometry& g) { return g.y.in == g.y.out * g.y.stride; }

PlanesSchedule ScheduleDepthwisePlanes(const ConvGeometry& g, const PlaneLayout& in, const PlaneLayout& out,
                                       const Target& target) {
  PlanesSchedule s;
  s.g = g;
  s.in = in;
  s.out = out;
  s.lanes = target.Lanes(32);
  // Sums beside weights (those that fit) and a row's loads in flight.
  const int64_t weights = g.taps() <= 9 ? g.taps() : g.x.taps;
  const int64_t most = std::clamp<int64_t>(target.vector_registers - weights - g.x.taps - 2, 2, 8);
  // Rows of the result that tiles have to divide.
  int64_t band = 0;
  if (in.banded()) band = in.band_pixels / g.x.in / g.y.stride;
  if (out.banded()) band = std::gcd(band, out.band_pixels / g.x.out);
  // The highest tile that divides the image; otherwise the one that leaves the most over.
  for (int64_t height = std::min(most, g.y.out); height >= 1; --height) {
    if (band > 0) {
      if (band % height != 0) continue;
      s.height = static_cast<int>(height);
      break;
    }
    if (s.height == 1) s.height = static_cast<int>(height);
    if (g.y.out % height == 0 && 2 * height > most) {
      s.height = static_cast<int>(height);
      break;
    }
    if (g.y.out % height > g.y.out % s.height) s.height = static_cast<int>(height);
  }
  // Bands enough for some threads to get equal parts of the image, and enough tasks.
  constexpr int64_t kWantedTasks = 48, kWantedBands = 8;
  const int64_t bands = std::clamp<int64_t>(std::max(kWantedBands, DivideUp(kWantedTasks, s.planes())), 1,
                                            std::max<int64_t>(1, s.tiles()));
  s.band_tiles = std::max<int64_t>(1, DivideUp(s.tiles(), bands));
  while (band > 0 && band / s.height % s.band_tiles != 0) --s.band_tiles;
  return s;
}

PlanesSchedule ScheduleWithoutGaps(const ConvGeometry& g, const Target& target) {
  return ScheduleDepthwisePlanes(g, {.pitch = g.y.in * g.x.in}, {.pitch = g.y.out * g.x.out}, target);
}

class PlanesEmitter {
 public:
  PlanesEmitter(KernelBuilder& b, const PlanesSchedule& schedule, const TileEpilogue& epilogue)
      : b_(b), s_(schedule), g_(schedule.g), epilogue_(epilogue) {}

  // task -> band of tiles, plane: threads get parts of the image, as they do of the products in front and behind, so
  // that most of what one reads it has written itself.
  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      IrValue band = b_.I64(0);
      plane_ = task;
      if (s_.bands() > 1) {
        band = ir().CreateUDiv(task, b_.I64(s_.planes()));
        plane_ = ir().CreateURem(task, b_.I64(s_.planes()));
      }
      IrValue channel = g_.batch == 1 ? plane_ : ir().CreateURem(plane_, b_.I64(g_.groups));
      filter_ = Times(channel, g_.taps());
      weights_.clear();
      if (g_.taps() <= 9) {
        for (int64_t t = 0; t < g_.taps(); ++t) weights_.push_back(LoadWeight(t));
      }
      image_ = Times(plane_, s_.in.pitch);
      IrValue row = Times(band, s_.task_rows());
      if (s_.in.banded()) {
        IrValue y = Times(row, g_.y.stride);
        const int64_t rows = s_.in.band_pixels / g_.x.in;
        band_begin_ = Times(ir().CreateUDiv(y, b_.I64(rows)), rows);
        band_end_ = Plus(band_begin_, rows);
        image_ = Plus(image_, EmitBandOffset(b_, s_.in, Times(y, g_.x.in)));
      }
      out_band_ = EmitBandOffset(b_, s_.out, Times(row, g_.x.out));
      if (s_.in.banded()) FetchBeside(row);
      EmitStrips(band);
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, b_.I64(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, b_.I64(by), "", false, true); }

  // One lane's worth; splat where it is used, so that vectors of any length can share it.
  IrValue LoadWeight(int64_t tap) { return b_.Load(b_.arg(1), Plus(filter_, tap), DType::kF32, 1); }
  IrValue Weight(int64_t tap, int lanes) { return b_.Splat(weights_.empty() ? LoadWeight(tap) : weights_[tap], lanes); }

  void EmitStrips(IrValue band) {
    const std::vector<Strip> strips = s_.Strips();
    for (size_t k = 0; k < strips.size();) {
      size_t end = k;
      while (end < strips.size() && s_.IsInner(strips[end]) && strips[end].lanes == strips[k].lanes) ++end;
      if (end <= k + 1) {
        EmitTiles(band, strips[k], b_.I64(strips[k].first), !s_.IsInner(strips[k]));
        ++k;
        continue;
      }
      b_.For("strip", b_.I64(strips[k].first), b_.I64(strips[end - 1].first + 1), strips[k].lanes,
             [&](IrValue x) { EmitTiles(band, strips[k], x, false); });
      k = end;
    }
  }

  // Asks for the rows beside the task's in the next plane, which another core may have written: one wait instead of one
  // for each line. Rows outside the image are somewhere in the buffer, or harmless.
  void FetchBeside(IrValue row) {
    IrValue y = Times(row, g_.y.stride);
    const int64_t below = (g_.y.taps - 1) * g_.y.dilation - g_.y.pad, task_rows = s_.task_rows() * g_.y.stride;
    const auto fetch = [&](int64_t i, int64_t band) {
      IrValue at = Plus(Plus(image_, Times(Plus(y, i), g_.x.in)), s_.in.pitch);
      IrValue other = i < 0 ? ir().CreateICmpSLT(Plus(y, i), band_begin_) : ir().CreateICmpSGE(Plus(y, i), band_end_);
      at = Plus(at, ir().CreateSelect(other, b_.I64(band), b_.I64(0)));
      for (int64_t x = 0; x < g_.x.in; x += kLineElements) {
        ir().CreateIntrinsic(llvm::Intrinsic::prefetch, {b_.arg(0)->getType()},
                             {ir().CreateGEP(ir().getFloatTy(), b_.arg(0), Plus(at, x)), ir().getInt32(0),
                              ir().getInt32(3), ir().getInt32(1)});
      }
    };
    for (int64_t i = -g_.y.pad; i < 0; ++i) fetch(i, -s_.in.band_gap);
    for (int64_t i = 0; i < below; ++i) fetch(task_rows + i, s_.in.band_gap);
  }

  // All tiles of the band. `side`: the strip touches a side, and `x` is strip.first.
  void EmitTiles(IrValue band, const Strip& strip, IrValue x, bool side) {
    const int64_t tiles = s_.tiles(), rest_row = tiles * s_.height;
    if (s_.unrolled()) {
      const auto tile = [&](int64_t number) {
        const int64_t row = number * s_.height;
        EmitTile(b_.I64(row), row, number < tiles ? s_.height : s_.rest(), strip, x, side);
        return IrValues();
      };
      if (s_.bands() == 1) {
        tile(0);
      } else {
        b_.IfElse("first", ir().CreateICmpEQ(band, b_.I64(0)), [&] { return tile(0); }, [&] { return tile(1); });
      }
      return;
    }
    IrValue begin = Times(band, s_.band_tiles), end = Plus(begin, s_.band_tiles);
    end = ir().CreateSelect(ir().CreateICmpSLT(end, b_.I64(tiles)), end, b_.I64(tiles));
    b_.For("tile", begin, end, 1,
           [&](IrValue tile) { EmitTile(Times(tile, s_.height), std::nullopt, s_.height, strip, x, side); });
    if (s_.rest() == 0) return;
    b_.If("rest", ir().CreateICmpEQ(band, b_.I64(s_.bands() - 1)),
          [&] { EmitTile(b_.I64(rest_row), rest_row, s_.rest(), strip, x, side); });
  }

  // `place`: the first row where it is known.
  void EmitTile(IrValue row, std::optional<int64_t> place, int height, const Strip& strip, IrValue x, bool side) {
    IrValues sums(height, b_.Zero(DType::kF32, strip.lanes));
    IrValue first_row = Plus(Times(row, g_.y.stride), -g_.y.pad);
    centre_rows_ = height * g_.y.stride;
    IrValue first_column = Plus(Times(x, g_.x.stride), -g_.x.pad);
    const int64_t touched = (height - 1) * g_.y.stride + (g_.y.taps - 1) * g_.y.dilation + 1;
    for (int64_t i = 0; i < touched; ++i) {
      std::vector<std::pair<int, int64_t>> uses;  // (row of the tile, ky)
      for (int r = 0; r < height; ++r) {
        const int64_t offset = i - r * g_.y.stride;
        if (offset < 0 || offset % g_.y.dilation != 0 || offset / g_.y.dilation >= g_.y.taps) continue;
        uses.emplace_back(r, offset / g_.y.dilation);
      }
      if (uses.empty()) continue;
      if (place) {
        const int64_t y = *place * g_.y.stride - g_.y.pad + i;
        if (y < 0 || y >= g_.y.in) continue;
      }
      const IrValues columns = LoadColumns(RowPointer(first_row, i, place.has_value()), first_column, strip, side);
      for (const auto& [r, ky] : uses) {
        for (int64_t kx = 0; kx < g_.x.taps; ++kx) {
          if (columns[kx] == nullptr) continue;
          sums[r] = b_.Fma(columns[kx], Weight(ky * g_.x.taps + kx, strip.lanes), sums[r]);
        }
      }
    }
    EpilogueEmitter finish(b_, epilogue_, 3);
    IrValue mask = strip.count == strip.lanes ? nullptr : LaneMask(strip.lanes, [&](int l) { return l < strip.count; });
    IrValue to = out_band_ == nullptr ? x : Plus(x, out_band_);
    for (int r = 0; r < height; ++r) {
      finish.Store(sums[r], plane_, Plus(Times(Plus(row, r), g_.x.out), to), mask);
    }
  }

  // Row `first_row` + i of the plane, or zeros.
  IrValue RowPointer(IrValue first_row, int64_t i, bool known_inside) {
    IrValue y = Plus(first_row, i);
    IrValue pointer = ir().CreateGEP(ir().getFloatTy(), b_.arg(0), Plus(image_, Times(y, g_.x.in)));
    const auto move_where = [&](IrValue beside, int64_t by) {
      pointer = ir().CreateSelect(beside, ir().CreateConstGEP1_64(ir().getFloatTy(), pointer, by), pointer);
    };
    if (s_.in.banded() && i < g_.y.pad) move_where(ir().CreateICmpSLT(y, band_begin_), -s_.in.band_gap);
    if (s_.in.banded() && i >= g_.y.pad + centre_rows_) move_where(ir().CreateICmpSGE(y, band_end_), s_.in.band_gap);
    if (known_inside) return pointer;
    const int64_t last_row = (s_.tiles() - 1) * s_.height * g_.y.stride - g_.y.pad + i;
    if (i >= g_.y.pad && last_row < g_.y.in) return pointer;
    return ir().CreateSelect(ir().CreateICmpULT(y, b_.I64(g_.y.in)), pointer, b_.arg(2));
  }

  // The image's pixels under tap kx, for each kx; nullptr where all of them are beside the image.
  IrValues LoadColumns(IrValue row, IrValue first_column, const Strip& strip, bool side) {
    const int64_t taps = g_.x.taps, stride = g_.x.stride;
    IrValues columns(taps);
    // `part`: which vector of the columns from tap kx on.
    const auto load = [&](int64_t kx, int part) -> IrValue {
      const int64_t offset = kx * g_.x.dilation + int64_t{part} * strip.lanes;
      IrValue mask = nullptr;
      if (side) {
        const int64_t at = strip.first * stride - g_.x.pad + offset;
        const auto wanted = [&](int l) {
          const int64_t column = at + l;
          return column >= 0 && column < g_.x.in && (part * strip.lanes + l) / stride < strip.count;
        };
        bool any = false, all = true;
        for (int l = 0; l < strip.lanes; ++l) any |= wanted(l), all &= wanted(l);
        if (!any) return nullptr;
        if (!all) mask = LaneMask(strip.lanes, wanted);
      }
      IrValue pointer = ir().CreateGEP(ir().getFloatTy(), row, Plus(first_column, offset));
      return b_.Load(pointer, b_.I64(0), DType::kF32, strip.lanes, mask);
    };
    for (int64_t kx = 0; kx < taps; ++kx) {
      if (stride == 1) {
        columns[kx] = load(kx, 0);
        continue;
      }
      // Every second pixel; the ones between serve the next tap.
      IrValue low = load(kx, 0), high = load(kx, 1);
      if (low == nullptr && high == nullptr) continue;
      if (low == nullptr) low = b_.Zero(DType::kF32, strip.lanes);
      if (high == nullptr) high = b_.Zero(DType::kF32, strip.lanes);
      const auto every_second = [&](int from) {
        std::vector<int> lanes;
        for (int l = 0; l < strip.lanes; ++l) lanes.push_back(2 * l + from);
        return ir().CreateShuffleVector(low, high, lanes);
      };
      columns[kx] = every_second(0);
      if (g_.x.dilation == 1 && kx + 1 < taps) columns[++kx] = every_second(1);
    }
    return columns;
  }

  template <typename Predicate>
  IrValue LaneMask(int lanes, const Predicate& wanted) {
    std::vector<llvm::Constant*> bits;
    for (int l = 0; l < lanes; ++l) bits.push_back(ir().getInt1(wanted(l)));
    return llvm::ConstantVector::get(bits);
  }

  KernelBuilder& b_;
  const PlanesSchedule& s_;
  const ConvGeometry& g_;
  const TileEpilogue& epilogue_;
  IrValue plane_ = nullptr, image_ = nullptr, filter_ = nullptr;  // number; first elements
  // Of a task where planes lie in bands: the rows of the image's band, what the result's adds. Of a tile: how many rows
  // of the image, from that of its first row times the stride on, are in the task's band for sure.
  IrValue band_begin_ = nullptr, band_end_ = nullptr, out_band_ = nullptr;
  int64_t centre_rows_ = 0;
  IrValues weights_;
};

// With one pixel a lane a scalar machine gains nothing here.
std::optional<ConvGeometry> ReadDepthwisePlanes(const Graph& graph, const Node& node, const Target& target,
                                                std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why, "nchw");
  if (!g) return std::nullopt;
  if (g->type != DType::kF32 || graph[node.inputs[1]].type.dtype != DType::kF32) return no("no f32");
  if (graph[node.inputs[0]].type.shape.rank() != 4) return no("expected two spatial axes");
  if (g->in_channels != 1 || g->out_channels != 1) {
    return no("expected one channel a group, found ", g->in_channels, " -> ", g->out_channels);
  }
  if (g->x.stride > kMaxStrideX) return no("expected a stride of 1 or 2 along rows, found ", g->x.stride);
  if (g->taps() > kMaxTaps) return no("expected at most ", kMaxTaps, " taps, found ", g->taps());
  if (target.Lanes(32) < 4) return no("no vectors");
  const PlanesSchedule s = ScheduleWithoutGaps(*g, target);
  int64_t border = 0;
  for (const Strip& strip : s.Strips()) border += s.IsInner(strip) ? 0 : 1;
  if (border > kMaxBorderStrips) return no("expected at most ", kMaxBorderStrips, " strips at sides, found ", border);
  if (!TileEpilogue(graph, node, 2).even()) return no("an operand of the epilogue changes along one image axis only");
  return g;
}

double Microseconds(const PlanesSchedule& s, const Target& target, int epilogue_cost) {
  const MachineModel machine(target);
  const ConvGeometry& g = s.g;
  double strips = 0;  // in whole vectors
  for (const Strip& strip : s.Strips()) strips += static_cast<double>(strip.lanes) / s.lanes;
  const double vectors = static_cast<double>(s.planes() * g.y.out) * strips;
  const double rows = static_cast<double>(s.height * g.y.stride + (g.y.taps - g.y.stride)) / s.height;  // a result's
  const auto taps = static_cast<double>(g.x.taps);
  // A load that touches two lines counts twice.
  const double loads = rows * (g.x.stride == 1 ? 1 + 2 * (taps - 1) : 4 * DivideUp(g.x.taps, 2)) * machine.load_ns;
  const double shuffles = g.x.stride == 1 ? 0 : rows * taps * machine.op_ns;
  const double fma = static_cast<double>(g.taps()) * machine.fma_ns;
  const double finish = (epilogue_cost + 2) * machine.op_ns;
  const double compute = vectors * (std::max(fma + 0.5 * shuffles, loads) + finish);
  return std::max(compute, g.bytes() / machine.l2_bytes_per_ns) / 1000 + machine.step_ns / 1000;
}

}  // namespace

extern const std::string_view kPlanesDepthwiseDoc;
const std::string_view kPlanesDepthwiseDoc = "f32 depthwise convolutions with channels first, vectors over pixels";

std::vector<Way> WaysPlanesDepthwise(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<ConvGeometry> g = ReadDepthwisePlanes(graph, node, target, why);
  if (!g) return {};
  const int cost = TileEpilogue(graph, node, 2).cost();
  const int64_t beside = (g->y.taps - 1) * g->y.dilation;
  return {{.us = Microseconds(ScheduleWithoutGaps(*g, target), target, cost),
           .padded_planes = true,
           .band_halo = InStep(*g) ? beside : -1}};
}

Status PlanPlanesDepthwise(const Node& node, const std::string&, PlanBuilder& builder) {
  std::string why;
  const std::optional<ConvGeometry> g = ReadDepthwisePlanes(builder.graph(), node, builder.target(), &why);
  TES_CHECK(g.has_value(), why);
  TileEpilogue epilogue(builder.graph(), node, 2);
  epilogue.UsePitches(node, builder);
  const PlanesSchedule schedule = ScheduleDepthwisePlanes(*g, builder.PlanesOf(node.inputs[0]),
                                                          builder.PlanesOf(node.outputs[0]), builder.target());
  const Value& weights = builder.graph()[node.inputs[1]];
  // A strip at a side reads from its first column on only what its masks allow.
  const Tensor zeros(DType::kF32, Shape({g->x.in + 1}));
  PlanStep step;
  step.kernel.family = "planes_depthwise";
  step.kernel.key = "planes_depthwise " + schedule.Key() + " " + epilogue.Key();
  step.kernel.emit = [schedule, epilogue](KernelBuilder& b) { PlanesEmitter(b, schedule, epilogue).Emit(); };
  step.args = {builder.Read(node.inputs[0]),
               {.buffer = builder.Constant(weights.name, weights.constant)},
               {.buffer = builder.Constant(node.name + ".zeros", zeros)}};
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks();
  step.label = node.name;
  step.flops = g->flops();
  step.bytes = g->bytes();
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
