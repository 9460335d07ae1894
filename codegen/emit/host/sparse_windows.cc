// The sparse_windows emitter: u8 · i8 products with many columns whose weights' kept elements follow no pattern. Lanes
// are rows of W, and each gathers what its row keeps by itself, so that four scattered elements fill a lane however
// far apart they lie (window_stream.h); x is read where it lies, and the pattern is data.
//
//   task = a tile of columns (pixels) and a run of groups of 16 rows:
//     for group:
//       sums[column][16] = what sums start with (bias)                          a register for each column of the tile
//       for step of the group:
//         indices, values = stream[step]                                        two loads for the whole tile
//         for column of the tile:
//           sums[column] += permute(x[column][place .. place + 64), indices) · values          vpermb, vpdpbusd
//       y[column][rows of the group] = epilogue(sums[column])                   16 bytes next to each other
//
// Roofline: vpermb and vpdpbusd of 512 bits take two of Zen 4's pipes for a cycle each, and have three to choose from:
// 4/3 cycles for a step and a column; 1.5 where the window's 64 bytes lie across two lines of the cache, as most do.
// With 10 % kept a product 512 deep takes 18 steps where 1x4 units (sparse_stream.cc) take 44 multiply-adds; from about
// 40 % on that one is quicker, and where blocks of 1x4 are kept it always is.
//
// Measured figures: docs/results/host_int8.md. Tested by sparse_windows_test.cc.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/round.h"
#include "codegen/cost_model.h"
#include "codegen/emit/host/sparse_matmul.h"
#include "codegen/emit/host/window_stream.h"
#include "codegen/emit/int8_dot.h"
#include "codegen/emitter.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace tessera {
namespace {

// Columns of a tile: their sums, a step's two vectors and a few on their way are all the registers.
constexpr int64_t kMaxTile = 16;
// Tasks of a product at least, where it has as many groups: threads' shares are then nearly equal.
constexpr int64_t kMinTasks = 64;
// Epilogues of more instructions are written once and not for each column of a tile.
constexpr int kMaxStraightEpilogue = 14;

struct WindowsSchedule {
  int64_t rows = 0, depth = 0, columns = 0;
  // The first `wide` tiles have `tile` columns, the others one less.
  int64_t tiles = 1, tile = 1, wide = 1;
  int64_t chunks = 1;  // of the groups
  // Where chunks begin, and groups() at the end; empty: equal runs of groups, to one.
  std::vector<int64_t> cuts;

  int64_t groups() const { return DivideUp(rows, kWindowRows); }
  int64_t tasks() const { return tiles * chunks; }
  std::string Key() const {
    std::string key = internal::Join(rows, "x", columns, "x", depth, " tiles ", tiles, " chunks ", chunks);
    for (int64_t cut : cuts) key += internal::Join(" ", cut);
    return key;
  }
};

WindowsSchedule ScheduleWindows(int64_t rows, int64_t depth, int64_t columns) {
  WindowsSchedule s = {.rows = rows, .depth = depth, .columns = columns};
  s.tiles = DivideUp(columns, kMaxTile);
  s.tile = DivideUp(columns, s.tiles);
  s.wide = columns - s.tiles * (s.tile - 1);
  s.chunks = std::min(s.groups(), DivideUp(kMinTasks, s.tiles));
  return s;
}

// Cuts the chunks so that each holds the same share of what is kept, where equal ones would leave a thread with 5 %
// more than its share. (A third of 690 rows kept whole, the others 1 %, 10 columns: 0.76 of dense with equal chunks.)
void BalanceChunks(const ScatteredPattern& kept, int threads, WindowsSchedule& s) {
  constexpr double kUnequal = 1.05;
  const auto work_before = [&](int64_t group) {
    const int64_t row = std::min(kept.rows, group * kWindowRows);
    return kept.begin[row] + kWindowRows * row;  // of a row beside what it keeps: steps that fill up, the epilogue
  };
  const int64_t all = work_before(s.groups());
  int64_t most = 0;
  for (int t = 0; t < threads; ++t) {
    const auto group_of = [&](int thread) { return s.chunks * thread / threads * s.groups() / s.chunks; };
    most = std::max(most, work_before(group_of(t + 1)) - work_before(group_of(t)));
  }
  if (static_cast<double>(most * threads) < kUnequal * static_cast<double>(all)) return;
  int64_t group = 0;
  for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
    // The group whose middle lies beyond the share of the chunks before.
    while (2 * all * chunk > s.chunks * (work_before(group) + work_before(group + 1))) ++group;
    s.cuts.push_back(group);
  }
  s.cuts.push_back(s.groups());
}

// Arguments: 0 x, 1 values, 2 places, 3 begin (WindowStream); then the epilogue's.
constexpr int kFirstEpilogueArg = 4;

class WindowsEmitter {
 public:
  WindowsEmitter(KernelBuilder& b, const WindowsSchedule& schedule, const TileEpilogue& epilogue)
      : b_(b), s_(schedule), epilogue_(epilogue) {}

  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
      IrValue tile = ir().CreateUDiv(task, b_.I64(s_.chunks)), chunk = ir().CreateURem(task, b_.I64(s_.chunks));
      IrValue first = FirstGroup(chunk), end = FirstGroup(Plus(chunk, b_.I64(1)));
      if (s_.wide == s_.tiles) return EmitTile("tile", Times(tile, s_.tile), first, end, s_.tile);
      IrValue is_wide = ir().CreateICmpULT(tile, b_.I64(s_.wide));
      b_.If("wide", is_wide, [&] { EmitTile("wide_tile", Times(tile, s_.tile), first, end, s_.tile); });
      b_.If("narrow", ir().CreateNot(is_wide),
            [&] { EmitTile("narrow_tile", Plus(Times(tile, s_.tile - 1), b_.I64(s_.wide)), first, end, s_.tile - 1); });
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue At(IrValue pointer, IrValue bytes) { return ir().CreateInBoundsGEP(ir().getInt8Ty(), pointer, bytes); }
  llvm::FixedVectorType* Bytes() { return llvm::FixedVectorType::get(ir().getInt8Ty(), kWindow); }
  llvm::FixedVectorType* Words() { return llvm::FixedVectorType::get(ir().getInt32Ty(), kWindowRows); }
  IrValue LoadBegin(IrValue group) {
    return ir().CreateSExt(b_.Load(b_.arg(3), group, DType::kI32, 1), ir().getInt64Ty());
  }

  IrValue FirstGroup(IrValue chunk) {
    if (s_.cuts.empty()) return ir().CreateUDiv(Times(chunk, s_.groups()), b_.I64(s_.chunks));
    return b_.Load(b_.ConstantArray("cuts", DType::kI64, s_.cuts), chunk, DType::kI64, 1);
  }

  void EmitTile(const char* name, IrValue column, IrValue first, IrValue end, int64_t width) {
    IrValue x = At(b_.arg(0), Times(column, s_.depth));
    b_.Outline(name, {x, column, first, end}, [&](const IrValues& values) {
      b_.For("group", values[2], values[3], 1, [&](IrValue group) { EmitGroup(values[0], values[1], group, width); });
    });
  }

  void EmitGroup(IrValue x, IrValue column, IrValue group, int64_t width) {
    IrValue row = Times(group, kWindowRows), mask = nullptr;
    if (s_.rows % kWindowRows != 0) mask = b_.MaskBelow(ir().CreateSub(b_.I64(s_.rows), row), kWindowRows);
    EpilogueEmitter finish(b_, epilogue_, kFirstEpilogueArg);
    const IrValues start(width, finish.Start(DType::kI32, kWindowRows, row, mask));
    IrValue first = LoadBegin(group), end = LoadBegin(Plus(group, b_.I64(1)));
    const IrValues sums = b_.For("step", first, end, 1, start, [&](IrValue step, const IrValues& carried) {
      IrValue at = At(b_.arg(1), Times(step, kWindowStepBytes));
      IrValue indices = ir().CreateAlignedLoad(Bytes(), at, llvm::Align(kWindow));
      IrValue values = ir().CreateAlignedLoad(Words(), At(at, b_.I64(kWindow)), llvm::Align(kWindow));
      IrValue place = ir().CreateZExt(b_.Load(b_.arg(2), step, DType::kU16, 1), ir().getInt64Ty());
      IrValue window = At(x, place);
      IrValues next;
      for (int64_t c = 0; c < width; ++c) {
        IrValue taken = ir().CreateIntrinsic(llvm::Intrinsic::x86_avx512_permvar_qi_512, {},
                                             {LoadWindow(At(window, b_.I64(c * s_.depth))), indices});
        next.push_back(EmitDotBytes(b_, carried[c], ir().CreateBitCast(taken, Words()), values));
      }
      return next;
    });
    if (epilogue_.cost() <= kMaxStraightEpilogue) {
      for (int64_t c = 0; c < width; ++c) finish.Store(sums[c], Plus(column, b_.I64(c)), row, mask);
      return;
    }
    for (int64_t c = 0; c < width; ++c) b_.Store(b_.scratch(), b_.I64(c * kWindowRows), DType::kI32, sums[c]);
    b_.For("column", b_.I64(0), b_.I64(width), 1, [&](IrValue c) {
      EpilogueEmitter one(b_, epilogue_, kFirstEpilogueArg);
      IrValue sum = b_.Load(b_.scratch(), Times(c, kWindowRows), DType::kI32, kWindowRows);
      one.Store(sum, Plus(column, c), row, mask);
    });
  }

  // Of less depth than a window, only what there is: what lies behind may be no memory of ours.
  IrValue LoadWindow(IrValue at) {
    if (s_.depth >= kWindow) return ir().CreateAlignedLoad(Bytes(), at, llvm::Align(1));
    IrValue mask = ir().CreateBitCast(ir().getInt64((uint64_t{1} << s_.depth) - 1),
                                      llvm::FixedVectorType::get(ir().getInt1Ty(), kWindow));
    return ir().CreateMaskedLoad(Bytes(), at, llvm::Align(1), mask, llvm::Constant::getNullValue(Bytes()));
  }

  KernelBuilder& b_;
  const WindowsSchedule& s_;
  const TileEpilogue& epilogue_;
};

struct Windows {
  SparseProblem problem;
  ScatteredPattern kept;  // single elements
  WindowsSchedule schedule;
};

std::optional<Windows> ReadWindows(const Graph& graph, const Node& node, const Target& target, std::string* why) {
  const auto no = [&](auto... pieces) {
    *why = internal::Join(pieces...);
    return std::nullopt;
  };
  if (!target.has_avx512 || !target.has_vbmi || !target.has_vnni) return no("needs AVX-512 with VBMI and VNNI");
  std::optional<SparseProblem> problem = ReadSparseProblem(graph, node, target, why);
  if (!problem) return std::nullopt;
  if (problem->unit != SparseUnit::kInt8x4) return no("expected u8 with weights of i8");
  const PanelSource& x = problem->source;
  if (!problem->by_columns || x.depth_step != 1 || x.column_step != x.depth) {
    return no("expected the depth of x, and the rows of the result, next to each other");
  }
  if (x.depth > kMaxWindowDepth) return no("expected a depth of at most ", kMaxWindowDepth, ", found ", x.depth);
  Windows windows = {.problem = *std::move(problem), .kept = {}, .schedule = {}};
  const SparseProblem& p = windows.problem;
  windows.kept =
      ScatteredPattern::Make(*p.all.kept, p.rows(), p.source.depth, p.row_step, p.depth_step, /*elements=*/1);
  windows.schedule = ScheduleWindows(p.rows(), p.source.depth, p.columns());
  if (target.threads > 1) BalanceChunks(windows.kept, target.threads, windows.schedule);
  return windows;
}

TileEpilogue EpilogueOf(const Graph& graph, const Node& node) { return TileEpilogue(graph, node).WithStart(); }

// Nanoseconds on one core.
double WindowsNanoseconds(const WindowsSchedule& s, double steps, const TileEpilogue& epilogue, const Target& target) {
  // Cycles of a column, of a tile, of a group of a tile: 1.5, 2 and 12 where nothing else is in the way; what networks
  // and tests/grid measure beside dense products is a quarter more. Starting the kernel costs each thread 250 ns.
  constexpr double kStep = 1.9, kStepOfTile = 2.5, kGroup = 15, kKernelNs = 250;
  const MachineModel machine(target);
  const auto tiles = static_cast<double>(s.tiles), columns = static_cast<double>(s.columns);
  const auto groups = static_cast<double>(s.groups());
  const double cycles = steps * (columns * kStep + tiles * kStepOfTile) + groups * tiles * kGroup;
  double finish = epilogue.cost() + 2;
  if (epilogue.cost() > kMaxStraightEpilogue) finish += 2;
  const double ns = cycles * MachineModel::kCycle + groups * columns * finish * machine.op_ns;
  const double kernels = kKernelNs * static_cast<double>(std::min<int64_t>(machine.threads, s.tasks()));
  return machine.Shared(ns, s.tasks()) + kernels + machine.step_ns;
}

}  // namespace

extern const std::string_view kSparseWindowsDoc;
const std::string_view kSparseWindowsDoc =
    "u8 · i8 products with scattered constant weights and many columns: each row gathers what it keeps by permutation";

std::optional<double> EstimateSparseWindows(const Graph& graph, const Node& node, const Target& target,
                                            std::string* why) {
  const std::optional<Windows> windows = ReadWindows(graph, node, target, why);
  if (!windows) return std::nullopt;
  const double steps = EstimateWindowSteps(windows->kept);
  const double a_group = steps / static_cast<double>(windows->schedule.groups());
  *why = internal::Join(DescribeKept(windows->problem), ", ", static_cast<int64_t>(a_group * 10) / 10.0,
                        " steps for 16 rows");
  return WindowsNanoseconds(windows->schedule, steps, EpilogueOf(graph, node), target) / 1000;
}

Status PlanSparseWindows(const Node& node, PlanBuilder& builder) {
  std::string why;
  const std::optional<Windows> windows = ReadWindows(builder.graph(), node, builder.target(), &why);
  TES_CHECK(windows.has_value(), why);
  const SparseProblem& problem = windows->problem;
  const WindowsSchedule& schedule = windows->schedule;
  const Value& weights = builder.graph()[problem.weights];
  WindowStream stream = PackWindowStream(windows->kept, weights.constant, problem.row_step, problem.depth_step);
  const TileEpilogue epilogue = EpilogueOf(builder.graph(), node);
  PlanStep step;
  step.flops = 2.0 * static_cast<double>(windows->kept.num_kept() * problem.columns());
  step.bytes = static_cast<double>(stream.values.byte_size() + problem.columns() * problem.source.depth +
                                   ByteSize(epilogue.dtype(), problem.columns() * problem.rows()));
  step.args = {builder.Read(problem.x),
               {.buffer = builder.Constant(weights.name + ".windows", std::move(stream.values))},
               {.buffer = builder.Constant(weights.name + ".places", std::move(stream.places))},
               {.buffer = builder.Constant(weights.name + ".begin", std::move(stream.begin))}};
  step.kernel.family = "sparse_windows";
  step.kernel.key = internal::Join("sparse_windows ", schedule.Key(), " ", epilogue.Key());
  step.kernel.emit = [schedule, epilogue](KernelBuilder& b) { WindowsEmitter(b, schedule, epilogue).Emit(); };
  epilogue.AddArguments(node, builder, step);
  step.tasks = schedule.tasks();
  step.scratch_bytes = schedule.tile * kWindowRows * 4;
  step.label = node.name;
  builder.AddStep(std::move(step));
  return OkStatus();
}

}  // namespace tessera
