#include "codegen/emit/host/sparse_tiles.h"

#include <algorithm>
#include <map>
#include <span>

#include "codegen/cost_model.h"
#include "codegen/emit/host/sparse_schedule.h"
#include "codegen/emit/int8_dot.h"

namespace tessera {
namespace {

// Columns of one trip of the loop.
constexpr int kUnroll = 2;

int PanelVectors(const Target& target) { return kPanelLanes / std::min(kPanelLanes, target.Lanes(32)); }

// What the kernel reads of a tile: where its columns begin and end, its weights and its rows, as indices of the
// arrays that hold them for all tiles.
constexpr int64_t kTileFields = 4;

struct TileArrays {
  std::vector<int64_t> heights;  // that occur, ascending
  // Tiles of block b and height h are first[b * heights + h] up to the next; one more at the end.
  std::vector<int64_t> first;
  std::vector<int64_t> tiles;  // kTileFields each
  std::vector<int32_t> columns, rows;
  std::vector<uint32_t> weights;
};

TileArrays LayOut(const std::vector<SparseTile>& tiles, const SparseProblem& problem, const SparseShare& share,
                  const ScatteredBlocks& blocks, bool adds, const Tensor& constant) {
  TileArrays a;
  const auto counts = [&](const SparseTile& tile) { return !adds || !tile.columns.empty(); };
  for (const SparseTile& tile : tiles) {
    if (counts(tile)) a.heights.push_back(static_cast<int64_t>(tile.rows.size()));
  }
  std::sort(a.heights.begin(), a.heights.end());
  a.heights.erase(std::unique(a.heights.begin(), a.heights.end()), a.heights.end());
  const UnitReader weight(problem, share, constant);
  auto tile = tiles.begin();
  for (int64_t block = 0; block < blocks.blocks(); ++block) {
    while (tile != tiles.end() && tile->block < block) ++tile;  // of no columns, higher than all that count
    for (int64_t height : a.heights) {
      a.first.push_back(static_cast<int64_t>(a.tiles.size()) / kTileFields);
      for (; tile != tiles.end() && tile->block == block && static_cast<int64_t>(tile->rows.size()) <= height; ++tile) {
        if (!counts(*tile)) continue;
        const auto column = static_cast<int64_t>(a.columns.size());
        a.tiles.insert(a.tiles.end(), {column, column + static_cast<int64_t>(tile->columns.size()),
                                       static_cast<int64_t>(a.weights.size()), static_cast<int64_t>(a.rows.size())});
        a.rows.insert(a.rows.end(), tile->rows.begin(), tile->rows.end());
        for (int32_t unit : tile->columns) {
          a.columns.push_back(unit * kPanelLanes);
          for (int32_t row : tile->rows) a.weights.push_back(weight(blocks.first_row(block) + row, unit));
        }
      }
    }
  }
  a.first.push_back(static_cast<int64_t>(a.tiles.size()) / kTileFields);
  return a;
}

template <typename T>
int AddConstant(PlanBuilder& builder, const std::string& name, DType type, const std::vector<T>& values) {
  // Never empty: a buffer has an address.
  Tensor tensor(type, Shape({std::max<int64_t>(1, static_cast<int64_t>(values.size()))}));
  std::copy(values.begin(), values.end(), tensor.mutable_data<T>().begin());
  return builder.Constant(name, std::move(tensor));
}

class TilesEmitter {
 public:
  TilesEmitter(KernelBuilder& b, SparseUnit unit, const SparseSite& site)
      : b_(b),
        unit_(unit),
        type_(SumsOf(unit)),
        site_(site),
        vectors_(PanelVectors(b.target())),
        lanes_(kPanelLanes / vectors_) {}

  // Arguments: first, tiles, columns, rows, weights.
  void Emit(const std::vector<int64_t>& heights) {
    const auto count = static_cast<int64_t>(heights.size());
    for (int64_t h = 0; h < count; ++h) {
      IrValue at = Plus(Times(site_.block, count), b_.I64(h));
      IrValue begin = b_.Load(Arg(0), at, DType::kI64, 1), end = b_.Load(Arg(0), Plus(at, b_.I64(1)), DType::kI64, 1);
      b_.For(internal::Join("tiles_of_", heights[h]), begin, end, 1,
             [&](IrValue tile) { EmitTile(tile, static_cast<int>(heights[h])); });
    }
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Arg(int k) { return b_.arg(site_.first_arg + k); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue Int32At(IrValue array, IrValue index) {
    return ir().CreateSExt(b_.Load(array, index, DType::kI32, 1), ir().getInt64Ty());
  }

  void EmitTile(IrValue tile, int height) {
    IrValue fields[kTileFields];
    for (int64_t f = 0; f < kTileFields; ++f) {
      fields[f] = b_.Load(Arg(1), Plus(Times(tile, kTileFields), b_.I64(f)), DType::kI64, 1);
    }
    const auto [begin, end, weights, rows] = std::tie(fields[0], fields[1], fields[2], fields[3]);
    IrValues sums;
    for (int r = 0; r < height; ++r) {
      for (int v = 0; v < vectors_; ++v) {
        sums.push_back(site_.adds ? b_.Load(site_.sums, SumAt(rows, r, v), type_, lanes_) : b_.Zero(type_, lanes_));
      }
    }
    // The weights move along: they are the last of the carried values.
    sums.push_back(b_.ElementPointer(Arg(4), weights, DType::kU32));
    const auto step = [&](IrValue column, IrValues& carried) {
      IrValue& w = carried.back();
      IrValue at = Int32At(Arg(2), column);
      IrValues x;
      for (int v = 0; v < vectors_; ++v) {
        x.push_back(b_.Load(site_.panel, Plus(at, b_.I64(int64_t{v} * lanes_)), type_, lanes_));
      }
      for (int r = 0; r < height; ++r) {
        IrValue weight = b_.Splat(b_.Load(w, b_.I64(r), type_, 1), lanes_);
        for (int v = 0; v < vectors_; ++v) MultiplyAdd(carried[r * vectors_ + v], x[v], weight);
      }
      w = b_.ElementPointer(w, b_.I64(height), DType::kU32);
    };
    IrValue whole = ir().CreateSub(end, ir().CreateURem(ir().CreateSub(end, begin), b_.I64(kUnroll)));
    sums = b_.For("columns", begin, whole, kUnroll, sums, [&](IrValue k, const IrValues& carried) {
      IrValues next = carried;
      for (int u = 0; u < kUnroll; ++u) step(Plus(k, b_.I64(u)), next);
      return next;
    });
    sums = b_.For("column", whole, end, 1, sums, [&](IrValue k, const IrValues& carried) {
      IrValues next = carried;
      step(k, next);
      return next;
    });
    for (int r = 0; r < height; ++r) {
      for (int v = 0; v < vectors_; ++v) b_.Store(site_.sums, SumAt(rows, r, v), type_, sums[r * vectors_ + v]);
    }
  }

  // Element of the sums where vector v of the tile's row r begins.
  IrValue SumAt(IrValue rows, int r, int v) {
    return Plus(Times(Int32At(Arg(3), Plus(rows, b_.I64(r))), kPanelLanes), b_.I64(int64_t{v} * lanes_));
  }

  void MultiplyAdd(IrValue& sum, IrValue x, IrValue w) {
    switch (unit_) {
      case SparseUnit::kF32: sum = b_.Fma(x, w, sum); return;
      case SparseUnit::kInt8x4: sum = EmitDotBytes(b_, sum, x, w); return;
      case SparseUnit::kInt16x2: sum = EmitDotPairs(b_, sum, x, w); return;
    }
  }

  KernelBuilder& b_;
  const SparseUnit unit_;
  const DType type_;
  const SparseSite& site_;
  const int vectors_, lanes_;
};

}  // namespace

std::vector<SparseTile> CutTiles(const ScatteredPattern& pattern, const ScatteredBlocks& blocks, int max_rows) {
  std::vector<SparseTile> tiles;
  for (int64_t block = 0; block < blocks.blocks(); ++block) {
    std::map<std::vector<int32_t>, std::vector<int32_t>> rows_of;  // by their columns
    for (int64_t r = 0; r < blocks.rows_of(block); ++r) {
      const int64_t row = blocks.first_row(block) + r;
      rows_of[std::vector<int32_t>(pattern.columns.begin() + pattern.begin[row],
                                   pattern.columns.begin() + pattern.begin[row + 1])]
          .push_back(static_cast<int32_t>(r));
    }
    const auto first = static_cast<std::ptrdiff_t>(tiles.size());
    for (const auto& [columns, rows] : rows_of) {
      const auto count = static_cast<int64_t>(rows.size()), pieces = (count + max_rows - 1) / max_rows;
      for (int64_t p = 0; p < pieces; ++p) {
        tiles.push_back(
            {.block = block,
             .rows = std::vector<int32_t>(rows.begin() + count * p / pieces, rows.begin() + count * (p + 1) / pieces),
             .columns = columns});
      }
    }
    // By height; of those in the order of their rows, so that neighbours use the same part of the panel.
    std::sort(tiles.begin() + first, tiles.end(), [](const SparseTile& a, const SparseTile& b) {
      if (a.rows.size() != b.rows.size()) return a.rows.size() < b.rows.size();
      return a.rows < b.rows;
    });
  }
  return tiles;
}

int MaxTileRows(const SparseProblem& problem, const Target& target) {
  const int vectors = PanelVectors(target);
  // A product of integers without vpdpbusd, or of floats without a fused multiply-add, waits for its addition.
  const int waiting = problem.unit == SparseUnit::kInt16x2 || !target.has_fma ? 1 : 0;
  // Half of the registers where there are 32: blocks are 8, 16, 32 rows high, and 16 multiply-adds hide the rest.
  if (target.vector_registers >= 32 && vectors == 1) return 16;
  const int rows = (target.vector_registers - vectors - 1 - waiting) / vectors;
  return std::max(1, rows >= 4 ? 4 : rows);
}

double TilesCoreNanoseconds(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule,
                            const Target& target) {
  const MachineModel machine(target);
  const int vectors = PanelVectors(target);
  const double unit_ns = problem.unit == SparseUnit::kInt16x2 ? machine.fma_ns + 0.5 * machine.op_ns : machine.fma_ns;
  const double miss = PanelMissShare(problem, target);
  double ns = 0;
  for (const SparseTile& tile : CutTiles(*share.pattern, schedule.blocks, MaxTileRows(problem, target))) {
    const auto rows = static_cast<double>(tile.rows.size()), columns = static_cast<double>(tile.columns.size());
    // A multiply-add's result is there after four cycles, and so a low tile waits for its own.
    const double fma = std::max(rows * vectors * unit_ns, 4 * MachineModel::kCycle);
    const double load = vectors * machine.load_ns + (rows + 1) * machine.broadcast_ns;
    const double transfer = miss * 64 / machine.l2_bytes_per_ns;
    const double slowest = std::max({fma, load, transfer});
    ns += columns * (slowest + 0.06 * (fma + load + transfer - slowest)) +
          (20 + 2.2 * rows * vectors) * MachineModel::kCycle;
  }
  return ns * static_cast<double>(problem.panels());
}

SparsePart TilesPart(const SparseProblem& problem, const SparseShare& share, const SparseSchedule& schedule, bool adds,
                     PlanBuilder& builder) {
  const Value& value = builder.graph()[problem.weights];
  const std::vector<SparseTile> tiles =
      CutTiles(*share.pattern, schedule.blocks, MaxTileRows(problem, builder.target()));
  const TileArrays arrays = LayOut(tiles, problem, share, schedule.blocks, adds, value.constant);
  SparsePart part;
  part.key = "tiles of";
  for (int64_t height : arrays.heights) part.key += internal::Join(" ", height);
  part.constants = {AddConstant(builder, value.name + ".first", DType::kI64, arrays.first),
                    AddConstant(builder, value.name + ".tiles", DType::kI64, arrays.tiles),
                    AddConstant(builder, value.name + ".columns", DType::kI32, arrays.columns),
                    AddConstant(builder, value.name + ".rows", DType::kI32, arrays.rows),
                    AddConstant(builder, value.name + ".weights", DType::kU32, arrays.weights)};
  part.flops = 2.0 * static_cast<double>(share.kept->Count());
  part.core = [heights = arrays.heights, unit = problem.unit, adds](KernelBuilder& b, const SparseSite& site) {
    TES_CHECK(site.adds == adds, adds);
    TilesEmitter(b, unit, site).Emit(heights);
  };
  return part;
}

}  // namespace tessera
