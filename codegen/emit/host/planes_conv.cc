// The planes_conv emitter: convolutions of images with channels first whose kept weights follow no pattern, as products
// of a scattered matrix with pixels.
//
//   Y[image][row][pixel] = epilogue(sum over kept (row, k) of W[row, k] * X[image][k][pixel])
//
//   1x1, stride 1:  k is a channel, X the image as it lies: a stream loads 16 pixels of plane after plane
//   otherwise:      k is a channel under a tap, X the windows, which a step of its own packs first (pack_windows.h)
//
// rows: output channels of all groups; of a grouped convolution a row keeps nothing outside its group, which costs
// nothing. The pattern of what is kept is straight code (scattered_stream.h).
//
//   task = a block of rows for 16 pixels of an image:
//     Y = finished in registers, row by row as planes lie        where Y's planes have room for whole vectors and the
//                                                                epilogue is a chain of simple steps (stream_finish.h)
//     sums = W's block times the panel; Y = epilogue(sums)       elsewhere
//
// No transposition and no packing remains between 1x1 convolutions and depthwise ones. Convolutions that declare
// nothing pruned are taken too where few weights make little code: the stream reaches 99 % of the multiply-adds' peak
// with all kept, and networks that were pruned have some layers that were not.
#include <algorithm>
#include <memory>
#include <optional>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/host/pack_windows.h"
#include "codegen/emit/host/planes.h"
#include "codegen/emit/host/sparse_matmul.h"
#include "codegen/emit/host/sparse_parts.h"
#include "codegen/emit/host/stream_finish.h"
#include "codegen/emit/panels.h"
#include "codegen/emitter.h"

namespace tessera {
namespace {

// Code beyond this comes from memory, which is slower than other ways.
constexpr double kMaxCodeBytes = 64 << 20;
// All weights kept: as much code as stays in half of a second-level cache.
constexpr int64_t kMaxDenseWeights = 48 << 10;
// From here on runs of equal columns, of which a dense matrix consists, are loops.
constexpr int64_t kMaxStraightDense = 16 << 10;
constexpr int64_t kMaxReach = 1 << 30;  // of displacements, in bytes
constexpr int64_t kMaxScratchRows = 256;

struct PlanesProduct {
  ConvGeometry g;
  bool dense = false;  // nothing is declared pruned
  std::shared_ptr<const ScatteredPattern> pattern;

  int64_t rows() const { return g.all_out_channels(); }
  int64_t depth() const { return g.taps() * g.all_in_channels(); }
  int64_t pixels() const { return g.y.out * g.x.out; }  // of an image
  int64_t panels() const { return DivideUp(pixels(), kPanelLanes); }
  // X is the image as it lies.
  bool pointwise() const { return g.taps() == 1 && g.y.stride == 1 && g.x.stride == 1 && g.y.inside() && g.x.inside(); }
  int64_t ElementOfWeights(int64_t row, int64_t k) const {
    const int64_t channel = k % g.all_in_channels() - row / g.out_channels * g.in_channels;
    return (row * g.in_channels + channel) * g.taps() + k / g.all_in_channels();
  }
  // For estimates, which ask how much there is.
  SparseProblem AsProblem() const {
    SparseProblem problem;
    problem.all.pattern = pattern;
    problem.source = {.depth = depth(), .columns = g.batch * panels() * kPanelLanes};
    return problem;
  }
};

std::shared_ptr<const ScatteredPattern> PatternOf(const PlanesProduct& p, const Value& weights) {
  auto pattern = std::make_shared<ScatteredPattern>();
  pattern->rows = p.rows();
  pattern->depth = p.depth();
  pattern->begin.push_back(0);
  Bitmap kept;
  if (weights.tesa) kept = weights.tesa->KeptBitmap();
  for (int64_t row = 0; row < p.rows(); ++row) {
    const int64_t first = row / p.g.out_channels * p.g.in_channels;
    for (int64_t tap = 0; tap < p.g.taps(); ++tap) {
      for (int64_t c = first; c < first + p.g.in_channels; ++c) {
        const int64_t k = tap * p.g.all_in_channels() + c;
        if (p.dense || kept[p.ElementOfWeights(row, k)]) pattern->columns.push_back(static_cast<int32_t>(k));
      }
    }
    pattern->begin.push_back(pattern->num_kept());
  }
  return pattern;
}

std::optional<PlanesProduct> ReadPlanesProduct(const Graph& graph, const Node& node, const Target& target,
                                               std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  const std::optional<ConvGeometry> g = ReadConvGeometry(graph, node, why, "nchw");
  if (!g) return std::nullopt;
  if (!HasStream(target)) return no("needs AVX2 with FMA, or AVX-512");
  PlanesProduct p;
  p.g = *g;
  const Value& weights = graph[node.inputs[1]];
  if (g->type != DType::kF32 || weights.type.dtype != DType::kF32) {
    return no("expected f32, found ", Name(g->type), " and ", Name(weights.type.dtype));
  }
  if (graph[node.inputs[0]].type.shape.rank() != 4) return no("expected two spatial axes");
  if (!TileEpilogue(graph, node, 2).even()) return no("an operand of the epilogue changes along one image axis only");
  if (p.pixels() < kMinSparseColumns) return no("expected at least ", kMinSparseColumns, " pixels, found ", p.pixels());
  p.dense = !weights.tesa.has_value();
  if (p.dense && weights.constant.num_elements() > kMaxDenseWeights) {
    return no("the weights declare nothing as pruned and are more than ", kMaxDenseWeights);
  }
  p.pattern = PatternOf(p, weights);
  return p;
}

// How X, Y and the epilogue's operands lie, those of them that are images.
struct PlaneLayouts {
  PlaneLayout in, out;
  std::vector<PlaneLayout> operands;
  std::string Key() const {
    std::string key = internal::Join("from ", in.Key(), " to ", out.Key());
    for (const PlaneLayout& operand : operands) key += internal::Join(" with ", operand.Key());
    return key;
  }
};

// All that the code is made from.
struct PlanesSchedule {
  SparseSchedule tasks;
  StreamForm form;
  bool packed = false;  // X lies in panels, not as planes
  bool direct = false;  // the stream stores Y
  PlaneLayouts lie;
  int64_t chunk_panels = 0;  // panels that all blocks pass before the next ones
};

PlanesSchedule SchedulePlanes(const PlanesProduct& p, const TileEpilogue& epilogue, const PlaneLayouts& lie,
                              const Target& target) {
  const PlaneLayout &in = lie.in, &out = lie.out;
  PlanesSchedule s;
  s.lie = lie;
  s.form.avx512 = target.has_avx512;
  // What whole vectors touch of a plane, or of its bands, each of them.
  const auto touched = [&](const PlaneLayout& layout) {
    return layout.banded() ? layout.band_pixels : p.panels() * kPanelLanes;
  };
  const int64_t whole = touched(out);
  s.packed = !p.pointwise() || in.pitch < touched(in) || in.pitch * 4 * p.depth() > kMaxReach;
  s.form.column_bytes = s.packed ? kPanelLanes * 4 : in.pitch * 4;
  if (target.has_avx512 && epilogue.pitch() >= whole && epilogue.pitch() * 4 * p.rows() <= kMaxReach) {
    if (auto steps = StreamSteps(epilogue, p.rows())) {
      // An operand with planes of its own may have less room than the result.
      s.direct = std::all_of(steps->begin(), steps->end(), [&](const StreamStep& step) {
        return step.with != StreamStep::With::kElement ||
               (step.row_bytes >= touched(lie.operands[step.operand]) * 4 && step.row_bytes * p.rows() <= kMaxReach);
      });
      if (s.direct) {
        s.form.finish = *std::move(steps);
        s.form.row_bytes = epilogue.pitch() * 4;
      }
    }
  }
  ScatteredBlocks& blocks = s.tasks.blocks;
  blocks.rows = p.rows();
  blocks.group_rows = s.form.MaxGroupRows();
  blocks.rolled = p.dense && p.pattern->num_kept() > kMaxStraightDense;
  // Measured on a Zen 4 (planes.h has the machine's ways): a block of a quarter of the second level's code is as good
  // as larger ones, because the panel is in the first level for its later groups; with few panels the code, which is
  // then most of what is read, should be used for all of them at once.
  const auto kept = static_cast<double>(p.pattern->num_kept());
  const double bytes = blocks.rolled ? kept * 4 : kept * (target.has_avx512 ? 12 : 22);
  const int64_t groups = DivideUp(p.rows(), blocks.group_rows);
  constexpr int64_t kFewPanels = 6;
  int64_t count = static_cast<int64_t>(bytes / (static_cast<double>(target.l2_bytes) / 4)) + 1;
  if (p.g.batch * p.panels() <= kFewPanels) count = groups;
  if (!s.direct) count = std::max(count, DivideUp(p.rows(), kMaxScratchRows));
  // At least two tasks for each of some threads.
  constexpr int64_t kWantedTasks = 16;
  count = std::max(count, DivideUp(kWantedTasks, p.g.batch * p.panels()));
  blocks.block_rows = DivideUp(p.rows(), std::min(count, groups));
  // Threads get parts of the image, as they do of what lies in front and behind (planes_depthwise.cc), where that
  // leaves a block's code enough panels and all code has room in each core's second level.
  const int64_t all_panels = p.g.batch * p.panels();
  const bool near = bytes < static_cast<double>(target.l2_bytes) / 2;
  const int64_t chunks = near ? std::clamp<int64_t>(all_panels / kFewPanels, 1, 8) : 1;
  s.chunk_panels = DivideUp(all_panels, chunks);
  if (out.banded() && chunks > 1) {
    const int64_t panels = out.band_pixels / kPanelLanes;
    s.chunk_panels = DivideUp(panels, DivideUp(panels, s.chunk_panels));
  }
  return s;
}

class PlanesConvEmitter {
 public:
  PlanesConvEmitter(KernelBuilder& b, const PlanesProduct& product, const PlanesSchedule& schedule,
                    const TileEpilogue& epilogue)
      : b_(b), p_(product), s_(schedule), epilogue_(epilogue) {}

  // task -> chunk of panels, block of rows, panel of all images.
  void Emit() {
    const StreamCode code = EncodeStream(*p_.pattern, s_.tasks.blocks, s_.form);
    IrValue start = b_.MachineCode("stream", code.bytes);
    IrValue entries = b_.ConstantArray("entry", DType::kI64, code.entry);
    IrValue firsts = b_.ConstantArray("first", DType::kI64, code.first_element);
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      const int64_t all_panels = p_.g.batch * p_.panels();
      const int64_t chunk_tasks = s_.chunk_panels * s_.tasks.blocks.blocks();
      IrValue first_panel = Times(ir().CreateUDiv(task, b_.I64(chunk_tasks)), s_.chunk_panels);
      IrValue in_chunk = ir().CreateURem(task, b_.I64(chunk_tasks));
      IrValue panels = ir().CreateSub(b_.I64(all_panels), first_panel);
      panels = ir().CreateSelect(ir().CreateICmpSLT(panels, b_.I64(s_.chunk_panels)), panels, b_.I64(s_.chunk_panels));
      IrValue block = ir().CreateUDiv(in_chunk, panels), at = Plus(first_panel, ir().CreateURem(in_chunk, panels));
      IrValue image = b_.I64(0), panel = at;
      if (p_.g.batch > 1) {
        image = ir().CreateUDiv(at, b_.I64(p_.panels()));
        panel = ir().CreateURem(at, b_.I64(p_.panels()));
      }
      IrValue pixel = Times(panel, kPanelLanes);
      IrValue x = s_.packed ? Times(at, p_.depth() * kPanelLanes)
                            : Plus(Times(image, p_.g.all_in_channels() * s_.lie.in.pitch), InBand(s_.lie.in, pixel));
      IrValue first_row = Times(block, s_.tasks.blocks.block_rows);
      IrValue row = Plus(Times(image, p_.rows()), first_row), column = InBand(s_.lie.out, pixel);
      IrValue entry = b_.Load(entries, block, DType::kI64, 1), first = b_.Load(firsts, block, DType::kI64, 1);
      IrValues args = {b_.ElementPointer(b_.arg(0), x, DType::kF32), b_.ElementPointer(b_.arg(1), first, DType::kF32)};
      if (s_.direct) {
        args.push_back(At(kFirstOperand + static_cast<int>(epilogue_.operands().size()),
                          Plus(Times(row, epilogue_.pitch()), column)));
        if (!epilogue_.operands().empty()) args.push_back(b_.I64(0));
        for (size_t k = 0; k < epilogue_.operands().size(); ++k)
          args.push_back(Operand(static_cast<int>(k), row, pixel));
      } else {
        args.push_back(b_.scratch());
      }
      b_.Call(ir().CreateGEP(ir().getInt8Ty(), start, entry), args);
      if (s_.direct) return;
      // A function of its own, so that the epilogue's constants do not wait in registers around the stream.
      const auto rows = EmitBlockRows(b_, s_.tasks.blocks, block).second;
      b_.Outline("finish", {row, column, rows}, [&](const IrValues& v) { FinishRows(v[0], v[1], v[2]); });
    });
  }

  static constexpr int kFirstOperand = 2;

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Times(IrValue x, int64_t by) { return by == 1 ? x : ir().CreateMul(x, b_.I64(by), "", true, true); }
  // Where a pixel lies in its plane.
  IrValue InBand(const PlaneLayout& layout, IrValue pixel) {
    IrValue offset = EmitBandOffset(b_, layout, pixel);
    return offset == nullptr ? pixel : Plus(pixel, offset);
  }
  IrValue At(int arg, IrValue index) { return b_.ElementPointer(b_.arg(arg), index, DType::kF32); }

  // Where operand k begins for the block that starts at `row` of all planes; StreamSteps knows these kinds only.
  IrValue Operand(int k, IrValue row, IrValue pixel) {
    const EpilogueOperand& operand = epilogue_.operands()[k];
    if (operand.elementwise && operand.along_columns) {
      return At(kFirstOperand + k, Plus(Times(row, operand.pitch), InBand(s_.lie.operands[k], pixel)));
    }
    if (operand.rows.empty()) return b_.arg(kFirstOperand + k);
    const EpilogueOperand::RowTerm& term = operand.rows[0];
    IrValue at = term.extent == 0 ? row : ir().CreateURem(row, b_.I64(term.extent));
    return At(kFirstOperand + k, Times(at, term.stride));
  }

  void FinishRows(IrValue first_row, IrValue column, IrValue rows) {
    const int lanes = std::min(kPanelLanes, b_.target().Lanes(32));
    b_.For("row", b_.I64(0), rows, 1, [&](IrValue r) {
      EpilogueEmitter finish(b_, epilogue_, kFirstOperand);
      IrValue row = Plus(first_row, r);
      for (int lane = 0; lane < kPanelLanes; lane += lanes) {
        IrValue at = Plus(column, b_.I64(lane)), mask = nullptr;
        // Of bands all pixels are whole vectors.
        if (p_.pixels() % kPanelLanes != 0) mask = b_.MaskBelow(ir().CreateSub(b_.I64(p_.pixels()), at), lanes);
        IrValue sum = b_.Load(b_.scratch(), Plus(Times(r, kPanelLanes), b_.I64(lane)), DType::kF32, lanes);
        finish.Store(sum, row, at, mask);
      }
    });
  }

  KernelBuilder& b_;
  const PlanesProduct& p_;
  const PlanesSchedule& s_;
  const TileEpilogue& epilogue_;
};

double Microseconds(const PlanesProduct& p, const PlanesSchedule& s, const Target& target, int epilogue_cost) {
  const MachineModel machine(target);
  const double vectors =
      static_cast<double>(p.g.batch * p.panels() * p.rows()) * kPanelLanes / std::min(kPanelLanes, target.Lanes(32));
  const double finish = (s.direct ? epilogue_cost : epilogue_cost + 3) * machine.op_ns;
  const StreamCounts counts = CountStream(*p.pattern, s.tasks.blocks);
  double us = StreamCoreNanoseconds(p.AsProblem(), counts, s.tasks, target) + vectors * finish;
  us = (us + machine.step_ns) / 1000;
  if (!p.pointwise()) us += PackWindowsMicroseconds(p.g, target);
  return us;
}

// X as a matrix a image, for a 1x1 convolution whose planes have no room for whole vectors.
PanelSource SourceOf(const PlanesProduct& p, int64_t pitch) {
  return {.matrices = p.g.batch,
          .depth = p.depth(),
          .columns = p.pixels(),
          .matrix_step = p.depth() * pitch,
          .depth_step = pitch,
          .column_step = 1};
}

}  // namespace

extern const std::string_view kPlanesConvDoc;
const std::string_view kPlanesConvDoc =
    "f32 convolutions with channels first and scattered constant weights, the pattern as straight code";

std::vector<Way> WaysPlanesConv(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const std::optional<PlanesProduct> p = ReadPlanesProduct(graph, node, target, why);
  if (!p) return {};
  TileEpilogue epilogue(graph, node, 2);
  PlaneLayouts lie = {.in = {.pitch = p->panels() * kPanelLanes}, .out = {.pitch = epilogue.pitch()}, .operands = {}};
  lie.operands.assign(epilogue.operands().size(), lie.out);
  const PlanesSchedule s = SchedulePlanes(*p, epilogue, lie, target);
  const double code = StreamCodeBytes(CountStream(*p->pattern, s.tasks.blocks), p->AsProblem(), target);
  if (code > kMaxCodeBytes) {
    *why = internal::Join("the pattern takes ", static_cast<int64_t>(code) >> 20, " MiB of code");
    return {};
  }
  const std::string kept =
      p->dense ? "dense"
               : internal::Join("scattered, ",
                                static_cast<int>(p->pattern->density() * 100 * static_cast<double>(p->g.groups) + 0.5),
                                " % kept");
  return {{.us = Microseconds(*p, s, target, epilogue.cost()),
           .why = internal::Join(kept, ", ", (static_cast<int64_t>(code) + 1023) >> 10, " KiB of code"),
           .code_bytes = code,
           .padded_planes = true,
           .band_halo = p->pointwise() ? 0 : -1,
           // Bands are whole vectors, so that no layout changes this.
           .bands_apart = s.direct}};
}

Status PlanPlanesConv(const Node& node, const std::string&, PlanBuilder& builder) {
  std::string why;
  const Target& target = builder.target();
  const std::optional<PlanesProduct> p = ReadPlanesProduct(builder.graph(), node, target, &why);
  TES_CHECK(p.has_value(), why);
  TileEpilogue epilogue(builder.graph(), node, 2);
  epilogue.UsePitches(node, builder);
  const PlaneLayout in = builder.PlanesOf(node.inputs[0]);
  PlaneLayouts lie = {.in = in, .out = builder.PlanesOf(node.outputs[0]), .operands = {}};
  for (size_t k = 0; k < epilogue.operands().size(); ++k) {
    lie.operands.push_back(builder.PlanesOf(node.epilogue->inputs[k]));
  }
  const PlanesSchedule schedule = SchedulePlanes(*p, epilogue, lie, target);

  StepArg x = builder.Read(node.inputs[0]);
  if (schedule.packed) {
    TES_CHECK(!in.banded(), node.name);
    const bool windows = !p->pointwise();
    const PanelSource source = SourceOf(*p, in.pitch);
    const int64_t bytes = windows ? 4 * WindowElements(p->g) : PackedBytes(source, kPanelLanes);
    const int panels = builder.Temp(node.name + ".panels", bytes);
    const StepArg to = {.buffer = panels, .writes = true};
    PlanStep pack =
        windows ? PlanPackWindows(p->g, in.pitch, x, to) : PlanPackPanels(source, kPanelLanes, x, to, target);
    pack.label = node.name;
    builder.AddStep(std::move(pack));
    x = {.buffer = panels};
  }

  const Value& weights = builder.graph()[node.inputs[1]];
  Tensor stream(DType::kF32, Shape({p->pattern->num_kept()}));
  float* to = stream.mutable_data<float>().data();
  const std::span<const float> from = weights.constant.data<float>();
  StreamVisitor visitor;
  visitor.on_element = [&](int64_t row, int64_t k) { *to++ = from[p->ElementOfWeights(row, k)]; };
  WalkStream(*p->pattern, schedule.tasks.blocks, visitor);

  PlanStep step;
  step.kernel.family = "planes_conv";
  step.kernel.key =
      internal::Join("planes_conv ", p->g.Key(), " pattern ", p->pattern->Digest(), " ", schedule.tasks.Key(), " ",
                     schedule.form.Key(), schedule.packed ? " packed" : "", " chunk ", schedule.chunk_panels,
                     schedule.direct ? " direct " : " ", schedule.lie.Key(), " ", epilogue.Key());
  step.kernel.emit = [product = *p, schedule, epilogue](KernelBuilder& b) {
    PlanesConvEmitter(b, product, schedule, epilogue).Emit();
  };
  step.args = {x, {.buffer = builder.Constant(weights.name + ".stream", std::move(stream))}};
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks.blocks.blocks() * p->g.batch * p->panels();
  step.scratch_bytes = schedule.direct ? 0 : schedule.tasks.blocks.block_rows * kPanelLanes * 4;
  step.label = node.name;
  // Kept elements are the work.
  const auto kept = static_cast<double>(p->pattern->num_kept());
  const auto pixels = static_cast<double>(p->g.pixels());
  step.flops = 2 * kept * pixels;
  step.bytes =
      4 * (kept + pixels * static_cast<double>((schedule.packed ? p->depth() : p->g.all_in_channels()) + p->rows()));
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
