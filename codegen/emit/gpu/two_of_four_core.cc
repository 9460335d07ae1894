#include "codegen/emit/gpu/two_of_four_core.h"

#include <vector>

#include "codegen/emit/gpu/matmul_core_base.h"
#include "codegen/targets/device_ops.h"

namespace tessera {
namespace {

class TwoOfFourCore : public MatmulCoreBase {
 public:
  static constexpr int kRows = 8, kColumns = 16;  // of the tile, that a product makes

  TwoOfFourCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a, const TileOperand& bt)
      : MatmulCoreBase(b, tiling, a, bt), blocks_m_(tiling.warp_m() / kRows), blocks_n_(tiling.warp_n() / kColumns) {
    TES_CHECK(tiling.tile_k_bytes == kTwoOfFourStage && bt.line_bytes() == kTwoOfFourLine, tiling.Name());
    TES_CHECK(tiling.warp_n() % RowsOfWhich(bt.type) == 0 && tiling.warp_m() % kRows == 0, tiling.Name());
    integer_ = !IsFloat(a.type);
    op_ = a.type == DType::kF16    ? "nv.mma.sp.m16n8k32.f32.f16"
          : a.type == DType::kBF16 ? "nv.mma.sp.m16n8k32.f32.bf16"
          : a.type == DType::kU8   ? "nv.mma.sp.m16n8k64.s32.s8.u8"
                                   : "nv.mma.sp.m16n8k64.s32.s8";
  }

  IrValues Start() override { return IrValues(static_cast<size_t>(blocks_m_) * blocks_n_ * 4, b_.Zero(sum_type(), 1)); }
  int num_register_rows() const override { return blocks_m_; }
  int padding() const override { return t_.padding(); }

  IrValues Multiply(IrValue a, IrValue b, IrValues sums) override {
    IrValue which = At(b, I32(bt_.tile_bytes()));
    const int steps = PerSlice(t_.tile_k_bytes / kTwoOfFourStep), of_word = RowsOfWhich(bt_.type) / kColumns;
    for (int s = 0; s < steps; ++s) {
      IrValue step = Plus(ir().CreateMul(slice_, I32(steps)), s);
      std::vector<IrValues> weights;
      IrValues words;
      for (int j = 0; j < blocks_n_; ++j) {
        weights.push_back(LoadWeights(b, step, j));
        if (j % of_word == 0) words.push_back(LoadWhich(which, step, j / of_word));
      }
      for (int i = 0; i < blocks_m_; ++i) {
        const IrValues x = LoadRows(a, step, i);
        for (int j = 0; j < blocks_n_; ++j) {
          IrValues operands = weights[j];
          operands.insert(operands.end(), x.begin(), x.end());
          IrValue* const to = &sums[(i * blocks_n_ + j) * 4];
          operands.insert(operands.end(), to, to + 4);
          operands.push_back(words[j / of_word]);
          if (!integer_) operands.push_back(I32(j % of_word));
          IrValue result = DeviceOp(b_, op_, operands);
          for (unsigned k = 0; k < 4; ++k) to[k] = ir().CreateExtractValue(result, {k});
        }
      }
    }
    return sums;
  }

  // Of a product, register 2 h + k of lane 4 g + t is the tile's row 2 t + k, column g + 8 h: lanes write words that
  // follow each other by g, and rows that lie 8 banks apart by t.
  void Stage(const IrValues& sums, int first, int count, IrValue staging, int pitch, bool adds) override {
    IrValue row = ir().CreateAdd(ir().CreateMul(warp_m_, I32(int64_t{count} * kRows)),
                                 ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(2)));
    IrValue column = ir().CreateAdd(ir().CreateMul(warp_n_, I32(t_.warp_n())), ir().CreateLShr(lane_, I32(2)));
    IrValue corner = ir().CreateAdd(ir().CreateMul(row, I32(pitch)), column);
    llvm::Type* type = b_.ElementType(sum_type());
    for (int i = 0; i < count; ++i) {
      for (int j = 0; j < blocks_n_; ++j) {
        for (int r = 0; r < 4; ++r) {
          IrValue at = Plus(corner, (int64_t{i} * kRows + r % 2) * pitch + int64_t{j} * kColumns + r / 2 * 8);
          IrValue address = ir().CreateGEP(type, staging, at);
          IrValue sum = sums[((first + i) * blocks_n_ + j) * 4 + r];
          if (adds) {
            IrValue there = ir().CreateAlignedLoad(type, address, llvm::Align(4));
            sum = integer_ ? ir().CreateAdd(sum, there) : ir().CreateFAdd(sum, there);
          }
          ir().CreateAlignedStore(sum, address, llvm::Align(4));
        }
      }
    }
  }

 private:
  // Four 8x8 matrices of 16 bits, whose rows' addresses the lanes give; all line numbers are the lane's in their last
  // bits.
  IrValues LoadMatrices(const TileOperand& operand, IrValue tile, IrValue line, IrValue piece) {
    IrValue turn = ir().CreateAnd(lane_, I32(7));
    IrValue at = ir().CreateMul(ir().CreateXor(piece, turn), I32(kPieceBytes));
    at = ir().CreateAdd(at, ir().CreateMul(line, I32(operand.line_bytes())));
    IrValue four = DeviceOp(b_, "nv.ldmatrix.x4", {At(tile, at)});
    IrValues result;
    for (unsigned k = 0; k < 4; ++k) result.push_back(ir().CreateExtractValue(four, {k}));
    return result;
  }

  // Columns 0-7 and 8-15 of the first half of what the step keeps, then of the second.
  IrValues LoadWeights(IrValue tile, IrValue step, int block) {
    IrValue line = Plus(ir().CreateMul(warp_n_, I32(t_.warp_n())), int64_t{block} * kColumns);
    line = ir().CreateAdd(line, ir().CreateAnd(lane_, I32(15)));
    IrValue half = ir().CreateLShr(lane_, I32(4));
    return LoadMatrices(bt_, tile, line, ir().CreateAdd(ir().CreateMul(step, I32(2)), half));
  }

  // Eight rows, the four quarters of the step's depth.
  IrValues LoadRows(IrValue tile, IrValue step, int block) {
    IrValue line = Plus(ir().CreateMul(warp_m_, I32(t_.warp_m())), int64_t{block} * kRows);
    line = ir().CreateAdd(line, ir().CreateAnd(lane_, I32(7)));
    IrValue quarter = ir().CreateLShr(lane_, I32(3));
    return LoadMatrices(a_, tile, line, ir().CreateAdd(ir().CreateMul(step, I32(4)), quarter));
  }

  // This lane's word: of line `block` of the warp's, 128 bytes a step.
  IrValue LoadWhich(IrValue tile, IrValue step, int block) {
    constexpr int kLineBytes = kTwoOfFourStage / kTwoOfFourStep * kTwoOfFourWords * 4;
    IrValue line = Plus(ir().CreateMul(warp_n_, I32(t_.warp_n() / RowsOfWhich(bt_.type))), block);
    IrValue piece =
        ir().CreateAdd(ir().CreateMul(step, I32(kTwoOfFourWords * 4 / kPieceBytes)), ir().CreateLShr(lane_, I32(2)));
    IrValue turn = ir().CreateAnd(line, I32(7));
    IrValue at = ir().CreateMul(ir().CreateXor(piece, turn), I32(kPieceBytes));
    at = ir().CreateAdd(at, ir().CreateMul(line, I32(kLineBytes)));
    at = ir().CreateAdd(at, ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(4)));
    return ir().CreateAlignedLoad(ir().getInt32Ty(), At(tile, at), llvm::Align(4));
  }

  const int blocks_m_, blocks_n_;
  bool integer_ = false;
  std::string op_;
};

}  // namespace

std::unique_ptr<MatmulCore> MakeTwoOfFourCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                              const TileOperand& bt) {
  return std::make_unique<TwoOfFourCore>(b, tiling, a, bt);
}

}  // namespace tessera
