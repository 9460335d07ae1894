#include "codegen/emit/gpu/wave_core.h"

#include <algorithm>
#include <vector>

#include "codegen/emit/gpu/matmul_core_base.h"
#include "codegen/targets/device_ops.h"

namespace tessera {
namespace {

constexpr int kBlock = 16;  // rows and columns of a product
constexpr int kWords = 4;   // of a piece
constexpr uint32_t kFlip = 0x80808080, kSixtyFour = 0x40404040;

class WaveCore : public MatmulCoreBase {
 public:
  WaveCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a, const TileOperand& bt)
      : MatmulCoreBase(b, tiling, a, bt),
        mfma_(tiling.core == MatmulTiling::Core::kMfma),
        op_(WaveProduct(a.type, bt.type, b.target())),
        blocks_m_(tiling.warp_m() / kBlock),
        blocks_n_(tiling.warp_n() / kBlock),
        groups_(mfma_ ? 4 : 1),
        flips_a_(mfma_ && a.type == DType::kU8),
        flips_b_(mfma_ && bt.type == DType::kU8) {
    const DeviceOpRow* row = FindDeviceOp(op_);
    TES_CHECK(row != nullptr, tiling.Name());
    const llvm::FunctionType* type = DeviceOpType(*row, b.context());
    sums_ = static_cast<int>(type->getReturnType()->getStructNumElements());
    registers_ = (static_cast<int>(type->getNumParams()) - sums_) / 2;
    pieces_ = std::max(1, registers_ / kWords);
    in_block_ = ir().CreateAnd(lane_, I32(kBlock - 1), "in_block");
    group_ = ir().CreateLShr(lane_, I32(4), "group");
  }

  // Sums of all blocks; then those of B's columns, of A's rows, and of nothing but their number, where bytes flip.
  IrValues Start() override {
    return IrValues(NumSums() + (flips_a_ ? OfBlocks(blocks_n_) : 0) + (flips_b_ ? OfBlocks(blocks_m_) : 0) +
                        (flips_a_ && flips_b_ ? 1 : 0),
                    b_.Zero(sum_type(), 1));
  }
  int num_register_rows() const override { return blocks_m_; }
  int padding() const override { return 8; }

  IrValues Multiply(IrValue a, IrValue b, IrValues sums) override {
    const int step_bytes = groups_ * pieces_ * kPieceBytes, steps = PerSlice(t_.tile_k_bytes / step_bytes);
    TES_CHECK(steps > 0, t_.Name());
    const IrValues sixty_four(static_cast<size_t>(registers_), ir().getInt32(kSixtyFour));
    for (int s = 0; s < steps; ++s) {
      IrValue step = Plus(ir().CreateMul(slice_, I32(steps)), s);
      std::vector<IrValues> left, right;
      for (int i = 0; i < blocks_m_; ++i) left.push_back(Load(a_, a, warp_m_, t_.warp_m(), i, step, flips_a_));
      for (int j = 0; j < blocks_n_; ++j) right.push_back(Load(bt_, b, warp_n_, t_.warp_n(), j, step, flips_b_));
      for (int first = 0; first < pieces_ * kWords; first += registers_) {
        const auto part = [&](const IrValues& words) {
          return IrValues(words.begin() + first, words.begin() + first + registers_);
        };
        for (int i = 0; i < blocks_m_; ++i) {
          for (int j = 0; j < blocks_n_; ++j) AddProduct(part(left[i]), part(right[j]), &sums[BlockAt(i, j)]);
        }
        for (int j = 0; flips_a_ && j < blocks_n_; ++j) AddProduct(sixty_four, part(right[j]), &sums[OfColumns(j)]);
        for (int i = 0; flips_b_ && i < blocks_m_; ++i) AddProduct(part(left[i]), sixty_four, &sums[OfRows(i)]);
      }
    }
    if (flips_a_ && flips_b_) sums.back() = Plus(sums.back(), int64_t{steps} * step_bytes);
    return sums;
  }

  void Stage(const IrValues& sums, int first, int count, IrValue staging, int pitch, bool adds) override {
    IrValue row = ir().CreateMul(warp_m_, I32(int64_t{count} * kBlock));
    row = ir().CreateAdd(row, mfma_ ? ir().CreateMul(group_, I32(4)) : group_);
    IrValue column = ir().CreateAdd(ir().CreateMul(warp_n_, I32(t_.warp_n())), in_block_);
    IrValue corner = ir().CreateAdd(ir().CreateMul(row, I32(pitch)), column);
    llvm::Type* type = b_.ElementType(sum_type());
    for (int i = 0; i < count; ++i) {
      for (int j = 0; j < blocks_n_; ++j) {
        for (int r = 0; r < sums_; ++r) {
          const int down = i * kBlock + (mfma_ ? r : 2 * r);
          IrValue address = ir().CreateGEP(type, staging, Plus(corner, int64_t{down} * pitch + int64_t{j} * kBlock));
          IrValue sum = WholeSum(sums, first + i, j, r);
          if (adds) {
            IrValue there = ir().CreateAlignedLoad(type, address, llvm::Align(4));
            sum = IsFloat(a_.type) ? ir().CreateFAdd(sum, there) : ir().CreateAdd(sum, there);
          }
          ir().CreateAlignedStore(sum, address, llvm::Align(4));
        }
      }
    }
  }

 private:
  size_t OfBlocks(int blocks) const { return static_cast<size_t>(blocks) * sums_; }
  size_t NumSums() const { return OfBlocks(blocks_m_ * blocks_n_); }
  size_t BlockAt(int i, int j) const { return OfBlocks(i * blocks_n_ + j); }
  size_t OfColumns(int j) const { return NumSums() + OfBlocks(j); }
  size_t OfRows(int i) const { return NumSums() + (flips_a_ ? OfBlocks(blocks_n_) : 0) + OfBlocks(i); }

  // (a - 128) (b - 128) + 128 (b - 128) + 128 (a - 128) + 128 · 128 for each step of the depth.
  IrValue WholeSum(const IrValues& sums, int i, int j, int r) {
    IrValue sum = sums[BlockAt(i, j) + r];
    const auto twice = [&](IrValue x) { return ir().CreateShl(x, I32(1)); };
    if (flips_a_) sum = ir().CreateAdd(sum, twice(sums[OfColumns(j) + r]));
    if (flips_b_) sum = ir().CreateAdd(sum, twice(sums[OfRows(i) + r]));
    if (flips_a_ && flips_b_) sum = ir().CreateAdd(sum, ir().CreateShl(sums.back(), I32(14)));
    return sum;
  }

  void AddProduct(const IrValues& a, const IrValues& b, IrValue* sums) {
    IrValues operands;
    for (const IrValues* words : {&a, &b}) {
      for (IrValue word : *words) {
        operands.push_back(a_.type == DType::kF32 ? ir().CreateBitCast(word, ir().getFloatTy()) : word);
      }
    }
    operands.insert(operands.end(), sums, sums + sums_);
    IrValue result = DeviceOp(b_, op_, operands);
    for (int r = 0; r < sums_; ++r) sums[r] = ir().CreateExtractValue(result, {static_cast<unsigned>(r)});
  }

  // This lane's words of step `step` of the depth: its row or column of block `block`.
  IrValues Load(const TileOperand& operand, IrValue tile, IrValue warp, int of_warp, int block, IrValue step,
                bool flips) {
    IrValue line = Plus(ir().CreateAdd(ir().CreateMul(warp, I32(of_warp)), in_block_), int64_t{block} * kBlock);
    IrValue piece = ir().CreateMul(step, I32(int64_t{groups_} * pieces_));
    if (mfma_) piece = ir().CreateAdd(piece, group_);
    IrValues words;
    for (int p = 0; p < pieces_; ++p) {
      const IrValues four = operand.depth_inner ? LoadPiece(operand, tile, line, Plus(piece, p))
                                                : GatherPiece(operand, tile, line, Plus(piece, p));
      for (IrValue word : four) words.push_back(flips ? ir().CreateXor(word, ir().getInt32(kFlip)) : word);
    }
    return words;
  }

  IrValue PieceAt(const TileOperand& operand, IrValue tile, IrValue line, IrValue piece) {
    IrValue at = ir().CreateMul(ir().CreateXor(piece, ir().CreateAnd(line, I32(7))), I32(kPieceBytes));
    return At(tile, ir().CreateAdd(at, ir().CreateMul(line, I32(operand.line_bytes()))));
  }

  IrValues LoadPiece(const TileOperand& operand, IrValue tile, IrValue line, IrValue piece) {
    llvm::Type* four = llvm::FixedVectorType::get(ir().getInt32Ty(), kWords);
    IrValue loaded = ir().CreateAlignedLoad(four, PieceAt(operand, tile, line, piece), llvm::Align(kPieceBytes));
    IrValues words;
    for (int w = 0; w < kWords; ++w) words.push_back(ir().CreateExtractElement(loaded, static_cast<uint64_t>(w)));
    return words;
  }

  // The same where rows or columns run along lines: an element from each of as many lines.
  IrValues GatherPiece(const TileOperand& operand, IrValue tile, IrValue across, IrValue piece) {
    const int bytes = operand.element_bytes(), elements = kPieceBytes / bytes;
    IrValue along = ir().CreateMul(across, I32(bytes));
    IrValue in_piece = ir().CreateAnd(along, I32(kPieceBytes - 1)), in_line = ir().CreateUDiv(along, I32(kPieceBytes));
    IrValues words(kWords, I32(0));
    for (int e = 0; e < elements; ++e) {
      IrValue line = Plus(ir().CreateMul(piece, I32(elements)), e);
      IrValue loaded = ir().CreateAlignedLoad(ir().getIntNTy(static_cast<unsigned>(8 * bytes)),
                                              At(PieceAt(operand, tile, line, in_line), in_piece),
                                              llvm::Align(static_cast<uint64_t>(bytes)));
      IrValue& word = words[e * bytes / 4];
      word = ir().CreateOr(word, ir().CreateShl(ir().CreateZExt(loaded, ir().getInt32Ty()), I32(e * bytes % 4 * 8)));
    }
    return words;
  }

  const bool mfma_;
  const std::string op_;
  const int blocks_m_, blocks_n_;
  const int groups_;  // of lanes, that have different parts of the depth
  const bool flips_a_, flips_b_;
  int sums_ = 4;                    // registers of a block's sums
  int registers_ = 1, pieces_ = 1;  // of an operand; of a step
  IrValue in_block_ = nullptr, group_ = nullptr;
};

}  // namespace

std::string WaveProduct(DType a, DType b, const Target& target) {
  const auto is_byte = [](DType type) { return type == DType::kU8 || type == DType::kI8; };
  std::vector<std::string> ops;  // the one of the most depth first
  if (a == DType::kF32 && b == a) {
    ops = {"amd.mfma.f32.16x16x4.f32"};
  } else if (a == DType::kF16 && b == a) {
    ops = {"amd.mfma.f32.16x16x16.f16", "amd.wmma.f32.16x16x16.f16"};
  } else if (a == DType::kBF16 && b == a) {
    ops = {"amd.mfma.f32.16x16x16.bf16", "amd.mfma.f32.16x16x8.bf16", "amd.wmma.f32.16x16x16.bf16"};
  } else if (is_byte(a) && is_byte(b)) {
    const auto name = [](DType type) { return std::string(type == DType::kU8 ? "u8" : "s8"); };
    ops = {"amd.mfma.s32.16x16x32.s8", "amd.mfma.s32.16x16x16.s8",
           "amd.wmma.s32.16x16x16." + name(a) + (a == b ? "" : "." + name(b))};
  }
  for (const std::string& op : ops) {
    if (ChipHasDeviceOp(op, target)) return op;
  }
  return "";
}

std::unique_ptr<MatmulCore> MakeWaveCore(KernelBuilder& b, const MatmulTiling& tiling, const TileOperand& a,
                                         const TileOperand& bt) {
  return std::make_unique<WaveCore>(b, tiling, a, bt);
}

}  // namespace tessera
