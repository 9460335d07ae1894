#include "codegen/emit/gpu/scattered_parts.h"

#include <algorithm>

#include "base/round.h"
#include "codegen/emit/gpu/mask_stream.h"

namespace tessera {
namespace {

constexpr int kWarp = 32;
constexpr int kPieceColumns = 4, kRowBytes = kMaskColumns * 4;
constexpr int kTileDepth = 16;  // of the panel's depth, that a warp writes at once

}  // namespace

IrValue ScatteredParts::MultiplyAdd(IrValue x, IrValue weight, IrValue sum) {
  if (floats()) return ir().CreateIntrinsic(llvm::Intrinsic::fma, {sum->getType()}, {weight, x, sum});
  return DeviceOp(b_, s_.x == DType::kU8 ? "gpu.dot4.u8.s8" : "gpu.dot4.s8.s8", {x, weight, sum});
}

// ---- The panel.

void ScatteredParts::LoadPanel(IrValue depth) {
  b_.If("zeros", ir().CreateICmpEQ(warp_, I32(0)), [&] {
    IrValue to = At(panel_, ir().CreateMul(ir().CreateAdd(I32((s_.panel_rows() - 1) * kMaskColumns), lane_), I32(4)));
    ir().CreateAlignedStore(b_.Zero(s_.sum(), 1), to, llvm::Align(4));
  });
  if (s_.by_columns) {
    LoadColumns(depth);
  } else {
    LoadRows(depth);
  }
}

// Where element (row k, column) of the panel is, in bytes: k / 4 turns the pieces.
IrValue ScatteredParts::PanelByte(IrValue k, IrValue piece, IrValue in_piece) {
  IrValue turn = ir().CreateAnd(ir().CreateLShr(k, I32(2)), I32(3));
  IrValue byte =
      ir().CreateAdd(ir().CreateMul(k, I32(kRowBytes)), ir().CreateMul(ir().CreateXor(piece, turn), I32(16)));
  return in_piece == nullptr ? byte : ir().CreateAdd(byte, ir().CreateMul(in_piece, I32(4)));
}

// X lies column by column. A warp reads 16 units of 8 columns: lanes 4 i to 4 i + 3 of one column, which differ in
// the turn, and eight columns, four of one piece and four of the piece four on. All banks are met.
void ScatteredParts::LoadColumns(IrValue depth) {
  constexpr int kUnits = 4, kTiles = kMaskColumns / 8;  // of a lane; of 8 columns
  IrValue in_tile = ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(kUnits));
  IrValue in_piece = ir().CreateAnd(ir().CreateLShr(lane_, I32(2)), I32(3));
  IrValue upper = ir().CreateLShr(lane_, I32(4));
  const int64_t tiles = DivideUp(s_.chunk, kTileDepth);
  const int64_t of_warp = DivideUp(tiles, s_.warps);
  const int64_t at_once = std::min<int64_t>(of_warp, s_.chunks() == 1 ? 4 : 1);  // beside sums there is less room
  b_.For("tile", b_.I64(0), b_.I64(of_warp), at_once, [&](IrValue number) {
    struct Held {
      IrValue k, piece;
      IrValues units;
    };
    std::vector<Held> held;
    for (int64_t u = 0; u < at_once; ++u) {
      IrValue tile = ir().CreateAdd(ir().CreateTrunc(number, ir().getInt32Ty()), I32(u));
      tile = ir().CreateAdd(ir().CreateMul(tile, I32(s_.warps)), warp_);
      IrValue k = ir().CreateAdd(ir().CreateMul(tile, I32(kTileDepth)), in_tile);
      for (int t = 0; t < kTiles; ++t) {
        IrValue piece = ir().CreateAdd(I32(t), ir().CreateMul(upper, I32(4)));
        IrValue column = ir().CreateAdd(ir().CreateMul(piece, I32(kPieceColumns)), in_piece);
        column = Clamp(ir().CreateAdd(first_column_, column), s_.columns);
        held.push_back({k, piece, LoadUnits(column, ir().CreateAdd(depth, k), kUnits)});
      }
    }
    for (const Held& h : held) {
      // Tiles behind the chunk have no place.
      b_.If("inside", ir().CreateICmpULT(h.k, I32(s_.panel_rows() - 1)), [&] {
        for (int j = 0; j < kUnits; ++j) {
          IrValue to = At(panel_, PanelByte(ir().CreateAdd(h.k, I32(j)), h.piece, in_piece));
          ir().CreateAlignedStore(h.units[static_cast<size_t>(j)], to, llvm::Align(4));
        }
      });
    }
  });
}

IrValue ScatteredParts::Clamp(IrValue number, int64_t count) {
  return ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, number, I32(count - 1));
}

// Units k to k + count - 1 of a column; what lies behind its end is anything.
IrValues ScatteredParts::LoadUnits(IrValue column, IrValue k, int count) {
  llvm::Type* i64 = ir().getInt64Ty();
  IrValues result;
  IrValue line = ir().CreateMul(ir().CreateZExt(column, i64), b_.I64(s_.elements));
  const int elements = ElementsOf(s_.unit);
  for (int j = 0; j < count; j += s_.x_vector) {
    // Vectors divide the depth: they are inside or not.
    IrValue unit = Clamp(ir().CreateAdd(k, I32(j)), s_.depth);
    if (s_.x_vector > 1) unit = ir().CreateAnd(unit, I32(-s_.x_vector));
    if (floats()) {
      b_.AssumeAligned(true);
      IrValue loaded = b_.Load(b_.arg(0), ir().CreateAdd(line, ir().CreateZExt(unit, i64)), s_.x, s_.x_vector);
      b_.AssumeAligned(false);
      if (s_.x_vector == 1) result.push_back(loaded);
      for (int v = 0; v < s_.x_vector && s_.x_vector > 1; ++v) result.push_back(ir().CreateExtractElement(loaded, v));
      continue;
    }
    IrValue byte = ir().CreateAdd(line, ir().CreateMul(ir().CreateZExt(unit, i64), b_.I64(elements)));
    if (s_.whole_units) {
      llvm::Type* words = s_.x_vector == 1 ? ir().getInt32Ty()
                                           : static_cast<llvm::Type*>(llvm::FixedVectorType::get(
                                                 ir().getInt32Ty(), static_cast<unsigned>(s_.x_vector)));
      IrValue loaded =
          ir().CreateAlignedLoad(words, At(b_.arg(0), byte), llvm::Align(static_cast<uint64_t>(4 * s_.x_vector)));
      if (s_.x_vector == 1) result.push_back(loaded);
      for (int v = 0; v < s_.x_vector && s_.x_vector > 1; ++v) result.push_back(ir().CreateExtractElement(loaded, v));
      continue;
    }
    // A column may begin anywhere: byte by byte. The weights of bytes behind the last one are zero.
    IrValue word = I32(0), last = ir().CreateAdd(line, b_.I64(s_.elements - 1));
    for (int e = 0; e < elements; ++e) {
      IrValue at = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, ir().CreateAdd(byte, b_.I64(e)), last);
      IrValue loaded = ir().CreateAlignedLoad(ir().getInt8Ty(), At(b_.arg(0), at), llvm::Align(1));
      word = ir().CreateOr(word, ir().CreateShl(ir().CreateZExt(loaded, ir().getInt32Ty()), I32(8 * e)));
    }
    result.push_back(word);
  }
  return result;
}

// X lies row by row; f32 and halves. A warp reads 32 columns of as many rows as vectors have elements.
void ScatteredParts::LoadRows(IrValue depth) {
  const int vector = s_.x_vector, lanes = kMaskColumns / vector, rows = kWarp / lanes;
  constexpr int kAtOnce = 8;
  IrValue in_rows = ir().CreateUDiv(lane_, I32(lanes));
  IrValue first = ir().CreateMul(ir().CreateURem(lane_, I32(lanes)), I32(vector));
  const int64_t of_warp = DivideUp(DivideUp(s_.chunk, rows), s_.warps);
  llvm::Type* i64 = ir().getInt64Ty();
  b_.For("rows", b_.I64(0), b_.I64(of_warp), kAtOnce, [&](IrValue number) {
    std::vector<std::pair<IrValue, IrValue>> held;
    for (int u = 0; u < kAtOnce; ++u) {
      IrValue at = ir().CreateAdd(ir().CreateTrunc(number, ir().getInt32Ty()), I32(u));
      at = ir().CreateAdd(ir().CreateMul(at, I32(s_.warps)), warp_);
      IrValue k = ir().CreateAdd(ir().CreateMul(at, I32(rows)), in_rows);
      IrValue row = Clamp(ir().CreateAdd(depth, k), s_.depth);
      IrValue column = Clamp(ir().CreateAdd(first_column_, first), s_.columns);
      if (vector > 1) column = ir().CreateAnd(column, I32(-vector));
      IrValue element =
          ir().CreateAdd(ir().CreateMul(ir().CreateZExt(row, i64), b_.I64(s_.columns)), ir().CreateZExt(column, i64));
      b_.AssumeAligned(true);
      held.emplace_back(k, b_.Load(b_.arg(0), element, s_.x, vector));
      b_.AssumeAligned(false);
    }
    for (const auto& [k, value] : held) {
      b_.If("inside", ir().CreateICmpULT(k, I32(s_.panel_rows() - 1)), [&, k = k, value = value] {
        IrValue piece = ir().CreateUDiv(first, I32(kPieceColumns));
        IrValue in_piece = vector == 1 ? ir().CreateURem(first, I32(kPieceColumns)) : nullptr;
        ir().CreateAlignedStore(value, At(panel_, PanelByte(k, piece, in_piece)),
                                llvm::Align(static_cast<uint64_t>(4 * vector)));
      });
    }
  });
}

void ScatteredParts::StoreSeveral(IrValue line, int64_t lines, IrValue along, int64_t length, const IrValues& values,
                                  int most) {
  const int vector = std::min(static_cast<int>(values.size()), most);
  llvm::Type* i64 = ir().getInt64Ty();
  for (int v = 0; v < static_cast<int>(values.size()); v += vector) {
    IrValue at = ir().CreateAdd(along, I32(v));
    IrValue there = ir().CreateAnd(ir().CreateICmpULT(line, I32(lines)), ir().CreateICmpULT(at, I32(length)));
    b_.If("inside", there, [&] {
      b_.AssumeAligned(vector > 1);
      IrValue value = values[static_cast<size_t>(v)];
      if (vector > 1) {
        value = llvm::PoisonValue::get(llvm::FixedVectorType::get(SumType(), static_cast<unsigned>(vector)));
        for (int k = 0; k < vector; ++k)
          value = ir().CreateInsertElement(value, values[static_cast<size_t>(v + k)], static_cast<uint64_t>(k));
      }
      IrValue line64 = ir().CreateZExt(line, i64), at64 = ir().CreateZExt(at, i64);
      if (s_.adds) {
        IrValue element = ir().CreateAdd(ir().CreateMul(line64, b_.I64(length)), at64);
        value = Plus(value, b_.Load(b_.arg(3), element, s_.sum(), vector));
      }
      EpilogueEmitter(b_, epilogue_, s_.adds ? 4 : 3).Store(value, line64, at64);
      b_.AssumeAligned(false);
    });
  }
}

}  // namespace tessera
