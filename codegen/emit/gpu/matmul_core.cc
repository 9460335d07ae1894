#include "codegen/emit/gpu/matmul_core.h"

#include "codegen/emit/gpu/f64_core.h"
#include "codegen/emit/gpu/matmul_core_base.h"
#include "codegen/emit/gpu/two_of_four_core.h"
#include "codegen/emit/gpu/wave_core.h"

namespace tessera {
namespace {

// ---- f32 by fused multiply-adds; halves widened; bytes by products of four.
class FmaCore : public MatmulCoreBase {
 public:
  static constexpr int kLanesM = 8, kLanesN = 4, kDepth = 4;  // lanes of a warp; words of a piece

  FmaCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a, const TileOperand& bt)
      : MatmulCoreBase(b, tiling, a, bt), rows_(tiling.warp_m() / kLanesM), columns_(tiling.warp_n() / kLanesN) {
    // Neighbouring lanes have one row, lanes half a warp apart too: loads of 16 bytes then go out together.
    lane_m_ = ir().CreateAnd(ir().CreateLShr(lane_, I32(1)), I32(7), "lane_m");
    IrValue upper = ir().CreateAnd(ir().CreateLShr(lane_, I32(3)), I32(2));
    lane_n_ = ir().CreateOr(upper, ir().CreateAnd(lane_, I32(1)), "lane_n");
  }

  IrValues Start() override { return IrValues(static_cast<size_t>(rows_) * columns_, b_.Zero(sum_type(), 1)); }
  int num_register_rows() const override { return rows_; }
  int padding() const override { return 4; }

  IrValues Multiply(IrValue a, IrValue b, IrValues sums) override {
    const int pieces = t_.tile_k_bytes / kPieceBytes;
    for (int p = 0; p < PerSlice(pieces); ++p) {
      IrValue piece = Plus(ir().CreateMul(slice_, I32(PerSlice(pieces))), p);
      const std::vector<IrValues> left = Load(a_, a, warp_m_, t_.warp_m(), kLanesM, lane_m_, rows_, piece);
      const std::vector<IrValues> right = Load(bt_, b, warp_n_, t_.warp_n(), kLanesN, lane_n_, columns_, piece);
      for (int d = 0; d < kDepth; ++d) {
        // A word is one step of the depth, two of halves, or four of bytes, which are multiplied together.
        for (int step = 0; step < (a_.element_bytes() == 2 ? 2 : 1); ++step) {
          IrValues x, y;
          for (const IrValues& words : left) x.push_back(Step(words[d], a_.type, step));
          for (const IrValues& words : right) y.push_back(Step(words[d], bt_.type, step));
          for (int i = 0; i < rows_; ++i) {
            for (int j = 0; j < columns_; ++j) AddProduct(x[i], y[j], sums[i * columns_ + j]);
          }
        }
      }
    }
    return sums;
  }

  void Stage(const IrValues& sums, int first, int count, IrValue staging, int pitch, bool adds) override {
    const int rows = t_.warp_m() / rows_ * count;  // of a warp, there
    for (int i = 0; i < count; ++i) {
      IrValue row = Place(a_, warp_m_, rows, kLanesM, lane_m_, i);
      for (int j = 0; j < columns_; ++j) {
        IrValue column = Place(bt_, warp_n_, t_.warp_n(), kLanesN, lane_n_, j);
        IrValue at = ir().CreateAdd(ir().CreateMul(row, I32(pitch)), column);
        IrValue sum = sums[(first + i) * columns_ + j];
        IrValue address = ir().CreateGEP(sum->getType(), staging, at);
        if (adds) {
          IrValue there = ir().CreateAlignedLoad(sum->getType(), address, llvm::Align(4));
          sum = IsFloat(a_.type) ? ir().CreateFAdd(sum, there) : ir().CreateAdd(sum, there);
        }
        ir().CreateAlignedStore(sum, address, llvm::Align(4));
      }
    }
  }

 private:
  // The row or column in the tile of register row or column `i`: every lanes-th where the depth runs along a line, four
  // neighbours and every 4·lanes-th four where rows or columns do.
  IrValue Place(const TileOperand& operand, IrValue warp, int of_warp, int lanes, IrValue lane, int i) {
    IrValue first = ir().CreateMul(warp, I32(of_warp));
    if (operand.depth_inner) return Plus(ir().CreateAdd(first, lane), int64_t{i} * lanes);
    return Plus(ir().CreateAdd(first, ir().CreateMul(lane, I32(kDepth))),
                int64_t{i} / kDepth * kDepth * lanes + i % kDepth);
  }

  // Step `step` of the depth of a word.
  IrValue Step(IrValue word, DType type, int step) {
    switch (type) {
      case DType::kF16: {
        IrValue half = ir().CreateTrunc(ir().CreateLShr(word, I32(16 * step)), ir().getInt16Ty());
        return ir().CreateFPExt(ir().CreateBitCast(half, ir().getHalfTy()), ir().getFloatTy());
      }
      case DType::kBF16: {
        IrValue bits = step == 0 ? ir().CreateShl(word, I32(16)) : ir().CreateAnd(word, I32(0xffff0000));
        return ir().CreateBitCast(bits, ir().getFloatTy());
      }
      default: return word;
    }
  }

  void AddProduct(IrValue x, IrValue y, IrValue& sum) {
    if (IsFloat(a_.type)) {
      sum = ir().CreateIntrinsic(llvm::Intrinsic::fma, {sum->getType()}, {x, y, sum});
      return;
    }
    const bool mixed = a_.type != bt_.type;
    if (mixed && a_.type == DType::kI8) std::swap(x, y);
    sum = DeviceOp(b_,
                   mixed                   ? "gpu.dot4.u8.s8"
                   : a_.type == DType::kU8 ? "gpu.dot4.u8.u8"
                                           : "gpu.dot4.s8.s8",
                   {x, y, sum});
  }

  // [register row][word] of piece `piece` of the depth.
  std::vector<IrValues> Load(const TileOperand& operand, IrValue tile, IrValue warp, int of_warp, int lanes,
                             IrValue lane, int count, IrValue piece) {
    std::vector<IrValues> result(count, IrValues(kDepth));
    llvm::Type* word = operand.type == DType::kF32 ? ir().getFloatTy() : static_cast<llvm::Type*>(ir().getInt32Ty());
    const auto load = [&](IrValue at) {
      return ir().CreateAlignedLoad(llvm::FixedVectorType::get(word, 4), At(tile, at), llvm::Align(16));
    };
    if (operand.depth_inner) {
      // Lines lanes apart: their numbers' last three bits repeat after 8 / lanes of them.
      IrValue line = ir().CreateAdd(ir().CreateMul(warp, I32(of_warp)), lane);
      for (int i = 0; i < count; ++i) {
        IrValue turn = ir().CreateAnd(Plus(lane, i * lanes % 8), I32(7));
        IrValue at = ir().CreateMul(ir().CreateXor(piece, turn), I32(kPieceBytes));
        at = ir().CreateAdd(at, ir().CreateMul(line, I32(operand.line_bytes())));
        IrValue four = load(Plus(at, int64_t{i} * lanes * operand.line_bytes()));
        for (int d = 0; d < kDepth; ++d) result[i][d] = ir().CreateExtractElement(four, d);
      }
      return result;
    }
    for (int d = 0; d < kDepth; ++d) {
      IrValue line = Plus(ir().CreateMul(piece, I32(kDepth)), d);
      IrValue turn = ir().CreateAnd(line, I32(7));
      for (int i = 0; i < count; i += kDepth) {
        IrValue column = Plus(ir().CreateAdd(ir().CreateUDiv(ir().CreateMul(warp, I32(of_warp)), I32(4)), lane),
                              int64_t{i} / kDepth * lanes);
        IrValue at = ir().CreateMul(ir().CreateXor(column, turn), I32(kPieceBytes));
        IrValue four = load(ir().CreateAdd(at, ir().CreateMul(line, I32(operand.line_bytes()))));
        for (int k = 0; k < kDepth; ++k) result[i + k][d] = ir().CreateExtractElement(four, k);
      }
    }
    return result;
  }

  const int rows_, columns_;  // of a thread
  IrValue lane_m_, lane_n_;
};

// ---- Tensor cores: mma.sync, 16 rows x 8 columns x 32 bytes of depth; sm_75 needs two or four products for that.
class MmaCore : public MatmulCoreBase {
 public:
  static constexpr int kRows = 16, kColumns = 8, kStepBytes = 32;

  MmaCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a, const TileOperand& bt)
      : MatmulCoreBase(b, tiling, a, bt), blocks_m_(tiling.warp_m() / kRows), blocks_n_(tiling.warp_n() / kColumns) {
    TES_CHECK(blocks_n_ % 2 == 0, tiling.Name());
    integer_ = !IsFloat(a.type);
    in_parts_ = b.target().matrix == Target::MatrixCores::kMmaOfHalfDepth;
    switch (a.type) {
      case DType::kF16: op_ = in_parts_ ? "nv.mma.m16n8k8.f32.f16" : "nv.mma.m16n8k16.f32.f16"; break;
      case DType::kBF16: op_ = "nv.mma.m16n8k16.f32.bf16"; break;
      case DType::kF32: op_ = "nv.mma.m16n8k8.f32.tf32"; break;
      default:
        op_ = (in_parts_ ? "nv.mma.m8n8k16.s32." : "nv.mma.m16n8k32.s32.") + Byte(a.type);
        if (a.type != bt.type) op_ += "." + Byte(bt.type);
    }
  }

  IrValues Start() override { return IrValues(static_cast<size_t>(blocks_m_) * blocks_n_ * 4, b_.Zero(sum_type(), 1)); }
  int num_register_rows() const override { return blocks_m_; }
  int padding() const override { return 8; }

  IrValues Multiply(IrValue a, IrValue b, IrValues sums) override {
    const int steps = t_.tile_k_bytes / kStepBytes;
    for (int s = 0; s < PerSlice(steps); ++s) {
      IrValue step = Plus(ir().CreateMul(slice_, I32(PerSlice(steps))), s);
      std::vector<IrValues> left, right;
      for (int i = 0; i < blocks_m_; ++i) left.push_back(LoadA(a, step, i));
      for (int j = 0; j < blocks_n_; j += 2) {
        const IrValues two = LoadB(b, step, j);
        right.push_back({two[0], two[1]});
        right.push_back({two[2], two[3]});
      }
      for (int i = 0; i < blocks_m_; ++i) {
        for (int j = 0; j < blocks_n_; ++j) {
          AddProduct(left[i], right[j], &sums[(i * blocks_n_ + j) * 4]);
        }
      }
    }
    return sums;
  }

  void Stage(const IrValues& sums, int first, int count, IrValue staging, int pitch, bool adds) override {
    llvm::Type* pair_type = llvm::FixedVectorType::get(b_.ElementType(sum_type()), 2);
    IrValue row = ir().CreateAdd(ir().CreateMul(warp_m_, I32(int64_t{count} * kRows)), ir().CreateLShr(lane_, I32(2)));
    IrValue column = ir().CreateAdd(ir().CreateMul(warp_n_, I32(t_.warp_n())),
                                    ir().CreateMul(ir().CreateAnd(lane_, I32(3)), I32(2)));
    IrValue corner = ir().CreateAdd(ir().CreateMul(row, I32(pitch)), column);
    for (int i = 0; i < count; ++i) {
      for (int j = 0; j < blocks_n_; ++j) {
        for (int half = 0; half < 2; ++half) {
          IrValue at = Plus(corner, (int64_t{i} * kRows + half * 8) * pitch + int64_t{j} * kColumns);
          IrValue address = ir().CreateGEP(b_.ElementType(sum_type()), staging, at);
          IrValue pair = llvm::PoisonValue::get(pair_type);
          for (int k = 0; k < 2; ++k) {
            pair = ir().CreateInsertElement(pair, sums[((first + i) * blocks_n_ + j) * 4 + half * 2 + k],
                                            static_cast<uint64_t>(k));
          }
          if (adds) {
            IrValue there = ir().CreateAlignedLoad(pair_type, address, llvm::Align(8));
            pair = integer_ ? ir().CreateAdd(pair, there) : ir().CreateFAdd(pair, there);
          }
          ir().CreateAlignedStore(pair, address, llvm::Align(8));
        }
      }
    }
  }

 private:
  // sums += A · B of one fragment each: registers of A are rows 0-7 and 8-15 of the first half of the depth, then of
  // the second; of B the halves of the depth; of the sums rows 0-7, then 8-15, two each.
  void AddProduct(const IrValues& a, const IrValues& b, IrValue* sums) {
    const auto add = [&](IrValues operands, IrValue* to, unsigned count) {
      operands.insert(operands.end(), to, to + count);
      IrValue result = DeviceOp(b_, op_, operands);
      for (unsigned k = 0; k < count; ++k) to[k] = ir().CreateExtractValue(result, {k});
    };
    if (!in_parts_) return add({a[0], a[1], a[2], a[3], b[0], b[1]}, sums, 4);
    for (int half = 0; half < 2; ++half) {
      if (!integer_) {
        add({a[2 * half], a[2 * half + 1], b[half]}, sums, 4);
        continue;
      }
      for (int rows = 0; rows < 2; ++rows) add({a[2 * half + rows], b[half]}, sums + 2 * rows, 2);
    }
  }

  static std::string Byte(DType type) { return type == DType::kU8 ? "u8" : "s8"; }

  // Four 8x8 matrices of 16 bits, whose rows' addresses the lanes give: lane l row l % 8 of matrix l / 8. `first` and
  // `second` are the matrix's place across lines and along them that bit 3 or bit 4 of the lane choose.
  IrValues LoadMatrices(const TileOperand& operand, IrValue tile, IrValue line, IrValue piece, bool transposed) {
    IrValue turn = ir().CreateAnd(lane_, I32(7));  // all line numbers here are those of the lane in their last bits
    IrValue at = ir().CreateMul(ir().CreateXor(piece, turn), I32(kPieceBytes));
    at = ir().CreateAdd(at, ir().CreateMul(line, I32(operand.line_bytes())));
    IrValue four = DeviceOp(b_, transposed ? "nv.ldmatrix.x4.trans" : "nv.ldmatrix.x4", {At(tile, at)});
    IrValues result;
    for (unsigned k = 0; k < 4; ++k) {
      IrValue bits = ir().CreateExtractValue(four, {k});
      if (operand.rounds) bits = DeviceOp(b_, "nv.to_tf32", {ir().CreateBitCast(bits, ir().getFloatTy())});
      result.push_back(bits);
    }
    return result;
  }
  IrValue LaneBit(int bit) { return ir().CreateAnd(ir().CreateLShr(lane_, I32(bit)), I32(1)); }

  // Matrices: rows 0-7, rows 8-15 of the first half of the step's depth, then of the second.
  IrValues LoadA(IrValue tile, IrValue step, int block) {
    IrValue in_eight = ir().CreateAnd(lane_, I32(7));
    IrValue rows = ir().CreateMul(LaneBit(3), I32(8)), half = LaneBit(4);
    IrValue row = Plus(ir().CreateMul(warp_m_, I32(t_.warp_m())), int64_t{block} * kRows);
    if (a_.depth_inner) {
      IrValue line = ir().CreateAdd(ir().CreateAdd(row, rows), in_eight);
      return LoadMatrices(a_, tile, line, ir().CreateAdd(ir().CreateMul(step, I32(2)), half), false);
    }
    IrValue line =
        ir().CreateAdd(ir().CreateAdd(ir().CreateMul(step, I32(16)), ir().CreateMul(half, I32(8))), in_eight);
    return LoadMatrices(a_, tile, line, ir().CreateAdd(ir().CreateUDiv(row, I32(8)), LaneBit(3)), true);
  }

  // Matrices: columns 0-7 of the first half of the step's depth, of the second half; then columns 8-15.
  IrValues LoadB(IrValue tile, IrValue step, int block) {
    IrValue in_eight = ir().CreateAnd(lane_, I32(7));
    IrValue columns = ir().CreateMul(LaneBit(4), I32(8)), half = LaneBit(3);
    IrValue column = Plus(ir().CreateMul(warp_n_, I32(t_.warp_n())), int64_t{block} * kColumns);
    if (bt_.depth_inner) {
      IrValue line = ir().CreateAdd(ir().CreateAdd(column, columns), in_eight);
      return LoadMatrices(bt_, tile, line, ir().CreateAdd(ir().CreateMul(step, I32(2)), half), false);
    }
    IrValue line =
        ir().CreateAdd(ir().CreateAdd(ir().CreateMul(step, I32(16)), ir().CreateMul(half, I32(8))), in_eight);
    return LoadMatrices(bt_, tile, line, ir().CreateAdd(ir().CreateUDiv(column, I32(8)), LaneBit(4)), true);
  }

  const int blocks_m_, blocks_n_;
  bool integer_ = false;
  bool in_parts_ = false;  // the chip's products are of 8 rows or half the depth
  std::string op_;
};

}  // namespace

std::string MatmulTiling::Name() const {
  constexpr const char* kNames[] = {"fma ", "mma ", "wgmma ", "mfma ", "wmma ", "mma_sp ", "mma_f64 "};
  std::string name = internal::Join(kNames[static_cast<size_t>(core)], tile_m, "x", tile_n);
  if (core != Core::kWgmma) name += internal::Join(" ", warps_m, "x", warps_n, "x", slices);
  name += internal::Join(" stages ", stages, per_unit == 2 ? " twice" : "");
  return splits == 1 ? name : internal::Join(name, " split ", splits);
}

std::unique_ptr<MatmulCore> MakeMatmulCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                           const TileOperand& bt) {
  using Core = MatmulTiling::Core;
  if (tiling.core == Core::kMfma || tiling.core == Core::kWmma) return MakeWaveCore(b, tiling, a, bt);
  if (tiling.core == Core::kMmaSp) return MakeTwoOfFourCore(b, tiling, a, bt);
  if (tiling.core == Core::kMmaF64) return MakeF64Core(b, tiling, a, bt);
  if (tiling.core == Core::kMma) return std::make_unique<MmaCore>(b, tiling, a, bt);
  return std::make_unique<FmaCore>(b, tiling, a, bt);
}

}  // namespace tessera
