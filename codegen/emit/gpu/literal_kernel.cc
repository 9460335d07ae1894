#include <algorithm>

#include "base/round.h"
#include "codegen/emit/gpu/gpu_literal.h"

namespace tessera {
namespace {

constexpr int kWarp = 32, kPiece = 16;             // bytes of a piece: what is copied at once
constexpr int kSlab = 32, kLineBytes = kSlab * 4;  // depth of a slab; a line is a column's part of it, or a row's of X
constexpr int kLinePieces = kLineBytes / kPiece;   // 8
constexpr int kSlabBytes = kWarp * kLineBytes;     // of a warp
constexpr int kCopyLines = kWarp / kLinePieces;    // lines that a warp copies at once
constexpr int kCopies = kWarp / kCopyLines;        // of a slab
constexpr unsigned kGlobalSpace = 1;

// Bytes from one column's staged sums to the next: an odd number of pieces, so that lanes with a column each meet all
// banks.
int64_t SumsPitch(const GpuLiteral& s) { return (s.panel_rows + 4) * 4; }

class LiteralEmitter {
 public:
  LiteralEmitter(KernelBuilder& b, const GpuLiteral& literal, const TileEpilogue& epilogue)
      : b_(b), s_(literal), epilogue_(epilogue) {}

  void Emit() {
    IrValue rings = b_.Shared(s_.shared_bytes(), 1024);
    IrValue thread = b_.ThreadId();
    lane_ = ir().CreateAnd(thread, I32(kWarp - 1), "lane");
    IrValue warp = ir().CreateUDiv(thread, I32(kWarp), "warp");
    ring_ = At(rings, ir().CreateMul(warp, I32(RingBytes())));
    // Neighbouring blocks run the same code.
    IrValue column_block = ir().CreateURem(b_.BlockId(0), I32(s_.column_blocks()));
    IrValue piece = ir().CreateUDiv(b_.BlockId(0), I32(s_.column_blocks()), "piece");
    share_ = ir().CreateURem(piece, I32(s_.splits));
    first_row_ = ir().CreateMul(ir().CreateUDiv(piece, I32(s_.splits)), I32(s_.panel_rows));
    first_column_ = ir().CreateAdd(ir().CreateMul(column_block, I32(s_.block_columns)),
                                   ir().CreateMul(warp, I32(kWarp)), "first_column");
    PrepareCopies();
    PrepareReads();
    IrValue begin = ir().CreateMul(share_, I32(s_.share_depth()));
    for (int slab = 0; slab < s_.stages - 1; ++slab) Fetch(slab, ir().CreateAdd(begin, I32(slab * kSlab)), true);

    llvm::Function* function = ir().GetInsertBlock()->getParent();
    auto* after = llvm::BasicBlock::Create(b_.context(), "sums", function);
    const auto pieces = static_cast<unsigned>(s_.panels() * s_.splits);
    llvm::BasicBlock* dispatch = ir().GetInsertBlock();
    std::vector<std::pair<llvm::BasicBlock*, IrValues>> ends;
    std::vector<llvm::BasicBlock*> starts;
    for (unsigned number = 0; number < pieces; ++number) {
      starts.push_back(llvm::BasicBlock::Create(b_.context(), "piece", function, after));
      ir().SetInsertPoint(starts.back());
      IrValues sums = Piece(number);
      ends.emplace_back(ir().GetInsertBlock(), std::move(sums));
      ir().CreateBr(after);
    }
    ir().SetInsertPoint(dispatch);
    llvm::SwitchInst* to = ir().CreateSwitch(piece, starts.back(), pieces);
    for (unsigned number = 0; number + 1 < pieces; ++number) to->addCase(ir().getInt32(number), starts[number]);
    ir().SetInsertPoint(after);
    IrValues sums;
    for (int row = 0; row < s_.panel_rows; ++row) {
      llvm::PHINode* sum = ir().CreatePHI(ir().getFloatTy(), pieces, "sum");
      for (const auto& [block, values] : ends) sum->addIncoming(values[static_cast<size_t>(row)], block);
      sums.push_back(sum);
    }
    if (s_.by_columns) {
      FinishColumns(sums);
    } else {
      FinishRows(sums);
    }
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue I32(int64_t value) { return b_.ir().getInt32(static_cast<uint32_t>(value)); }
  IrValue I64Of(IrValue value) { return ir().CreateZExt(value, ir().getInt64Ty()); }
  IrValue At(IrValue base, IrValue bytes) { return ir().CreateGEP(ir().getInt8Ty(), base, bytes); }
  IrValue At(IrValue base, int64_t bytes) { return At(base, I32(bytes)); }
  IrValue Clamp(IrValue number, int64_t last) {
    return ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, number, I32(last));
  }
  // Of a warp: its slabs, and later, column by column, its sums.
  int64_t RingBytes() const { return s_.shared_bytes() / (s_.block_columns / kWarp); }
  int64_t Slabs(int64_t share) const {
    const int64_t begin = share * s_.share_depth(), end = std::min(s_.depth, begin + s_.share_depth());
    return end <= begin ? 0 : DivideUp(end - begin, int64_t{kSlab});
  }

  // ---- X to shared memory. By columns a line of the slab is a column's 32 elements of the depth, whose pieces are
  // turned by the line's number so that lanes with a line each meet all banks; by rows it is a row's 32 columns.

  void PrepareCopies() {
    IrValue line = ir().CreateUDiv(lane_, I32(kLinePieces)), piece = ir().CreateURem(lane_, I32(kLinePieces));
    in_line_ = ir().CreateMul(piece, I32(4), "in_line");  // elements
    copy_line_ = line;
    for (int copy = 0; copy < kCopies; ++copy) {
      IrValue number = ir().CreateAdd(line, I32(copy * kCopyLines));
      IrValue turned = s_.by_columns ? ir().CreateXor(piece, ir().CreateAnd(number, I32(kLinePieces - 1))) : piece;
      IrValue at = ir().CreateAdd(ir().CreateMul(number, I32(kLineBytes)), ir().CreateMul(turned, I32(kPiece)));
      copy_to_.push_back(At(ring_, at));
    }
    IrValue global = ir().CreateAddrSpaceCast(b_.arg(0), llvm::PointerType::get(b_.context(), kGlobalSpace));
    if (!s_.by_columns) {
      IrValue column = Clamp(ir().CreateAdd(first_column_, in_line_), s_.columns - 4);
      lines_.push_back(At(global, I64Of(ir().CreateMul(column, I32(4)))));
      return;
    }
    // Warps are inside or not, or each line is asked for its own.
    const bool whole = s_.columns % kWarp == 0;
    IrValue first = whole ? Clamp(first_column_, s_.columns - kWarp) : first_column_;
    for (int copy = 0; copy < kCopies; ++copy) {
      IrValue column = ir().CreateAdd(first, ir().CreateAdd(line, I32(copy * kCopyLines)));
      if (!whole) column = Clamp(column, s_.columns - 1);
      if (whole && copy > 0) {
        lines_.push_back(At(lines_[0], b_.I64(copy * kCopyLines * s_.depth * 4)));
      } else {
        lines_.push_back(At(global, ir().CreateMul(I64Of(column), b_.I64(s_.depth * 4))));
      }
    }
  }

  // Starts to copy the slab whose depth begins at `depth`, into the place of slab `number`. What lies behind the depth
  // is anything.
  void Fetch(int number, IrValue depth, bool clamped) {
    const int64_t place = int64_t{number % s_.stages} * kSlabBytes;
    for (int copy = 0; copy < kCopies; ++copy) {
      IrValue from = nullptr;
      if (s_.by_columns) {
        IrValue k = ir().CreateAdd(depth, in_line_);
        if (clamped) k = Clamp(k, s_.depth - 4);
        from = At(lines_[static_cast<size_t>(copy)], ir().CreateMul(I64Of(k), b_.I64(4)));
      } else {
        IrValue k = ir().CreateAdd(depth, ir().CreateAdd(copy_line_, I32(copy * kCopyLines)));
        if (clamped) k = Clamp(k, s_.depth - 1);
        from = At(lines_[0], ir().CreateMul(I64Of(k), b_.I64(s_.columns * 4)));
      }
      DeviceOp(b_, "nv.cp_async.16", {At(copy_to_[static_cast<size_t>(copy)], place), from});
    }
    DeviceOp(b_, "nv.cp_async.commit", {});
  }

  void PrepareReads() {
    if (!s_.by_columns) {
      reads_.push_back(At(ring_, ir().CreateMul(lane_, I32(4))));
      return;
    }
    IrValue turn = ir().CreateAnd(lane_, I32(kLinePieces - 1));
    IrValue line = At(ring_, ir().CreateMul(lane_, I32(kLineBytes)));
    for (int piece = 0; piece < kLinePieces; ++piece) {
      reads_.push_back(At(line, ir().CreateMul(ir().CreateXor(turn, I32(piece)), I32(kPiece))));
    }
  }

  // ---- The code of one panel of rows and share of the depth.

  IrValues Piece(unsigned number) {
    IrValues sums(static_cast<size_t>(s_.panel_rows), llvm::ConstantFP::get(ir().getFloatTy(), 0.0));
    const int64_t share = number % s_.splits, row = number / s_.splits * s_.panel_rows;
    const int64_t begin = share * s_.share_depth(), slabs = Slabs(share);
    auto at = s_.elements->begin() + s_.first[number];
    const auto end = s_.elements->begin() + s_.first[number + 1];
    for (int64_t slab = 0; slab < slabs; ++slab) {
      DeviceOp(b_, "nv.cp_async.wait", {I32(s_.stages - 2)});
      b_.Barrier();
      const int64_t depth = begin + slab * kSlab, next = slab + s_.stages - 1;
      if (next < slabs) {
        const int64_t ahead = begin + next * kSlab;
        Fetch(static_cast<int>(next), I32(ahead), ahead + kSlab > s_.depth);
      } else {
        DeviceOp(b_, "nv.cp_async.commit", {});
      }
      const int64_t place = slab % s_.stages * kSlabBytes;
      int64_t held_k = -1, held_piece = -1;
      IrValue held = nullptr, x = nullptr;
      for (; at != end && at->k < depth + kSlab; ++at) {
        const int64_t k = at->k - depth;
        if (at->k != held_k) {
          held_k = at->k;
          if (!s_.by_columns) {
            x = ir().CreateAlignedLoad(ir().getFloatTy(), At(reads_[0], place + k * kLineBytes), llvm::Align(4));
          } else {
            if (k / 4 != held_piece) {
              held_piece = k / 4;
              held = ir().CreateAlignedLoad(llvm::FixedVectorType::get(ir().getFloatTy(), 4),
                                            At(reads_[static_cast<size_t>(held_piece)], place), llvm::Align(kPiece));
            }
            x = ir().CreateExtractElement(held, static_cast<uint64_t>(k % 4));
          }
        }
        IrValue weight = llvm::ConstantFP::get(ir().getFloatTy(), llvm::APFloat(at->weight));
        IrValue& sum = sums[static_cast<size_t>(at->row - row)];
        sum = ir().CreateIntrinsic(llvm::Intrinsic::fma, {sum->getType()}, {x, weight, sum});
      }
    }
    return sums;
  }

  // ---- The way out.

  // `values` follow each other along a line of Y, or of the share's partial sums; there are `lines` of `length`.
  void Store(IrValue line, int64_t lines, IrValue along, int64_t length, IrValue value) {
    IrValue there = ir().CreateAnd(ir().CreateICmpULT(line, I32(lines)), ir().CreateICmpULT(along, I32(length)));
    b_.If("inside", there, [&] {
      IrValue line64 = I64Of(line), along64 = I64Of(along);
      if (s_.splits == 1) {
        EpilogueEmitter(b_, epilogue_, 1).Store(value, line64, along64);
        return;
      }
      line64 = ir().CreateAdd(ir().CreateMul(I64Of(share_), b_.I64(lines)), line64);
      b_.Store(b_.arg(1), ir().CreateAdd(ir().CreateMul(line64, b_.I64(length)), along64), DType::kF32, value);
    });
  }

  void FinishRows(const IrValues& sums) {
    IrValue column = ir().CreateAdd(first_column_, lane_);
    for (int row = 0; row < s_.panel_rows; ++row) {
      Store(ir().CreateAdd(first_row_, I32(row)), s_.rows, column, s_.columns, sums[static_cast<size_t>(row)]);
    }
  }

  // By way of shared memory, so that neighbouring lanes write neighbouring rows of a column.
  void FinishColumns(const IrValues& sums) {
    const int pieces = s_.panel_rows / 4;
    llvm::Type* four = llvm::FixedVectorType::get(ir().getFloatTy(), 4);
    DeviceOp(b_, "nv.cp_async.wait_all", {});
    DeviceOp(b_, "gpu.warp_barrier", {});
    IrValue mine = At(ring_, ir().CreateMul(lane_, I32(SumsPitch(s_))));
    for (int piece = 0; piece < pieces; ++piece) {
      IrValue value = llvm::PoisonValue::get(four);
      for (uint64_t k = 0; k < 4; ++k) value = ir().CreateInsertElement(value, sums[piece * 4 + k], k);
      ir().CreateAlignedStore(value, At(mine, int64_t{piece} * kPiece), llvm::Align(kPiece));
    }
    DeviceOp(b_, "gpu.warp_barrier", {});
    const int at_once = pieces % 4 == 0 ? 4 : 2;
    b_.For("column", b_.I64(0), b_.I64(pieces), at_once, [&](IrValue pass) {
      for (int u = 0; u < at_once; ++u) {
        IrValue number = ir().CreateAdd(ir().CreateTrunc(pass, ir().getInt32Ty()), I32(u));
        number = ir().CreateAdd(ir().CreateMul(number, I32(kWarp)), lane_);
        IrValue column = ir().CreateUDiv(number, I32(pieces)), piece = ir().CreateURem(number, I32(pieces));
        IrValue at = ir().CreateMul(column, I32(SumsPitch(s_)));
        at = ir().CreateAdd(at, ir().CreateMul(piece, I32(kPiece)));
        IrValue value = ir().CreateAlignedLoad(four, At(ring_, at), llvm::Align(kPiece));
        IrValue row = ir().CreateAdd(first_row_, ir().CreateMul(piece, I32(4)));
        column = ir().CreateAdd(first_column_, column);
        if (s_.y_vector == 4) {
          b_.AssumeAligned(true);
          Store(column, s_.columns, row, s_.rows, value);
          b_.AssumeAligned(false);
          continue;
        }
        for (uint64_t k = 0; k < 4; ++k) {
          Store(column, s_.columns, ir().CreateAdd(row, I32(static_cast<int64_t>(k))), s_.rows,
                ir().CreateExtractElement(value, k));
        }
      }
    });
  }

  KernelBuilder& b_;
  const GpuLiteral& s_;
  const TileEpilogue& epilogue_;
  IrValue lane_ = nullptr, ring_ = nullptr, share_ = nullptr, first_row_ = nullptr, first_column_ = nullptr;
  IrValue in_line_ = nullptr, copy_line_ = nullptr;
  IrValues copy_to_, lines_, reads_;
};

}  // namespace

int64_t GpuLiteral::share_depth() const { return DivideUp(DivideUp(depth, int64_t{splits}), int64_t{kSlab}) * kSlab; }
int64_t GpuLiteral::shared_bytes() const {
  const int64_t sums = by_columns ? kWarp * SumsPitch(*this) : 0;
  return block_columns / kWarp * std::max<int64_t>(int64_t{stages} * kSlabBytes, sums);
}
std::string GpuLiteral::Way() const { return internal::Join("literal ", panel_rows, "x", block_columns, "/", splits); }
std::string GpuLiteral::Key() const {
  return internal::Join("gpu ", Way(), " of ", rows, "x", depth, "x", columns,
                        by_columns ? " by columns " : " by rows ", y_vector, " stages ", stages, " weights ", digest);
}

KernelSpec GpuLiteralKernel(const GpuLiteral& literal, const TileEpilogue& epilogue) {
  KernelSpec kernel;
  kernel.family = "literal";
  kernel.num_args = literal.splits > 1 ? 2 : 1 + epilogue.num_args();
  kernel.block_threads = literal.block_columns;
  kernel.blocks_per_unit = 1;
  kernel.key = literal.Key();
  if (literal.splits == 1) kernel.key += " " + epilogue.Key();
  kernel.emit = [literal, epilogue](KernelBuilder& b) { LiteralEmitter(b, literal, epilogue).Emit(); };
  return kernel;
}

}  // namespace tessera
