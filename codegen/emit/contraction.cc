#include "codegen/emit/contraction.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/cost_model.h"

namespace tessera {
namespace {

// Straight code for a tile's epilogue up to this many instructions per vector; longer bodies are written once, in a
// loop over the tile's results that takes them from scratch memory (one more store and load each).
constexpr int kMaxStraightEpilogue = 14;

// Depths up to so many units are written out without a loop: a kernel row of an image's three colours has 9.
constexpr int64_t kMaxStraightUnits = 12;

// A multiply-add's result can be used after four cycles and two can start in each: so many sums must be in flight.
constexpr int kSumsInFlight = 8;

// Splits the rows into tiles of nearly equal height, at most `max_rows`.
void SplitRows(ContractionSchedule& schedule, int max_rows) {
  const int64_t rows = schedule.shape.rows;
  schedule.tiles = std::max<int64_t>(1, DivideUp(rows, max_rows));
  schedule.tile_rows = static_cast<int>(std::max<int64_t>(1, DivideUp(rows, schedule.tiles)));
  schedule.full_tiles = rows - schedule.tiles * (schedule.tile_rows - 1);
}

// Rows of a tile of `vectors` vectors such that sums, a row of B and one broadcast fit the registers, with some to
// spare: LLVM's scheduler moves a load or two ahead, and a tile that fills all registers was seen to spill (14 rows of
// 2 vectors out of 32 registers ran at half the speed of 13). A single vector takes the broadcast as a memory operand
// of the multiply-add where there are such (AVX-512).
int MaxTileRows(const Target& target, const ContractionShape& shape, int vectors) {
  const Dot& dot = shape.dot;
  const int broadcast = vectors == 1 && dot.parts() == 1 && target.has_avx512 ? 0 : dot.parts();
  const int product = dot.instructions(target) > dot.parts() ? 1 : 0;  // that waits for its addition
  if (shape.block > 0) return (target.vector_registers - vectors - broadcast - product) / (2 * vectors);
  const int spare = target.vector_registers >= 32 ? 2 : 1;
  return (target.vector_registers - vectors - broadcast - product - spare) / vectors;
}

// Cycles of waiting per depth step because rows of A that are a power of two apart share sets of the first-level cache
// (64 sets of 64-byte lines, 8 ways, one of which B's stream takes). Measured: 25 rows 4 KiB apart take 100 cycles
// a step, 13 rows 5.
double ConflictCycles(int64_t row_bytes, double rows) {
  int in_set[64] = {};
  int worst = 0;
  for (int r = 0; r < static_cast<int>(rows + 0.5); ++r) worst = std::max(worst, ++in_set[r * row_bytes / 64 % 64]);
  return worst <= 7 ? 0 : rows * (worst - 7) * 0.2;
}

}  // namespace

int64_t ContractionSchedule::scratch_bytes() const {
  return rolled_epilogue ? ByteSize(shape.sum(), tile_rows * width()) : 0;
}

std::string ContractionSchedule::Key() const {
  return internal::Join(shape.dot.Key(), " groups ", shape.groups, shape.groups_along_columns ? " (columns) " : " ",
                        shape.rows, "x", shape.columns, "x", shape.depth, " run ", shape.run,
                        shape.block > 0 ? internal::Join(" scaled by ", shape.block) : "", " tile ", tile_rows, "x",
                        vectors, "x", lanes, " tiles ", tiles, " full ", full_tiles, " block ", block_tiles, " sums ",
                        sums_per_element, " unroll ", unroll, rolled_epilogue ? " rolled" : "");
}

ContractionSchedule ScheduleContraction(const Target& target, const ContractionShape& shape, int epilogue_cost) {
  ContractionSchedule best;
  double best_us = 0;
  for (int vectors = 1; vectors <= 4; ++vectors) {
    ContractionSchedule candidate;
    candidate.shape = shape;
    candidate.lanes = target.Lanes(TypeInfo(shape.dot.sum()).bits);
    candidate.vectors = vectors;
    if (vectors > 1 && shape.columns <= int64_t{vectors - 1} * candidate.lanes) break;
    const int max_rows = std::min(MaxTileRows(target, shape, vectors), shape.max_tile_rows);
    if (max_rows < 1) break;
    SplitRows(candidate, max_rows);
    // (Blocks are independent of each other.)
    candidate.sums_per_element = shape.block > 0 ? 1 : std::max(1, kSumsInFlight / (candidate.tile_rows * vectors));
    candidate.unroll = std::max(2, candidate.sums_per_element);
    // Half of the second-level cache for the rows of A that a panel meets; the panel itself and results take the rest.
    const int64_t tile_bytes = std::max<int64_t>(1, ByteSize(shape.dot.a, candidate.tile_rows * shape.depth));
    candidate.block_tiles = std::clamp<int64_t>(target.l2_bytes / 2 / tile_bytes, 1, candidate.tiles);
    candidate.block_tiles = DivideUp(candidate.tiles, DivideUp(candidate.tiles, candidate.block_tiles));
    candidate.rolled_epilogue = epilogue_cost > kMaxStraightEpilogue;
    const double us = ContractionMicroseconds(target, candidate, epilogue_cost);
    if (vectors > 1 && us >= best_us) continue;
    best = candidate;
    best_us = us;
  }
  return best;
}

double ContractionMicroseconds(const Target& target, const ContractionSchedule& s, int epilogue_cost) {
  const MachineModel machine(target);
  const ContractionShape& shape = s.shape;
  const Dot& dot = shape.dot;
  const double a_bytes = TypeInfo(dot.a).bits / 8.0;
  const double word_bytes = TypeInfo(dot.word()).bits / 8.0;
  const double units = static_cast<double>(shape.units());
  const double columns_in_vectors = static_cast<double>(DivideUp(shape.columns, s.lanes));
  const double panels = static_cast<double>(s.panels());
  // One row tile against all panels.
  const double rows = static_cast<double>(shape.rows) / static_cast<double>(s.tiles);
  const double vector_units = rows * columns_in_vectors * units;
  // Of each block a conversion and a multiply-add, and short sums are made long.
  const double blocks_of_depth = shape.block > 0 ? static_cast<double>(shape.depth / shape.block) : 0;
  const double short_sums = dot.short_units > 0 ? units / dot.short_units : 0;
  const double scaled = rows * columns_in_vectors * blocks_of_depth;
  const double products =
      vector_units * dot.instructions(target) + 2 * scaled + 2 * rows * columns_in_vectors * short_sums;
  const double multiply =
      (vector_units * dot.multiplications(target) + scaled + rows * columns_in_vectors * short_sums) * machine.op_ns;
  const double b_vectors = columns_in_vectors * dot.parts(), broadcasts = panels * rows;
  const double loads = blocks_of_depth * columns_in_vectors * machine.load_ns +
                       units * (b_vectors * machine.load_ns + broadcasts * machine.broadcast_ns);
  // Taking units apart: what makes words of bytes.
  const double split = dot.parts() > 1 ? units * broadcasts * 3 : 0;
  // Vectors of any operation: 3.2 in the time of two multiplications, where there are four pipes.
  const double vector = (products + split) * machine.op_ns / 1.6;
  const double issue = (products + split + units * (b_vectors + broadcasts)) * MachineModel::kCycle / 5;
  // B comes from the first level when a panel and the tile's A stay there, otherwise from the second.
  const double unit_bytes = dot.parts() * word_bytes;
  const double panel_bytes = units * static_cast<double>(s.width()) * unit_bytes;
  const double b_bytes = units * columns_in_vectors * s.lanes * unit_bytes;
  double transfer = 0;
  if (panel_bytes > 0.5 * static_cast<double>(target.l1d_bytes)) {
    const bool in_l2 = panel_bytes < 0.6 * static_cast<double>(target.l2_bytes);
    transfer = b_bytes / (in_l2 ? machine.l2_bytes_per_ns : machine.memory_bytes_per_ns);
  }
  const double row_bytes = static_cast<double>(shape.a_row_step != 0 ? shape.a_row_step : shape.depth) * a_bytes;
  const double conflicts = units * columns_in_vectors / s.vectors * MachineModel::kCycle *
                           ConflictCycles(static_cast<int64_t>(row_bytes), rows);
  const double finish = rows * columns_in_vectors * (epilogue_cost + 1) * machine.op_ns;
  const double tile_overhead = panels * 12 * MachineModel::kCycle;
  const double tiles = static_cast<double>(shape.groups * s.tiles);
  // What is not the bottleneck still gets in its way a little.
  const double overlap = 0.03 * (multiply + loads + issue + transfer);
  const double bound = std::max({multiply, vector, loads, issue, transfer});
  const double compute = tiles * (bound + overlap + conflicts + finish + tile_overhead);
  // Everything is fetched from memory at least once; B once for each block of rows.
  const double blocks = static_cast<double>(DivideUp(s.tiles, s.block_tiles));
  const double groups = static_cast<double>(shape.groups);
  const double a_all = static_cast<double>(shape.rows * shape.depth) * a_bytes;
  const double once = groups * (blocks * b_bytes + a_all) / machine.memory_bytes_per_ns;
  return std::max(compute, once) / 1000;
}

IrValues EmitMultiplyAdd(KernelBuilder& b, const ContractionSchedule& s, const ContractionTile& tile, int64_t depth,
                         const IrValues& a_rows, int64_t a_step, IrValue b_rows, int64_t b_step, IrValue b_mask,
                         IrValues sums) {
  auto& ir = b.ir();
  const Dot& dot = s.shape.dot;
  const int copy_size = tile.rows * tile.vectors;
  TES_CHECK(a_step == 1 || dot.unit() == 1, a_step);
  // The products of a unit, whose `count` elements of A start at `at`, go to copy number mod sums_per_element.
  const auto step = [&](IrValue number, IrValue at, int count, int copy, IrValues& into) {
    IrValue row = ir.CreateMul(number, b.I64(b_step * dot.parts()), "", true, true);
    std::vector<IrValues> vectors(tile.vectors);
    for (int part = 0; part < dot.parts(); ++part) {
      for (int v = 0; v < tile.vectors; ++v) {
        IrValue column = ir.CreateAdd(row, b.I64(part * b_step + int64_t{v} * tile.lanes), "", true, true);
        IrValue mask = v + 1 == tile.vectors ? b_mask : nullptr;
        vectors[v].push_back(b.Load(b_rows, column, dot.word(), tile.lanes, mask));
      }
    }
    at = ir.CreateMul(at, b.I64(a_step), "", true, true);
    for (int r = 0; r < tile.rows; ++r) {
      const IrValues a = EmitDotSplat(b, dot, EmitUnit(b, dot, a_rows[r], at, count), tile.lanes);
      for (int v = 0; v < tile.vectors; ++v) {
        IrValue& sum = into[copy * copy_size + r * tile.vectors + v];
        sum = EmitDot(b, dot, a, vectors[v], sum);
      }
    }
  };
  const int unroll = s.unroll;
  const int64_t units = dot.units(depth), whole = depth / dot.unit();
  const int64_t trips = units <= kMaxStraightUnits ? 0 : whole / unroll * unroll;
  if (trips > 0) {
    sums = b.For("depth", b.I64(0), b.I64(trips), unroll, sums, [&](IrValue unit, const IrValues& carried) {
      IrValues next = carried;
      for (int u = 0; u < unroll; ++u) {
        IrValue number = ir.CreateAdd(unit, b.I64(u), "", true, true);
        IrValue at = ir.CreateMul(number, b.I64(dot.unit()), "", true, true);
        step(number, at, dot.unit(), u % s.sums_per_element, next);
      }
      return next;
    });
  }
  for (int64_t k = trips; k < units; ++k) {
    step(b.I64(k), b.I64(dot.UnitStart(k, depth)), dot.UnitCount(k, depth), static_cast<int>(k % s.sums_per_element),
         sums);
  }
  return sums;
}

namespace {

class NestEmitter {
 public:
  NestEmitter(KernelBuilder& b, const ContractionSchedule& schedule, const TileEpilogue& epilogue, int first_arg,
              const ContractionBody& body)
      : b_(b), s_(schedule), epilogue_(epilogue), first_arg_(first_arg), body_(body) {}

  void Emit() {
    b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) { EmitTask(task); });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }

  IrValue Multiple(IrValue x, int64_t by, IrValue plus = nullptr) {
    IrValue product = ir().CreateMul(x, b_.I64(by), "", true, true);
    return plus == nullptr ? product : ir().CreateAdd(product, plus, "", true, true);
  }

  // Splits `value` into quotient and remainder; a divisor of 1 or a dividend known to be smaller costs nothing.
  std::pair<IrValue, IrValue> Divide(IrValue value, int64_t by) {
    if (by == 1) return {value, b_.I64(0)};
    return {ir().CreateUDiv(value, b_.I64(by)), ir().CreateURem(value, b_.I64(by))};
  }

  // task -> group, block of row tiles, panel, row tile, in this order from the slowest.
  void EmitTask(IrValue task) {
    const int64_t panels = s_.panels();
    ContractionTile site;
    site.lanes = s_.lanes;
    site.group = b_.I64(0);
    if (s_.shape.groups > 1) std::tie(site.group, task) = Divide(task, panels * s_.tiles);
    IrValue tile = nullptr;
    if (panels == 1) {
      site.panel = b_.I64(0);
      tile = task;
    } else if (s_.block_tiles == s_.tiles) {
      std::tie(site.panel, tile) = Divide(task, s_.tiles);
    } else {
      auto [block, rest] = Divide(task, panels * s_.block_tiles);
      IrValue first = Multiple(block, s_.block_tiles);
      IrValue left = ir().CreateSub(b_.I64(s_.tiles), first);
      IrValue height =
          ir().CreateSelect(ir().CreateICmpSLT(left, b_.I64(s_.block_tiles)), left, b_.I64(s_.block_tiles));
      site.panel = ir().CreateUDiv(rest, height);
      tile = ir().CreateAdd(ir().CreateURem(rest, height), first, "", true, true);
    }
    // Tiles from full_tiles on have one row less.
    IrValue row = Multiple(tile, s_.tile_rows);
    IrValue is_full = nullptr;
    if (s_.full_tiles < s_.tiles) {
      is_full = ir().CreateICmpSLT(tile, b_.I64(s_.full_tiles));
      IrValue lower = Multiple(tile, s_.tile_rows - 1, b_.I64(s_.full_tiles));
      row = ir().CreateSelect(is_full, row, lower);
    }
    site.row = row;
    site.column = Multiple(site.panel, s_.width());
    // Places in C.
    row_ = site.row;
    column_ = site.column;
    if (s_.shape.groups_along_columns) {
      column_ = Multiple(site.group, s_.shape.columns, column_);
    } else if (s_.shape.groups > 1) {
      row_ = Multiple(site.group, s_.shape.rows, row_);
    }
    EmitColumns(site, is_full);
  }

  // The last panel may be narrower than the others.
  void EmitColumns(const ContractionTile& site, IrValue is_full) {
    const int64_t last = s_.shape.columns - (s_.panels() - 1) * s_.width();
    const auto last_panel = [&] {
      ContractionTile narrow = site;
      narrow.vectors = static_cast<int>(DivideUp(last, s_.lanes));
      if (last % s_.lanes != 0) narrow.mask = b_.MaskBelow(b_.I64(last % s_.lanes), s_.lanes);
      EmitRows(narrow, is_full);
    };
    if (s_.panels() == 1) return last_panel();
    ContractionTile whole = site;
    whole.vectors = s_.vectors;
    if (last == s_.width()) return EmitRows(whole, is_full);
    b_.IfElse(
        "last_panel", ir().CreateICmpEQ(site.panel, b_.I64(s_.panels() - 1)),
        [&] {
          last_panel();
          return IrValues();
        },
        [&] {
          EmitRows(whole, is_full);
          return IrValues();
        });
  }

  void EmitRows(ContractionTile tile, IrValue is_full) {
    const auto with_rows = [&](int rows) {
      tile.rows = rows;
      EmitSums(tile);
      return IrValues();
    };
    if (is_full == nullptr) {
      with_rows(s_.tile_rows);
    } else {
      b_.IfElse("rows", is_full, [&] { return with_rows(s_.tile_rows); }, [&] { return with_rows(s_.tile_rows - 1); });
    }
    if (!s_.rolled_epilogue) return;
    IrValue rows = b_.I64(s_.tile_rows);
    if (is_full != nullptr) rows = ir().CreateSelect(is_full, rows, b_.I64(s_.tile_rows - 1));
    // A function of its own: the constants of a long body would push sums out of the registers.
    b_.Outline("finish", {row_, column_, rows},
               [&](const IrValues& at) { EmitRolledEpilogue(tile, at[0], at[1], at[2]); });
  }

  // The sums of one tile, and, unless the epilogue is rolled, its results.
  void EmitSums(const ContractionTile& tile) {
    const int count = tile.rows * tile.vectors;
    const DType type = s_.shape.sum();
    EpilogueEmitter finish(b_, epilogue_, first_arg_);
    IrValues columns;
    for (int v = 0; v < tile.vectors; ++v)
      columns.push_back(ir().CreateAdd(column_, b_.I64(int64_t{v} * s_.lanes), "", true, true));
    IrValues sums(count * s_.sums_per_element, b_.Zero(type, s_.lanes));
    for (int v = 0; v < tile.vectors; ++v) {
      IrValue start = finish.Start(type, s_.lanes, columns[v], v + 1 == tile.vectors ? tile.mask : nullptr);
      for (int r = 0; r < tile.rows; ++r) sums[r * tile.vectors + v] = start;
    }
    sums = body_(tile, sums);
    // Independent sums join in pairs.
    for (int copies = s_.sums_per_element; copies > 1;) {
      const int half = (copies + 1) / 2;
      for (int k = half * count; k < copies * count; ++k) {
        IrValue& sum = sums[k - half * count];
        sum = IsFloat(type) ? ir().CreateFAdd(sum, sums[k]) : ir().CreateAdd(sum, sums[k]);
      }
      copies = half;
    }
    for (int r = 0; r < tile.rows; ++r) {
      IrValue row = ir().CreateAdd(row_, b_.I64(r), "", true, true);
      for (int v = 0; v < tile.vectors; ++v) {
        IrValue sum = sums[r * tile.vectors + v];
        if (s_.rolled_epilogue) {
          b_.Store(b_.scratch(), b_.I64((r * s_.vectors + v) * int64_t{s_.lanes}), type, sum);
        } else {
          finish.Store(sum, row, columns[v], v + 1 == tile.vectors ? tile.mask : nullptr);
        }
      }
    }
  }

  // for r: for v: epilogue of scratch[r][v]. The last vector of a narrow panel is written after the loop.
  void EmitRolledEpilogue(const ContractionTile& tile, IrValue first_row, IrValue first_column, IrValue rows) {
    b_.For("finish_row", b_.I64(0), rows, 1, [&](IrValue r) {
      IrValue row = ir().CreateAdd(first_row, r, "", true, true);
      const auto finish_vector = [&](IrValue v, IrValue mask) {
        IrValue at = ir().CreateAdd(Multiple(r, s_.vectors), v, "", true, true);
        IrValue sum = b_.Load(b_.scratch(), Multiple(at, s_.lanes), s_.shape.sum(), s_.lanes);
        EpilogueEmitter finish(b_, epilogue_, first_arg_);
        finish.Store(sum, row, Multiple(v, s_.lanes, first_column), mask);
      };
      const int whole = tile.mask == nullptr ? tile.vectors : tile.vectors - 1;
      if (whole > 0)
        b_.For("finish_vector", b_.I64(0), b_.I64(whole), 1, [&](IrValue v) { finish_vector(v, nullptr); });
      if (tile.mask != nullptr) finish_vector(b_.I64(whole), tile.mask);
    });
  }

  KernelBuilder& b_;
  const ContractionSchedule& s_;
  const TileEpilogue& epilogue_;
  const int first_arg_;
  const ContractionBody& body_;
  IrValue row_ = nullptr, column_ = nullptr;  // the tile's first place in C
};

}  // namespace

void EmitContraction(KernelBuilder& b, const ContractionSchedule& schedule, const TileEpilogue& epilogue,
                     int first_epilogue_arg, const ContractionBody& body) {
  NestEmitter(b, schedule, epilogue, first_epilogue_arg, body).Emit();
}

}  // namespace tessera
