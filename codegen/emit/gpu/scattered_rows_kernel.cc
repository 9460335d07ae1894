// GpuScattered::by_row: a lane group has a row of W and 32 columns of X, a lane eight of them in two pieces.
#include <algorithm>

#include "base/round.h"
#include "codegen/emit/gpu/mask_stream.h"
#include "codegen/emit/gpu/row_stream.h"
#include "codegen/emit/gpu/scattered_parts.h"

namespace tessera {
namespace {

constexpr int kWarp = 32, kLaneColumns = 8, kPieceColumns = 4, kGroupLanes = kWarp / kRowSet;
constexpr int kRowBytes = kMaskColumns * 4;

class RowsEmitter : public ScatteredParts {
 public:
  using ScatteredParts::ScatteredParts;

  void Emit() {
    panel_ = b_.Shared(s_.shared_bytes(), 1024);
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    warp_ = ir().CreateUDiv(thread, I32(kWarp), "warp");
    lane_group_ = ir().CreateUDiv(lane_, I32(kGroupLanes), "lane_group");
    // Lane c has pieces c and c + 4 of a row; groups of odd number take the second first, so that two of them meet all
    // banks.
    IrValue odd = ir().CreateAnd(lane_group_, I32(1));
    piece_ = ir().CreateXor(ir().CreateURem(lane_, I32(kGroupLanes)), ir().CreateMul(odd, I32(kGroupLanes)));
    piece_ = ir().CreateMul(piece_, I32(kPieceColumns * 4), "piece");
    first_column_ = ir().CreateMul(ir().CreateURem(b_.BlockId(0), I32(s_.panels())), I32(kMaskColumns), "first_column");
    row_block_ = ir().CreateUDiv(b_.BlockId(0), I32(s_.panels()), "row_block");
    unit_ = ir().CreateAdd(ir().CreateMul(row_block_, I32(s_.warps)), warp_, "unit");
    first_ = ir().CreateMul(unit_, I32(s_.chunks() * s_.groups), "first");

    // The weights do not depend on the steps before.
    IrValues state(static_cast<size_t>(s_.groups * kLaneColumns), b_.Zero(s_.sum(), 1));
    IrValue trip = LoadNumber(first_);
    state.push_back(trip);
    for (IrValue entries : LoadTrip(trip)) state.push_back(entries);
    b_.AwaitSteps();
    if (s_.chunks() == 1) {
      LoadPanel(I32(0));
      b_.Barrier();
      state = Chunk(I32(0), state);
    } else {
      state = b_.For("chunk", b_.I64(0), b_.I64(s_.chunks()), 1, state, [&](IrValue number, const IrValues& now) {
        IrValue chunk = ir().CreateTrunc(number, ir().getInt32Ty());
        b_.Barrier();  // all have read the chunk before
        LoadPanel(ir().CreateMul(chunk, I32(s_.chunk)));
        b_.Barrier();
        return Chunk(chunk, now);
      });
    }
    if (s_.by_columns) {
      FinishColumns(state);
    } else {
      FinishRows(state);
    }
  }

 private:
  IrValue LoadNumber(IrValue number) {
    return b_.Load(b_.arg(2), ir().CreateZExt(number, ir().getInt64Ty()), DType::kI32, 1);
  }

  // This lane group's places and weights of a trip.
  IrValues LoadTrip(IrValue trip) {
    llvm::Type* i64 = ir().getInt64Ty();
    IrValue word = ir().CreateMul(ir().CreateZExt(trip, i64), b_.I64(kRowTripBytes / 4));
    IrValue group = ir().CreateZExt(lane_group_, i64);
    IrValue weights =
        ir().CreateAdd(word, ir().CreateAdd(ir().CreateMul(group, b_.I64(kTripElements)), b_.I64(kRowSet)));
    b_.AssumeAligned(true);
    IrValues loaded = {b_.Load(b_.arg(1), ir().CreateAdd(word, group), DType::kU32, 1),
                       b_.Load(b_.arg(1), weights, DType::kU32, kTripElements)};
    b_.AssumeAligned(false);
    return loaded;
  }

  // The state is all sets' sums, the next trip and what it holds.
  IrValues Chunk(IrValue chunk, IrValues state) {
    for (int set = 0; set < s_.groups; ++set) {
      IrValue number = ir().CreateAdd(ir().CreateMul(chunk, I32(s_.groups)), I32(set + 1));
      IrValue end = LoadNumber(ir().CreateAdd(first_, number));
      const auto sums = state.begin() + set * kLaneColumns, next = state.begin() + s_.groups * kLaneColumns;
      IrValues carried(sums, sums + kLaneColumns);
      carried.insert(carried.end(), next, state.end());
      IrValue trips = ir().CreateZExt(ir().CreateSub(end, *next), ir().getInt64Ty());
      carried = b_.For("trip", b_.I64(0), trips, 1, carried, [&](IrValue, const IrValues& now) { return Trip(now); });
      std::copy(carried.begin(), carried.begin() + kLaneColumns, sums);
      std::copy(carried.begin() + kLaneColumns, carried.end(), next);
    }
    return state;
  }

  IrValues Trip(IrValues now) {
    llvm::Type* four = llvm::FixedVectorType::get(SumType(), kPieceColumns);
    IrValue following = ir().CreateAdd(now[kLaneColumns], I32(1));
    const IrValues entries = LoadTrip(following);
    for (int e = 0; e < kTripElements; ++e) {
      IrValue places = now[kLaneColumns + 1], weights = now[kLaneColumns + 2];
      IrValue place = e == 0 ? ir().CreateAnd(places, I32(0xffff)) : ir().CreateLShr(places, I32(16));
      place = ir().CreateXor(ir().CreateMul(place, I32(kPlaceUnit)), piece_);
      IrValue weight = ir().CreateBitCast(ir().CreateExtractElement(weights, e), SumType());
      for (int half = 0; half < 2; ++half) {
        IrValue from = At(panel_, half == 0 ? place : ir().CreateXor(place, I32(kRowBytes / 2)));
        IrValue x = ir().CreateAlignedLoad(four, from, llvm::Align(16));
        for (int c = 0; c < kPieceColumns; ++c) {
          IrValue& sum = now[static_cast<size_t>(half * kPieceColumns + c)];
          sum = MultiplyAdd(ir().CreateExtractElement(x, c), weight, sum);
        }
      }
    }
    now[kLaneColumns] = following;
    std::copy(entries.begin(), entries.end(), now.begin() + kLaneColumns + 1);
    return now;
  }

  IrValue RowOf(int set) {
    IrValue slot = ir().CreateAdd(ir().CreateMul(unit_, I32(s_.groups)), I32(set));
    slot = ir().CreateAdd(ir().CreateMul(slot, I32(kRowSet)), lane_group_);
    return LoadNumber(ir().CreateAdd(slot, I32(s_.row_blocks() * s_.warps * s_.chunks() * s_.groups + 1)));
  }

  // Of the panel: the first of a lane's columns of each half.
  IrValue ColumnOf(int half) {
    IrValue byte = half == 0 ? piece_ : ir().CreateXor(piece_, I32(kRowBytes / 2));
    return ir().CreateUDiv(byte, I32(4));
  }

  void FinishRows(const IrValues& state) {
    for (int set = 0; set < s_.groups; ++set) {
      IrValue row = RowOf(set);
      for (int half = 0; half < 2; ++half) {
        const auto sums = state.begin() + set * kLaneColumns + half * kPieceColumns;
        StoreSeveral(row, s_.rows, ir().CreateAdd(first_column_, ColumnOf(half)), s_.columns,
                     IrValues(sums, sums + kPieceColumns), s_.y_vector);
      }
    }
  }

  // By way of shared memory, column by column, in the order of rows. Lines of an odd number of units meet all banks.
  void FinishColumns(const IrValues& state) {
    const int64_t rows = s_.block_rows(), pitch = rows + 1;
    IrValue first_row = ir().CreateMul(row_block_, I32(rows));
    const auto staged = [&](IrValue column, IrValue row) {
      return At(panel_, ir().CreateMul(ir().CreateAdd(ir().CreateMul(column, I32(pitch)), row), I32(4)));
    };
    b_.Barrier();  // the panel is read
    for (int set = 0; set < s_.groups; ++set) {
      IrValue row = RowOf(set);
      b_.If("row", ir().CreateICmpULT(row, I32(s_.rows)), [&] {
        row = ir().CreateSub(row, first_row);
        for (int c = 0; c < kLaneColumns; ++c) {
          IrValue column = ir().CreateAdd(ColumnOf(c / kPieceColumns), I32(c % kPieceColumns));
          ir().CreateAlignedStore(state[static_cast<size_t>(set * kLaneColumns + c)], staged(column, row),
                                  llvm::Align(4));
        }
      });
    }
    b_.Barrier();
    const int64_t across = rows / kWarp, passes = kMaskColumns * across / s_.warps;
    const int64_t at_once = std::min<int64_t>(passes, 4);
    b_.For("line", b_.I64(0), b_.I64(passes), at_once, [&](IrValue pass) {
      IrValues values, lines, alongs;
      for (int64_t u = 0; u < at_once; ++u) {
        IrValue number = ir().CreateAdd(ir().CreateTrunc(pass, ir().getInt32Ty()), I32(u));
        number = ir().CreateAdd(ir().CreateMul(number, I32(s_.warps)), warp_);
        IrValue column = ir().CreateUDiv(number, I32(across));
        IrValue row = ir().CreateAdd(ir().CreateMul(ir().CreateURem(number, I32(across)), I32(kWarp)), lane_);
        values.push_back(ir().CreateAlignedLoad(SumType(), staged(column, row), llvm::Align(4)));
        lines.push_back(ir().CreateAdd(first_column_, column));
        alongs.push_back(ir().CreateAdd(first_row, row));
      }
      for (size_t u = 0; u < values.size(); ++u) {
        StoreSeveral(lines[u], s_.columns, alongs[u], s_.rows, {values[u]}, 1);
      }
    });
  }

  IrValue lane_group_ = nullptr, piece_ = nullptr, row_block_ = nullptr, unit_ = nullptr, first_ = nullptr;
};

}  // namespace

void EmitScatteredRows(KernelBuilder& b, const GpuScattered& scattered, const TileEpilogue& epilogue) {
  RowsEmitter(b, scattered, epilogue).Emit();
}

int64_t StagedBytes(const GpuScattered& s) { return kMaskColumns * (s.block_rows() + 1) * 4; }

}  // namespace tessera
