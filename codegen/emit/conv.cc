// The convolution emitter: channels-last images, constant weights, any stride, padding, dilation and grouping, as a
// contraction (contraction.h) whose rows are output pixels and whose depth is a window's pixels times channels.
//
//   1x1, stride 1:  rows of A are the pixels where they lie: a matmul
//   otherwise:      for ky: for kx:                    a tap
//                     a[r] = image + offset of the tap's pixel for output pixel r,   or zeros where that is padding
//                     sums += splat(a[r][c]) * weights[ky][kx][c][panel]   over the input channels c
//
// No window is copied anywhere: the pixels of a tile take their places one by one (XNNPACK calls this indirect), so a
// tile may run over the ends of rows and images. With few input channels (the first layer of an image network) that
// address arithmetic would cost more than the products; there a tile whose windows lie inside one row of the image and
// touch no padding takes each kernel row as one run of kx·channels consecutive elements:
//
//   for ky:  sums += splat(a[r][i]) * weights[ky][i][panel]   over i in kx·channels,  a[r] = a[0] + r·stride·channels
#include <optional>

#include "codegen/cost_model.h"
#include "codegen/emit/contraction.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/matmul.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// Below so many input channels a tap's address arithmetic (about 6 instructions a pixel) is not hidden by its products.
constexpr int64_t kFewChannels = 16;
// Row pointers, the weights' pointer and loop counters have to fit 16 general registers.
constexpr int kMaxPixels = 8;

MatmulProblem AsMatmul(const ConvGeometry& g) {
  return {.type = g.type,
          .rows = g.pixels(),
          .columns = g.out_channels,
          .depth = g.in_channels,
          .b_transposed = true,
          .b_constant = true};
}

ContractionShape ShapeOf(const ConvGeometry& g) {
  return {.type = g.type,
          .groups = g.groups,
          .rows = g.pixels(),
          .columns = g.out_channels,
          .depth = g.taps() * g.in_channels,
          .groups_along_columns = true,
          .a_row_step = g.x.stride * g.all_in_channels(),
          .max_tile_rows = kMaxPixels};
}

// Weights as a contraction's B: a matrix for each group, transposed.
PanelSource WeightsOf(const ConvGeometry& g) {
  const int64_t depth = g.taps() * g.in_channels;
  return {.type = g.type,
          .matrices = g.groups,
          .depth = depth,
          .columns = g.out_channels,
          .matrix_step = depth * g.out_channels,
          .depth_step = 1,
          .column_step = depth};
}

bool RunsOfRows(const ConvGeometry& g) {
  return g.in_channels < kFewChannels && g.x.taps > 1 && g.x.dilation == 1 && g.groups == 1;
}

// Writes the sums of one tile.
class WindowEmitter {
 public:
  WindowEmitter(KernelBuilder& b, const ConvGeometry& g, const ContractionSchedule& schedule)
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
    const int64_t panel = s_.shape.depth * s_.width();
    IrValue weights = Times(Plus(Times(tile.group, s_.panels()), tile.panel), panel);
    if (!RunsOfRows(g_)) return EmitTaps(tile, y0, x0, base, weights, sums);
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
        [&] { return EmitTaps(tile, y0, x0, base, weights, sums); });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", false, true); }
  IrValue Plus(IrValue x, int64_t y) { return y == 0 ? x : Plus(x, b_.I64(y)); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, b_.I64(by), "", false, true); }

  // Elements between rows of the image that neighbouring taps read.
  int64_t TapRow() const { return g_.y.dilation * g_.x.in * g_.all_in_channels(); }

  IrValues EmitRuns(const ContractionTile& tile, IrValue base, IrValue weights, const IrValues& sums) {
    const int64_t run = g_.x.taps * g_.in_channels;
    return b_.For("ky", b_.I64(0), b_.I64(g_.y.taps), 1, sums, [&](IrValue ky, const IrValues& carried) {
      IrValue at = Plus(base, Times(ky, TapRow()));
      IrValues rows;
      for (int r = 0; r < tile.rows; ++r) {
        rows.push_back(b_.ElementPointer(b_.arg(0), Plus(at, r * g_.x.stride * g_.all_in_channels()), g_.type));
      }
      IrValue row_weights = b_.ElementPointer(b_.arg(1), Plus(weights, Times(ky, run * s_.width())), g_.type);
      return EmitMultiplyAdd(b_, s_, tile, run, rows, 1, row_weights, s_.width(), nullptr, carried);
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
      IrValue at = Plus(weights, Times(number, g_.in_channels * s_.width()));
      return EmitMultiplyAdd(b_, s_, tile, g_.in_channels, rows, 1, b_.ElementPointer(b_.arg(1), at, g_.type),
                             s_.width(), nullptr, carried);
    };
    if (g_.taps() == 1) return tap(b_.I64(0), b_.I64(0), sums);
    return b_.For("ky", b_.I64(0), b_.I64(g_.y.taps), 1, sums, [&](IrValue ky, const IrValues& of_row) {
      return b_.For("kx", b_.I64(0), b_.I64(g_.x.taps), 1, of_row,
                    [&](IrValue kx, const IrValues& carried) { return tap(ky, kx, carried); });
    });
  }

  KernelBuilder& b_;
  const ConvGeometry& g_;
  const ContractionSchedule& s_;
};

// Arguments: image, panels, zeros (as many as a group has input channels), the epilogue's operands, result.
KernelSpec ConvKernel(const ConvGeometry& geometry, const ContractionSchedule& schedule, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "conv";
  kernel.key = "conv " + geometry.Key() + " " + schedule.Key() + " " + epilogue.Key();
  kernel.emit = [geometry, schedule, epilogue](KernelBuilder& b) {
    WindowEmitter windows(b, geometry, schedule);
    EmitContraction(b, schedule, epilogue, 3,
                    [&](const ContractionTile& tile, const IrValues& sums) { return windows.Emit(tile, sums); });
  };
  return kernel;
}

}  // namespace

extern const std::string_view kConvDoc;
const std::string_view kConvDoc = "channels-last convolutions of f32 and f64 as contractions over windows";

std::optional<double> EstimateConv(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why);
  if (!g) return std::nullopt;
  const int cost = TileEpilogue(graph, node).cost();
  if (g->IsMatmul()) return MatmulMicroseconds(AsMatmul(*g), target, cost);
  const MachineModel machine(target);
  const ContractionSchedule schedule = ScheduleContraction(target, ShapeOf(*g), cost);
  double us = ContractionMicroseconds(target, schedule, cost) + machine.step_ns / 1000;
  // Address arithmetic and the start of a loop, for each pixel and tap of each panel; a third of the issue slots.
  const double places =
      static_cast<double>(g->groups * schedule.panels() * g->pixels()) * static_cast<double>(g->taps());
  us += places * (RunsOfRows(*g) ? 1 : 6) * MachineModel::kCycle / 4 / 1000;
  return us;
}

Status PlanConv(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<ConvGeometry> g = ReadConvGeometry(builder.graph(), node, &why);
  TES_CHECK(g.has_value(), why);
  if (g->IsMatmul()) {
    PlanMatmulSteps(node, AsMatmul(*g), builder);
    return OkStatus();
  }
  const TileEpilogue epilogue(builder.graph(), node);
  const ContractionSchedule schedule = ScheduleContraction(builder.target(), ShapeOf(*g), epilogue.cost());
  const Value& weights = builder.graph()[node.inputs[1]];
  const Tensor panels = PackPanels(WeightsInWindowOrder(weights.constant, *g), WeightsOf(*g), schedule.width());
  PlanStep step;
  step.kernel = ConvKernel(*g, schedule, epilogue);
  step.args = {builder.Read(node.inputs[0]),
               {.buffer = builder.Constant(weights.name + ".panels", panels)},
               {.buffer = builder.Constant(node.name + ".zeros", Tensor(g->type, Shape({g->in_channels})))}};
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks();
  step.scratch_bytes = schedule.scratch_bytes();
  step.label = node.name;
  step.flops = g->flops();
  step.bytes = g->bytes();
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
