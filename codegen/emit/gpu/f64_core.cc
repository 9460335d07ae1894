#include "codegen/emit/gpu/f64_core.h"

#include <array>

#include "codegen/emit/gpu/matmul_core_base.h"
#include "codegen/targets/device_ops.h"

namespace tessera {
namespace {

class F64Core : public MatmulCoreBase {
 public:
  static constexpr int kEight = 8;   // rows or columns of a fragment's block
  static constexpr int kDepth = 4;   // of a step, a lane's
  static constexpr int kPieces = 4;  // of a step

  F64Core(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a, const TileOperand& bt)
      : MatmulCoreBase(b, tiling, a, bt),
        blocks_m_(tiling.warp_m() / kEight),
        blocks_n_(tiling.warp_n() / kEight),
        whole_(ChipHasDeviceOp("nv.mma.m16n8k16.f64", b.target())) {
    group_ = ir().CreateLShr(lane_, I32(2), "group");
    in_group_ = ir().CreateAnd(lane_, I32(3), "in_group");
  }

  IrValues Start() override {
    return IrValues(static_cast<size_t>(blocks_m_) * blocks_n_ * 2, b_.Zero(DType::kF64, 1));
  }
  int num_register_rows() const override { return blocks_m_ / 2; }
  int padding() const override { return 4; }

  IrValues Multiply(IrValue a, IrValue b, IrValues sums) override {
    const int steps = t_.tile_k_bytes / kF64StepBytes;
    for (int s = 0; s < PerSlice(steps); ++s) {
      IrValue step = Plus(ir().CreateMul(slice_, I32(PerSlice(steps))), s);
      const Places rows = PlacesOf(a_, warp_m_, t_.warp_m(), step), columns = PlacesOf(bt_, warp_n_, t_.warp_n(), step);
      std::vector<Four> left;
      for (int i = 0; i < blocks_m_; ++i) left.push_back(Load(a_, a, rows, i));
      // A block of columns is asked for while the one before it is multiplied.
      Four right = Load(bt_, b, columns, 0);
      for (int j = 0; j < blocks_n_; ++j) {
        const Four now = right;
        if (j + 1 < blocks_n_) right = Load(bt_, b, columns, j + 1);
        for (int i = 0; i < blocks_m_; i += 2) AddProduct(left[i], left[i + 1], now, &sums[SumsOf(i, j)]);
      }
    }
    return sums;
  }

  void Stage(const IrValues& sums, int first, int count, IrValue staging, int pitch, bool adds) override {
    for (int i = 0; i < 2 * count; ++i) {
      IrValue row = ir().CreateMul(Place(a_, warp_m_, 2 * count * kEight, group_, i), I32(pitch));
      for (int j = 0; j < blocks_n_; ++j) {
        for (int k = 0; k < 2; ++k) {
          IrValue column = Place(bt_, warp_n_, t_.warp_n(), Plus(ir().CreateMul(in_group_, I32(2)), k), j);
          IrValue address = ir().CreateGEP(ir().getFloatTy(), staging, ir().CreateAdd(row, column));
          IrValue sum = ir().CreateFPTrunc(sums[SumsOf(2 * first + i, j) + k], ir().getFloatTy());
          if (adds) {
            sum = ir().CreateFAdd(sum, ir().CreateAlignedLoad(ir().getFloatTy(), address, llvm::Align(4)));
          }
          ir().CreateAlignedStore(sum, address, llvm::Align(4));
        }
      }
    }
  }

 private:
  using Four = std::array<IrValue, kDepth>;

  // The first of two sums of rows of block `i` and columns of block `j`; of the block below come the two behind them.
  size_t SumsOf(int i, int j) const { return static_cast<size_t>(4 * (i / 2 * blocks_n_ + j) + 2 * (i % 2)); }

  // The row or column in the tile, of `of_warp` of each warp, that lane group `g` has in block `i`. Where the depth
  // runs along lines, blocks are eight neighbours; elsewhere each lane group has four neighbours, one in each of four
  // blocks.
  IrValue Place(const TileOperand& operand, IrValue warp, int of_warp, IrValue g, int i) {
    IrValue first = ir().CreateMul(warp, I32(of_warp));
    if (operand.depth_inner) return Plus(ir().CreateAdd(first, Turned(g)), int64_t{i} * kEight);
    return Plus(ir().CreateAdd(first, ir().CreateMul(g, I32(4))), int64_t{i} / 4 * kF64Across + i % 4);
  }
  // Of eight: pieces of two neighbours in the same lines of 128 bytes then differ in their third bit.
  IrValue Turned(IrValue g) {
    return ir().CreateOr(ir().CreateLShr(g, I32(1)), ir().CreateShl(ir().CreateAnd(g, I32(1)), I32(2)));
  }

  // Where this lane's first elements of a step lie in the tile, in bytes: one place, or one for each of its four steps
  // of depth.
  struct Places {
    std::array<IrValue, kDepth> at = {};
    std::array<IrValue, kDepth> turn = {};
    IrValue piece = nullptr;
  };
  Places PlacesOf(const TileOperand& operand, IrValue warp, int of_warp, IrValue step) {
    Places places;
    if (operand.depth_inner) {
      IrValue line = ir().CreateAdd(ir().CreateMul(warp, I32(of_warp)), Turned(group_));
      IrValue piece = ir().CreateAdd(ir().CreateMul(step, I32(kPieces)), in_group_);
      piece = ir().CreateXor(piece, Turned(group_));
      places.at[0] =
          ir().CreateAdd(ir().CreateMul(line, I32(operand.line_bytes())), ir().CreateMul(piece, I32(kPieceBytes)));
      return places;
    }
    places.piece = ir().CreateAdd(ir().CreateUDiv(ir().CreateMul(warp, I32(of_warp)), I32(4)), group_);
    for (int d = 0; d < kDepth; ++d) {
      IrValue line =
          ir().CreateAdd(ir().CreateMul(step, I32(kPieces * kDepth)), ir().CreateMul(in_group_, I32(kDepth)));
      line = Plus(line, d);
      places.turn[d] = ir().CreateAnd(line, I32(7));
      places.at[d] = ir().CreateMul(line, I32(operand.line_bytes()));
    }
    return places;
  }

  // This lane's four of block `i`, widened.
  Four Load(const TileOperand& operand, IrValue tile, const Places& places, int i) {
    const auto load = [&](llvm::Type* type, IrValue at, int align) {
      return ir().CreateAlignedLoad(type, At(tile, at), llvm::Align(static_cast<uint64_t>(align)));
    };
    Four result;
    llvm::Type* f32 = ir().getFloatTy();
    if (operand.depth_inner) {
      // Blocks are eight lines apart, whose pieces are turned alike.
      IrValue four = load(llvm::FixedVectorType::get(f32, kDepth),
                          Plus(places.at[0], int64_t{i} * kEight * operand.line_bytes()), kPieceBytes);
      for (int d = 0; d < kDepth; ++d) result[d] = ir().CreateExtractElement(four, d);
    } else {
      IrValue piece = Plus(places.piece, int64_t{i} / 4 * kEight);
      for (int d = 0; d < kDepth; ++d) {
        IrValue at = ir().CreateMul(ir().CreateXor(piece, places.turn[d]), I32(kPieceBytes));
        result[d] = load(f32, Plus(ir().CreateAdd(places.at[d], at), int64_t{i} % 4 * 4), 4);
      }
    }
    for (IrValue& value : result) value = ir().CreateFPExt(value, ir().getDoubleTy());
    return result;
  }

  // sums += A · B of 16 rows, 8 columns and 16 of the depth: `upper` has rows 0 to 7, `lower` 8 to 15; of the sums the
  // first two are of upper rows.
  void AddProduct(const Four& upper, const Four& lower, const Four& b, IrValue* sums) {
    const auto add = [&](std::string_view op, IrValues operands, IrValue* to, unsigned count) {
      operands.insert(operands.end(), to, to + count);
      IrValue result = DeviceOp(b_, op, operands);
      for (unsigned k = 0; k < count; ++k) to[k] = ir().CreateExtractValue(result, {k});
    };
    if (whole_) {
      IrValues operands;
      for (int d = 0; d < kDepth; ++d) operands.insert(operands.end(), {upper[d], lower[d]});
      operands.insert(operands.end(), b.begin(), b.end());
      return add("nv.mma.m16n8k16.f64", operands, sums, 4);
    }
    for (int d = 0; d < kDepth; ++d) {
      add("nv.mma.m8n8k4.f64", {upper[d], b[d]}, sums, 2);
      add("nv.mma.m8n8k4.f64", {lower[d], b[d]}, sums + 2, 2);
    }
  }

  const int blocks_m_, blocks_n_;  // of eight
  const bool whole_;               // the chip multiplies 16 rows and 16 of the depth at once
  IrValue group_, in_group_;
};

}  // namespace

std::unique_ptr<MatmulCore> MakeF64Core(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                        const TileOperand& bt) {
  return std::make_unique<F64Core>(b, tiling, a, bt);
}

}  // namespace tessera
