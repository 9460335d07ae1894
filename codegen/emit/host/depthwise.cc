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
//
// Bytes go the same way, but all ky at once and, where windows overlap, for two rows of the result (depthwise_units.h):
//
//       for each column that the tile's windows touch, once:
//         unit = image[y … y+3][column][channels];   sums[row][p] += unit · weights[row][kx]   for every p, kx, row
//
// Padding is a number like others there (a zero point): rows outside are a row of it, columns outside a constant unit.
// Where results are u8 by a scale for each channel, blocks of 64 channels are computed together, four vectors of them;
// each pixel is finished behind the last column that it sees, so that few sums are alive at a time.
#include <algorithm>
#include <optional>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/host/depthwise_units.h"
#include "codegen/emit/int8_dot.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/emitter.h"
#include "llvm/IR/InlineAsm.h"

namespace tessera {
namespace {

// More pieces of code for tiles at the borders than this are not worth it (filters of a third of the row's length).
constexpr int64_t kMaxBorderTiles = 4;

struct DepthwiseSchedule {
  ConvGeometry g;
  int lanes = 1;
  DepthwiseUnits units;        // of bytes; dot.kind kOne: f32 or f64, a row of the result at a time
  bool last_overlaps = false;  // the last channels that fill no vector are computed with those before once more
  int64_t wide_channels = 0;   // the first so many channels are computed 64 at once
  // Tiles of a row: the first `wide_tiles` have `width` pixels, the others one less.
  int64_t tiles = 1, wide_tiles = 1;
  int width = 1;
  // Tiles [first_inner, end_inner) touch no padding at their sides.
  int64_t first_inner = 0, end_inner = 0;
  int64_t chunk_vectors = 1;  // vectors of channels of a task

  int64_t vectors() const { return DivideUp(g.groups, lanes); }
  int64_t chunks() const { return DivideUp(vectors(), chunk_vectors); }
  bool bytes() const { return units.dot.kind != Dot::Kind::kOne; }
  // Rows of tasks in an image, and in all.
  int64_t image_rows() const { return DivideUp(g.y.out, units.rows); }
  int64_t rows() const { return g.batch * image_rows(); }
  int64_t tasks() const { return rows() * chunks(); }
  int64_t FirstPixel(int64_t tile) const { return tile * width - std::max<int64_t>(0, tile - wide_tiles); }
  int WidthOf(int64_t tile) const { return tile < wide_tiles ? width : width - 1; }
  std::string Key() const {
    return internal::Join(g.Key(), " by ", units.dot.Key(), " rows ", units.rows, last_overlaps ? " overlap" : "",
                          " lanes ", lanes, " tiles ", tiles, " wide ", wide_tiles, " width ", width, " inner ",
                          first_inner, "..", end_inner, " chunk ", chunk_vectors, " 64 at once to ", wide_channels);
  }
};

DepthwiseSchedule ScheduleDepthwise(const ConvGeometry& g, const Dot& dot, const Target& target) {
  DepthwiseSchedule s;
  s.g = g;
  s.lanes = target.Lanes(TypeInfo(dot.sum()).bits);
  s.units.dot = dot;
  if (s.bytes()) s.units = DepthwiseUnits::Make(g, dot);
  // Sums, a kernel row of weights and a few loads in flight share the registers; wider tiles than 8 gain nothing.
  const int64_t weights =
      std::min<int64_t>(s.bytes() ? s.units.words(g.x.taps) : g.x.taps, target.vector_registers / 3);
  const int64_t most = std::clamp<int64_t>((target.vector_registers - weights - 4) / s.units.rows, 1, 8);
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

  // task -> row of the result, chunk of channels: threads' shares are parts of the image, as those of products are, so
  // that what one writes the same one reads.
  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      IrValue task_row = ir().CreateUDiv(task, b_.I64(s_.chunks()));
      IrValue chunk = ir().CreateURem(task, b_.I64(s_.chunks()));
      first_channel_ = Times(chunk, s_.chunk_vectors * s_.lanes);
      end_channel_ = Least(Plus(first_channel_, s_.chunk_vectors * s_.lanes), b_.I64(g_.groups));
      IrValue image = g_.batch == 1 ? b_.I64(0) : ir().CreateUDiv(task_row, b_.I64(s_.image_rows()));
      IrValue oy = g_.batch == 1 ? task_row : ir().CreateURem(task_row, b_.I64(s_.image_rows()));
      // Rows that are left over are computed with those before once more.
      if (s_.units.rows > 1) oy = Least(Times(oy, s_.units.rows), b_.I64(g_.y.out - s_.units.rows));
      row_ = Plus(Times(image, g_.y.out), oy);
      IrValue y0 = Plus(Times(oy, g_.y.stride), -g_.y.pad);
      if (s_.bytes()) return EmitByteRows(image, y0);
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

  // Where the rows of the image begin that the units hold; outside the image that is a row of padding.
  void EmitByteRows(IrValue image, IrValue y0) {
    image_rows_.clear();
    for (int64_t r = 0; r < s_.units.image_rows(); ++r) {
      IrValue y = Plus(y0, r * g_.y.dilation);
      IrValue at = Times(Plus(Times(image, g_.y.in), y), g_.x.in * g_.groups);
      IrValue pointer = b_.ElementPointer(b_.arg(0), at, g_.type);
      if (!g_.y.inside()) pointer = ir().CreateSelect(ir().CreateICmpULT(y, b_.I64(g_.y.in)), pointer, b_.arg(2));
      image_rows_.push_back(pointer);
    }
    EmitTiles();
  }

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
    // Blocks of 64, whole vectors, then what is left of the last one.
    IrValue first = first_channel_;
    if (s_.wide_channels > 0) {
      b_.For("wide_channel", first, Least(end_channel_, b_.I64(s_.wide_channels)), kWideChannels,
             [&](IrValue channel) { EmitWideTile(pixel, width, place, channel); });
      if (s_.wide_channels == g_.groups) return;
      first = ir().CreateSelect(ir().CreateICmpSLT(first, b_.I64(s_.wide_channels)), b_.I64(s_.wide_channels), first);
    }
    IrValue whole_end = end_channel_;
    const int64_t rest = g_.groups % s_.lanes;
    if (rest != 0) whole_end = Least(end_channel_, b_.I64(g_.groups - rest));
    b_.For("channel", first, whole_end, s_.lanes,
           [&](IrValue channel) { EmitTile(pixel, width, place, channel, nullptr); });
    if (rest == 0) return;
    b_.If("last_channels", ir().CreateICmpEQ(end_channel_, b_.I64(g_.groups)), [&] {
      if (s_.last_overlaps) return EmitTile(pixel, width, place, b_.I64(g_.groups - s_.lanes), nullptr);
      EmitTile(pixel, width, place, b_.I64(g_.groups - rest), b_.MaskBelow(b_.I64(rest), s_.lanes));
    });
  }

  void EmitTile(IrValue pixel, int width, std::optional<int64_t> place, IrValue channel, IrValue mask) {
    const int64_t columns = (width - 1) * g_.x.stride + (g_.x.taps - 1) * g_.x.dilation + 1;
    IrValue first_column = Plus(Times(pixel, g_.x.stride), -g_.x.pad);
    if (s_.bytes()) return EmitByteTile(pixel, first_column, columns, width, place, channel, mask);
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

  void EmitByteTile(IrValue pixel, IrValue first_column, int64_t columns, int width, std::optional<int64_t> place,
                    IrValue channel, IrValue mask) {
    const DepthwiseUnits& units = s_.units;
    const Dot& dot = units.dot;
    IrValues weights;
    for (int64_t w = 0; w < units.words(g_.x.taps); ++w) {
      weights.push_back(b_.Load(b_.arg(1), Plus(channel, w * g_.groups), DType::kI32, s_.lanes, mask));
    }
    EpilogueEmitter finish(b_, epilogue_, FirstEpilogueArg());
    IrValues sums(units.rows * width, finish.Start(DType::kI32, s_.lanes, channel, mask));
    for (int64_t column = 0; column < columns; ++column) {
      std::vector<IrValues> parts;  // of each unit; made where the first pixel sees the column
      for (int p = 0; p < width; ++p) {
        const int64_t offset = column - p * g_.x.stride, kx = offset / g_.x.dilation;
        if (offset < 0 || offset % g_.x.dilation != 0 || kx >= g_.x.taps) continue;
        if (parts.empty()) {
          const bool outside = place && !Inside(*place * g_.x.stride - g_.x.pad + column);
          IrValue at = Plus(Times(Plus(first_column, column), g_.groups), channel);
          for (int64_t u = 0; u < units.units(); ++u) parts.push_back(outside ? PaddingUnit() : ImageUnit(u, at, mask));
        }
        for (int64_t r = 0; r < units.rows; ++r) {
          for (int64_t u = 0; u < units.units(); ++u) {
            const IrValue* first = &weights[units.Word(r, kx, g_.x.taps, u, 0)];
            IrValue& sum = sums[r * width + p];
            sum = EmitDot(b_, dot, parts[u], IrValues(first, first + dot.parts()), sum);
          }
        }
      }
    }
    for (int64_t r = 0; r < units.rows; ++r) {
      IrValue first_row = Plus(Times(Plus(row_, r), g_.x.out), pixel);
      for (int p = 0; p < width; ++p) finish.Store(sums[r * width + p], Plus(first_row, p), channel, mask);
    }
  }

  // The same of 64 channels, column by column.
  void EmitWideTile(IrValue pixel, int width, std::optional<int64_t> place, IrValue channel) {
    const DepthwiseUnits& units = s_.units;
    const int64_t words = units.words(g_.x.taps), span = (g_.x.taps - 1) * g_.x.dilation;
    std::vector<IrValues> sums(units.rows * width);
    IrValue first_column = Plus(Times(pixel, g_.x.stride), -g_.x.pad);
    for (int64_t column = 0; column <= (width - 1) * g_.x.stride + span; ++column) {
      const bool outside = place && !Inside(*place * g_.x.stride - g_.x.pad + column);
      // LLVM would load the filter once for the tile and spill it; read anew for each column it is an operand of the
      // products in memory, which costs nothing.
      IrValue filter = Opaque(b_.arg(3));
      const auto load = [&](int64_t word, int v, DType type) {
        IrValue at = Plus(channel, word * s_.wide_channels + int64_t{v} * s_.lanes);
        return b_.Load(filter, at, type, s_.lanes);
      };
      IrValues unit;  // made where the first pixel sees the column
      for (int p = 0; p < width; ++p) {
        const int64_t offset = column - p * g_.x.stride, kx = offset / g_.x.dilation;
        if (offset < 0 || offset % g_.x.dilation != 0 || kx >= g_.x.taps) continue;
        if (unit.empty() && outside) unit.assign(kWideVectors, PaddingUnit()[0]);
        if (unit.empty()) unit = WideUnits(Plus(Times(Plus(first_column, column), g_.groups), channel));
        for (int64_t r = 0; r < units.rows; ++r) {
          IrValues& sum = sums[r * width + p];
          for (int v = 0; v < kWideVectors; ++v) {
            if (offset == 0) sum.push_back(load(words, v, DType::kI32));
            if (outside && g_.pad_value == 0) continue;
            IrValue weights = load(units.Word(r, kx, g_.x.taps, 0, 0), v, DType::kI32);
            sum[v] = EmitDot(b_, units.dot, {unit[v]}, {weights}, sum[v]);
          }
          if (offset != span) continue;
          IrValues scales;
          for (int v = 0; v < kWideVectors; ++v) scales.push_back(load(words + 1, v, DType::kF32));
          IrValue row = Plus(Times(Plus(row_, r), g_.x.out), Plus(pixel, p));
          IrValue out = b_.arg(FirstEpilogueArg() + epilogue_.num_args() - 1);
          out = b_.ElementPointer(out, Plus(Times(row, g_.groups), channel), DType::kU8);
          ir().CreateAlignedStore(EmitWideBytes(b_, sum, scales), out, llvm::Align(1));
        }
      }
    }
  }

  // The pointer, of which LLVM does not know that it is the same.
  IrValue Opaque(IrValue pointer) {
    auto* type = llvm::FunctionType::get(pointer->getType(), {pointer->getType()}, false);
    return ir().CreateCall(llvm::InlineAsm::get(type, "", "=r,0", /*hasSideEffects=*/false), {pointer});
  }

  IrValues WideUnits(IrValue at) {
    auto* bytes = llvm::FixedVectorType::get(ir().getInt8Ty(), kWideChannels);
    IrValues rows;
    for (IrValue row : image_rows_) {
      rows.push_back(ir().CreateAlignedLoad(bytes, b_.ElementPointer(row, at, g_.type), llvm::Align(1)));
    }
    return EmitWideUnits(b_, rows);
  }

  // Behind image and filter, of bytes also a row of padding and what blocks of 64 channels read.
  int FirstEpilogueArg() const { return !s_.bytes() ? 2 : s_.wide_channels > 0 ? 4 : 3; }

  // Unit `number` of the channels at `at` elements into the rows of the image.
  IrValues ImageUnit(int64_t number, IrValue at, IrValue mask) {
    auto* bytes = llvm::FixedVectorType::get(ir().getInt8Ty(), s_.lanes);
    IrValues rows;
    for (int64_t r = 4 * number; r < std::min(4 * number + 4, s_.units.image_rows()); ++r) {
      IrValue address = b_.ElementPointer(image_rows_[r], at, g_.type);
      rows.push_back(mask == nullptr ? static_cast<IrValue>(ir().CreateAlignedLoad(bytes, address, llvm::Align(1)))
                                     : ir().CreateMaskedLoad(bytes, address, llvm::Align(1), mask,
                                                             llvm::Constant::getNullValue(bytes)));
    }
    return EmitParts(b_, s_.units.dot, g_.type, EmitRowsUnit(b_, rows));
  }
  IrValues PaddingUnit() {
    const int64_t padding = (g_.pad_value & 255) * 0x01010101;
    return EmitParts(b_, s_.units.dot, g_.type, b_.ConstantInt(DType::kI32, padding, s_.lanes));
  }

  bool Inside(int64_t column) const { return column >= 0 && column < g_.x.in; }

  KernelBuilder& b_;
  const DepthwiseSchedule& s_;
  const ConvGeometry& g_;
  const TileEpilogue& epilogue_;
  IrValue row_ = nullptr, image_row_ = nullptr;  // of the result; of the image, for ky = 0
  IrValue first_channel_ = nullptr, end_channel_ = nullptr;
  IrValue first_tap_ = nullptr, end_tap_ = nullptr;
  IrValues image_rows_;  // of bytes: where each row of the units begins
};

// Arguments: image, filter [ky, kx, channels], the epilogue's operands, result. Of bytes: image, filter in units, a row
// of padding, where channels are computed 64 at once what PackWide gives, the epilogue's operands, result.
KernelSpec DepthwiseKernel(const DepthwiseSchedule& schedule, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "depthwise";
  kernel.key = "depthwise " + schedule.Key() + " " + epilogue.Key();
  kernel.emit = [schedule, epilogue](KernelBuilder& b) { DepthwiseEmitter(b, schedule, epilogue).Emit(); };
  return kernel;
}

// Sums of bytes start with what is added to them first.
TileEpilogue EpilogueOf(const Graph& graph, const Node& node) { return TileEpilogue(graph, node).WithStart(); }

// The epilogue's operands; those that are no constants have no elements.
std::vector<Tensor> ConstantsOf(const Graph& graph, const Node& node) {
  std::vector<Tensor> constants;
  if (!node.epilogue) return constants;
  for (ValueId id : node.epilogue->inputs) {
    constants.push_back(graph.IsConstant(id) ? graph[id].constant : Tensor(DType::kF32, Shape({0})));
  }
  return constants;
}

// What is asked for, and how it is done; nullopt with the reason in *why.
std::optional<DepthwiseSchedule> ReadProblem(const Graph& graph, const Node& node, const TileEpilogue& epilogue,
                                             const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why);
  if (!g) return std::nullopt;
  if (g->in_channels != 1 || g->out_channels != 1) {
    return no("expected one channel a group, found ", g->in_channels, " -> ", g->out_channels);
  }
  const std::optional<Dot> dot = Dot::Choose(target, g->type, g->weights_type, why);
  if (!dot) return std::nullopt;
  if (dot->kind == Dot::Kind::kTwoBfloats) return no("expected f32, f64 or bytes, found ", Name(g->type));
  DepthwiseSchedule s = ScheduleDepthwise(*g, *dot, target);
  const int64_t border = s.first_inner + (s.tiles - s.end_inner);
  if (border > kMaxBorderTiles) {
    return no("expected at most ", kMaxBorderTiles, " tiles at the borders of a row, found ", border);
  }
  if (!s.bytes()) return s;
  // What is computed twice must not be read after it was written.
  const bool reads_result = std::any_of(epilogue.operands().begin(), epilogue.operands().end(),
                                        [](const EpilogueOperand& operand) { return operand.elementwise; });
  if (reads_result && s.units.rows > 1 && g->y.out % s.units.rows != 0) s.units.rows = 1;
  s.last_overlaps = !reads_result && g->groups >= s.lanes && g->groups % s.lanes != 0;
  const bool one_unit = dot->kind == Dot::Kind::kFourBytes && s.units.units() == 1 && s.lanes * kWideVectors == 64;
  if (one_unit && HasDotBytes(target) && ReadPlainRequantization(epilogue, ConstantsOf(graph, node))) {
    s.wide_channels = g->groups / kWideChannels * kWideChannels;
    if (s.wide_channels > 0) s.chunk_vectors = DivideUp(s.chunk_vectors, kWideVectors) * kWideVectors;
  }
  if (!target.has_avx512 && !s.last_overlaps && g->groups % s.lanes != 0) {
    return no("masks of bytes are slow on this processor, and ", g->groups, " channels fill no vectors");
  }
  return s;
}

}  // namespace

extern const std::string_view kDepthwiseDoc;
const std::string_view kDepthwiseDoc =
    "channels-last depthwise convolutions of f32, f64 and bytes, vectors over channels";

std::optional<double> EstimateDepthwise(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const TileEpilogue epilogue = EpilogueOf(graph, node);
  const std::optional<DepthwiseSchedule> s = ReadProblem(graph, node, epilogue, target, why);
  if (!s) return std::nullopt;
  const ConvGeometry& g = s->g;
  const MachineModel machine(target);
  const double vectors = static_cast<double>(g.pixels() * s->vectors());
  // Columns of the image for each pixel of a tile.
  const double columns = static_cast<double>(g.x.stride) + 2.0 * static_cast<double>(g.x.taps) / s->width;
  double products, loads, other = 0;
  if (s->bytes()) {
    const Dot& dot = s->units.dot;
    const auto units = static_cast<double>(s->units.units()), rows = static_cast<double>(s->units.rows);
    products = static_cast<double>(g.x.taps) * units * dot.instructions(target);
    loads = columns * static_cast<double>(s->units.image_rows()) / rows;
    other = columns * units / rows * (4 + 3 * (dot.parts() - 1));  // making units
  } else {
    products = static_cast<double>(g.taps());
    loads = static_cast<double>(g.y.taps) * columns;
  }
  const double finish = (epilogue.cost() + 2 + other) * machine.op_ns;
  const double compute = vectors * (std::max(products * machine.fma_ns, loads * machine.load_ns) + finish);
  return std::max(compute, g.bytes() / machine.l2_bytes_per_ns) / 1000 + machine.step_ns / 1000;
}

Status PlanDepthwise(const Node& node, PlanBuilder& builder) {
  std::string why;
  const TileEpilogue epilogue = EpilogueOf(builder.graph(), node);
  const std::optional<DepthwiseSchedule> schedule =
      ReadProblem(builder.graph(), node, epilogue, builder.target(), &why);
  TES_CHECK(schedule.has_value(), why);
  const ConvGeometry& g = schedule->g;
  const Value& weights = builder.graph()[node.inputs[1]];
  PlanStep step;
  step.kernel = DepthwiseKernel(*schedule, epilogue);
  step.args = {builder.Read(node.inputs[0])};
  if (schedule->bytes()) {
    const Tensor filter = PackFilterUnits(weights.constant, g, schedule->units);
    Tensor padding(g.type, Shape({g.y.inside() ? 1 : g.x.in * g.groups}));
    if (g.pad_value != 0) padding = Tensor::Full(g.type, padding.shape(), static_cast<double>(g.pad_value));
    step.args.push_back({.buffer = builder.Constant(weights.name + ".units", filter)});
    step.args.push_back({.buffer = builder.Constant(node.name + ".padding", std::move(padding))});
    if (schedule->wide_channels > 0) {
      const std::vector<Tensor> constants = ConstantsOf(builder.graph(), node);
      Tensor wide =
          PackWide(filter, schedule->wide_channels, epilogue, *ReadPlainRequantization(epilogue, constants), constants);
      step.args.push_back({.buffer = builder.Constant(weights.name + ".wide", std::move(wide))});
    }
  } else {
    step.args.push_back({.buffer = builder.Constant(weights.name + ".taps", FilterByTaps(weights.constant, g))});
  }
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule->tasks();
  step.label = node.name;
  step.flops = g.flops();
  step.bytes = g.bytes();
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
