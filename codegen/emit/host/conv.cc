// The convolution emitter: channels-last images, constant weights, any stride, padding, dilation and grouping, as a
// contraction (contraction.h) whose rows are output pixels and whose depth is a window's pixels times channels.
//
//   1x1, stride 1:  rows of A are the pixels where they lie: a matmul
//   otherwise:      for ky: for kx:                    a tap
//                     a[r] = image + offset of the tap's pixel for output pixel r,   or a row of padding outside
//                     sums += splat(a[r][c]) * weights[ky][kx][c][panel]   over the input channels c
//
// No window is copied anywhere: the pixels of a tile take their places one by one (XNNPACK calls this indirect), so a
// tile may run over the ends of rows and images. With few input channels (the first layer of an image network) that
// address arithmetic would cost more than the products; there a tile whose windows lie inside one row of the image and
// touch no padding takes each kernel row as one run of kx·channels consecutive elements:
//
//   for ky:  sums += splat(a[r][i]) * weights[ky][i][panel]   over i in kx·channels,  a[r] = a[0] + r·stride·channels
//
// Three channels of a byte are no whole unit (dot.h), nine are two and a ninth: the weights of runs are not those of
// taps. Then the tiles at the border copy their windows' rows into scratch memory, padding included, and go by runs
// too.
#include <optional>

#include "codegen/cost_model.h"
#include "codegen/emit/contraction.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/host/matmul.h"
#include "codegen/emit/host/widen.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// Below so many units of input channels a tap's address arithmetic (about 6 instructions a pixel) is not hidden by its
// products.
constexpr int64_t kFewUnits = 16;
// Row pointers, the weights' pointer and loop counters have to fit 16 general registers.
constexpr int kMaxPixels = 8;

struct ConvProblem : ConvGeometry {
  Dot dot;

  // Taps of a kernel row are taken together.
  bool by_runs() const { return dot.units(in_channels) < kFewUnits && x.taps > 1 && x.dilation == 1 && groups == 1; }
  // Elements of A that lie together.
  int64_t run() const { return (by_runs() ? x.taps : 1) * in_channels; }
  // Runs have units of their own, so that no tap can be taken alone.
  bool only_runs() const { return by_runs() && in_channels % dot.unit() != 0; }
};

std::optional<ConvProblem> ReadProblem(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why);
  if (!g) return std::nullopt;
  const std::optional<Dot> dot = Dot::Choose(target, g->type, g->weights_type, why);
  if (!dot) return std::nullopt;
  return ConvProblem{*g, *dot};
}

MatmulProblem AsMatmul(const ConvProblem& g) {
  return {.dot = g.dot,
          .rows = g.pixels(),
          .columns = g.out_channels,
          .depth = g.in_channels,
          .b_transposed = true,
          .b_constant = true};
}

ContractionShape ShapeOf(const ConvProblem& g) {
  return {.dot = g.dot,
          .groups = g.groups,
          .rows = g.pixels(),
          .columns = g.out_channels,
          .depth = g.taps() * g.in_channels,
          .run = g.run(),
          .groups_along_columns = true,
          .a_row_step = g.x.stride * g.all_in_channels(),
          .max_tile_rows = kMaxPixels};
}

// Weights as a contraction's B: a matrix for each group, transposed.
PanelSource WeightsOf(const ConvProblem& g) {
  const int64_t depth = g.taps() * g.in_channels;
  return {.type = g.weights_type,
          .matrices = g.groups,
          .depth = depth,
          .columns = g.out_channels,
          .matrix_step = depth * g.out_channels,
          .depth_step = 1,
          .column_step = depth,
          .dot = g.dot,
          .run = g.run()};
}

// All steps together, on one core.
double ConvMicroseconds(const ConvProblem& g, const Target& target, int epilogue_cost) {
  const MachineModel machine(target);
  const ContractionSchedule schedule = ScheduleContraction(target, ShapeOf(g), epilogue_cost);
  double us = ContractionMicroseconds(target, schedule, epilogue_cost) + machine.step_ns / 1000;
  // Address arithmetic and the start of a loop, for each pixel and tap of each panel; a third of the issue slots.
  const double places = static_cast<double>(g.groups * schedule.panels() * g.pixels()) * static_cast<double>(g.taps());
  us += places * (g.by_runs() ? 1 : 6) * MachineModel::kCycle / 4 / 1000;
  if (g.dot.kind == Dot::Kind::kWords) us += WidenMicroseconds(g.image_elements(), DType::kI16, target);
  return us;
}

// With the image's bytes widened beforehand where that is quicker.
ConvProblem WithBestDot(const ConvProblem& g, const Target& target, int epilogue_cost) {
  const std::optional<Dot> words = g.dot.OfWords();
  if (!words) return g;
  ConvProblem widened = g;
  widened.type = words->a;
  widened.dot = *words;
  return ConvMicroseconds(widened, target, epilogue_cost) < ConvMicroseconds(g, target, epilogue_cost) ? widened : g;
}

// Elements that a copied run takes: whole vectors.
constexpr int kCopiedLanes = 16;
int64_t CopiedRun(const ConvProblem& g) { return (g.run() + kCopiedLanes - 1) / kCopiedLanes * kCopiedLanes; }

// Writes the sums of one tile.
class WindowEmitter {
 public:
  WindowEmitter(KernelBuilder& b, const ConvProblem& g, const ContractionSchedule& schedule)
      : b_(b), g_(g), s_(schedule) {}

  IrValues Emit(const ContractionTile& tile, const IrValues& sums) {
    // Where each pixel's window begins, which may be before the image.
    IrValues oy, ox, y0, x0, base;
    for (int r = 0; r < tile.rows; ++r) {
      IrValue pixel = Plus(tile.row, r);
      IrValue row = ir().CreateUDiv(pixel, b_.I64(g_.x.out));
      ox.push_back(ir().CreateURem(pixel, b_.I64(g_.x.out)));
      IrValue image = g_.batch == 1 ? b_.I64(0) : ir().CreateUDiv(row, b_.I64(g_.y.out));
      oy.push_back(g_.batch == 1 ? row : ir().CreateURem(row, b_.I64(g_.y.out)));
      y0.push_back(Plus(Times(oy[r], g_.y.stride), -g_.y.pad));
      x0.push_back(Plus(Times(ox[r], g_.x.stride), -g_.x.pad));
      IrValue at = Plus(Times(Plus(Times(image, g_.y.in), y0[r]), g_.x.in), x0[r]);
      at = Plus(Times(at, g_.all_in_channels()), Times(tile.group, g_.in_channels));
      base.push_back(at);
    }
    const int64_t panel = WordsOf(s_.shape.units());
    IrValue weights = Times(Plus(Times(tile.group, s_.panels()), tile.panel), panel);
    if (!g_.by_runs()) return EmitTaps(tile, y0, x0, base, weights, sums);
    // Inside: the tile's first and last window are in one row, and neither touches padding.
    IrValue inside = ir().CreateICmpEQ(Plus(ox[0], tile.rows - 1), ox[tile.rows - 1]);
    inside = ir().CreateAnd(inside, ir().CreateICmpSGE(x0[0], b_.I64(0)));
    inside = ir().CreateAnd(inside, ir().CreateICmpSLE(Plus(x0[tile.rows - 1], g_.x.taps), b_.I64(g_.x.in)));
    if (!g_.y.inside()) {
      inside = ir().CreateAnd(inside, ir().CreateICmpSGE(y0[0], b_.I64(0)));
      inside =
          ir().CreateAnd(inside, ir().CreateICmpSLT(Plus(y0[0], (g_.y.taps - 1) * g_.y.dilation), b_.I64(g_.y.in)));
    }
    return b_.IfElse(
        "inside", inside, [&] { return EmitRuns(tile, base[0], weights, sums); },
        [&] { return g_.only_runs() ? EmitCopies(tile, weights, sums) : EmitTaps(tile, y0, x0, base, weights, sums); });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, b_.I64(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, b_.I64(by), "", false, true); }

  // Words of `units` in a panel of the weights.
  int64_t WordsOf(int64_t units) const { return units * g_.dot.parts() * s_.width(); }

  // Elements between rows of the image that neighbouring taps read.
  int64_t TapRow() const { return g_.y.dilation * g_.x.in * g_.all_in_channels(); }

  IrValues EmitRuns(const ContractionTile& tile, IrValue base, IrValue weights, const IrValues& sums) {
    return EmitKernelRows(tile, b_.arg(0), base, TapRow(), g_.x.stride * g_.all_in_channels(), weights, sums);
  }

  // The runs of a tile: its row r's for ky begins at `first` + ky * `ky_step` + r * `row_step`.
  IrValues EmitKernelRows(const ContractionTile& tile, IrValue pointer, IrValue first, int64_t ky_step,
                          int64_t row_step, IrValue weights, const IrValues& sums) {
    return b_.For("ky", b_.I64(0), b_.I64(g_.y.taps), 1, sums, [&](IrValue ky, const IrValues& carried) {
      IrValue at = Plus(first, Times(ky, ky_step));
      IrValues rows;
      for (int r = 0; r < tile.rows; ++r) rows.push_back(b_.ElementPointer(pointer, Plus(at, r * row_step), g_.type));
      IrValue words = Plus(weights, Times(ky, WordsOf(g_.dot.units(g_.run()))));
      return EmitMultiplyAdd(b_, s_, tile, g_.run(), rows, 1, b_.ElementPointer(b_.arg(1), words, g_.dot.word()),
                             s_.width(), nullptr, carried);
    });
  }

  // for r, ky: scratch[r][ky] = the run, with padding where it leaves the image. Then as above.
  IrValues EmitCopies(const ContractionTile& tile, IrValue weights, const IrValues& sums) {
    const int64_t copied = CopiedRun(g_);
    IrValue copies = b_.ElementPointer(b_.scratch(), b_.I64(s_.scratch_bytes()), DType::kU8);
    b_.For("copied_row", b_.I64(0), b_.I64(tile.rows), 1, [&](IrValue r) {
      IrValue pixel = Plus(tile.row, r), row = ir().CreateUDiv(pixel, b_.I64(g_.x.out));
      IrValue x0 = Plus(Times(ir().CreateURem(pixel, b_.I64(g_.x.out)), g_.x.stride), -g_.x.pad);
      IrValue y0 = Plus(Times(ir().CreateURem(row, b_.I64(g_.y.out)), g_.y.stride), -g_.y.pad);
      IrValue image = ir().CreateUDiv(row, b_.I64(g_.y.out));
      b_.For("ky", b_.I64(0), b_.I64(g_.y.taps), 1, [&](IrValue ky) {
        IrValue y = Plus(y0, Times(ky, g_.y.dilation));
        // Elements [low, high) of the run lie within the image.
        IrValue low = Times(x0, -g_.in_channels), high = Plus(low, g_.x.in * g_.in_channels);
        high = ir().CreateSelect(ir().CreateICmpULT(y, b_.I64(g_.y.in)), high, low);
        IrValue at = Times(Plus(Times(Plus(Times(image, g_.y.in), y), g_.x.in), x0), g_.in_channels);
        CopyRun(at, low, high, Times(Plus(Times(r, g_.y.taps), ky), copied), copies);
      });
    });
    return EmitKernelRows(tile, copies, b_.I64(0), copied, g_.y.taps * copied, weights, sums);
  }

  // copies[to …] = the run at element `from` of the image, of which only elements [low, high) exist. Vectors of masked
  // bytes where the machine has them.
  void CopyRun(IrValue from, IrValue low, IrValue high, IrValue to, IrValue copies) {
    const int lanes = b_.target().has_avx512 && g_.dot.unit() == 4 ? kCopiedLanes : 1;
    IrValue fill = b_.ConstantInt(ComputeType(g_.type), g_.pad_value);
    b_.For("copied", b_.I64(0), b_.I64(g_.run()), lanes, [&](IrValue k) {
      IrValue exists;
      if (lanes == 1) {
        exists = ir().CreateAnd(ir().CreateICmpSGE(k, low), ir().CreateICmpSLT(k, high));
      } else {
        IrValue begin = b_.MaskBelow(ir().CreateSub(low, k), lanes), end = b_.MaskBelow(ir().CreateSub(high, k), lanes);
        exists = ir().CreateAnd(end, ir().CreateNot(begin));
      }
      b_.Store(copies, Plus(to, k), g_.type, b_.Load(b_.arg(0), Plus(from, k), g_.type, lanes, exists, fill));
    });
  }

  IrValues EmitTaps(const ContractionTile& tile, const IrValues& y0, const IrValues& x0, const IrValues& base,
                    IrValue weights, const IrValues& sums) {
    const auto tap = [&](IrValue ky, IrValue kx, const IrValues& carried) {
      IrValue offset = Plus(Times(ky, TapRow()), Times(kx, g_.x.dilation * g_.all_in_channels()));
      IrValues rows;
      for (int r = 0; r < tile.rows; ++r) {
        IrValue pointer = b_.ElementPointer(b_.arg(0), Plus(base[r], offset), g_.type);
        IrValue within = nullptr;
        const auto require = [&](const ConvAxis& axis, IrValue first, IrValue k) {
          if (axis.inside()) return;
          IrValue at = Plus(first, Times(k, axis.dilation));
          IrValue ok = ir().CreateICmpULT(at, b_.I64(axis.in));
          within = within == nullptr ? ok : ir().CreateAnd(within, ok);
        };
        require(g_.y, y0[r], ky);
        require(g_.x, x0[r], kx);
        rows.push_back(within == nullptr ? pointer : ir().CreateSelect(within, pointer, b_.arg(2)));
      }
      IrValue number = Plus(Times(ky, g_.x.taps), kx);
      IrValue at = Plus(weights, Times(number, WordsOf(g_.dot.units(g_.in_channels))));
      return EmitMultiplyAdd(b_, s_, tile, g_.in_channels, rows, 1, b_.ElementPointer(b_.arg(1), at, g_.dot.word()),
                             s_.width(), nullptr, carried);
    };
    if (g_.taps() == 1) return tap(b_.I64(0), b_.I64(0), sums);
    return b_.For("ky", b_.I64(0), b_.I64(g_.y.taps), 1, sums, [&](IrValue ky, const IrValues& of_row) {
      return b_.For("kx", b_.I64(0), b_.I64(g_.x.taps), 1, of_row,
                    [&](IrValue kx, const IrValues& carried) { return tap(ky, kx, carried); });
    });
  }

  KernelBuilder& b_;
  const ConvProblem& g_;
  const ContractionSchedule& s_;
};

// Arguments: image, panels, padding (as much as a group has input channels), the epilogue's operands, result.
KernelSpec ConvKernel(const ConvProblem& problem, const ContractionSchedule& schedule, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "conv";
  kernel.key = "conv " + problem.Key() + " " + schedule.Key() + " " + epilogue.Key();
  kernel.emit = [problem, schedule, epilogue](KernelBuilder& b) {
    WindowEmitter windows(b, problem, schedule);
    EmitContraction(b, schedule, epilogue, 3,
                    [&](const ContractionTile& tile, const IrValues& sums) { return windows.Emit(tile, sums); });
  };
  return kernel;
}

}  // namespace

extern const std::string_view kConvDoc;
const std::string_view kConvDoc = "channels-last convolutions of f32, f64, bf16 and bytes as contractions over windows";

std::optional<double> EstimateConv(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<ConvProblem> g = ReadProblem(graph, node, target, why);
  if (!g) return std::nullopt;
  const int cost = TileEpilogue(graph, node).WithStart().cost();
  if (g->IsMatmul()) return MatmulMicroseconds(WithBestDot(AsMatmul(*g), target, cost), target, cost);
  return ConvMicroseconds(WithBestDot(*g, target, cost), target, cost);
}

Status PlanConv(const Node& node, PlanBuilder& builder) {
  std::string why;
  std::optional<ConvProblem> g = ReadProblem(builder.graph(), node, builder.target(), &why);
  TES_CHECK(g.has_value(), why);
  if (g->IsMatmul()) {
    PlanMatmulSteps(node, AsMatmul(*g), builder);
    return OkStatus();
  }
  const TileEpilogue epilogue = TileEpilogue(builder.graph(), node).WithStart();
  g = WithBestDot(*g, builder.target(), epilogue.cost());
  const ContractionSchedule schedule = ScheduleContraction(builder.target(), ShapeOf(*g), epilogue.cost());
  const Value& weights = builder.graph()[node.inputs[1]];
  const Tensor panels = PackPanels(WeightsInWindowOrder(weights.constant, *g), WeightsOf(*g), schedule.width());
  Tensor padding(g->type, Shape({g->in_channels}));
  if (g->pad_value != 0) padding = Tensor::Full(g->type, padding.shape(), static_cast<double>(g->pad_value));
  PlanStep step;
  step.kernel = ConvKernel(*g, schedule, epilogue);
  const bool widened = g->dot.kind == Dot::Kind::kWords;
  step.args = {widened ? PlanWidened(node.inputs[0], DType::kI16, builder) : builder.Read(node.inputs[0]),
               {.buffer = builder.Constant(weights.name + ".panels", panels)},
               {.buffer = builder.Constant(node.name + ".padding", padding)}};
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks();
  step.scratch_bytes = schedule.scratch_bytes();
  if (g->only_runs()) step.scratch_bytes += ByteSize(g->type, schedule.tile_rows * g->y.taps * CopiedRun(*g));
  step.label = node.name;
  step.flops = g->flops();
  step.bytes = g->bytes();
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
