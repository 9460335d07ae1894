#include "codegen/emit/gpu/tile_copy.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr unsigned kGlobalSpace = 1;

}  // namespace

std::string TileOperand::Key() const {
  return internal::Join(Name(type), depth_inner ? " depth inner " : " depth outer ", lines, "x", run, "/", pitch,
                        rounds ? " rounded by " : " by ", granule, " tile ", tile_lines, "x", tile_run);
}

int GranuleOf(DType type, int64_t pitch, int64_t offset) {
  const int64_t bytes = TypeInfo(type).bits / 8;
  int64_t granule = kPieceBytes;
  while (granule > bytes && (pitch * bytes % granule != 0 || offset % granule != 0)) granule /= 2;
  return static_cast<int>(granule);
}

TileCopy::TileCopy(KernelBuilder& b, const TileOperand& operand, int threads, IrValue matrix, IrValue first)
    : b_(b),
      operand_(operand),
      threads_(threads),
      asynchronous_(operand.granule >= 4 && b.target().capability >= 80),
      matrix_(matrix),
      first_(first) {
  pieces_ = operand.line_bytes() / kPieceBytes;
  TES_CHECK(operand.line_bytes() % 128 == 0, operand.Key());
  passes_ = (operand.tile_lines * pieces_ + threads - 1) / threads;
  thread_ = b.ThreadId();
  line_ = ir().CreateUDiv(thread_, I32(pieces_), "line");
  piece_ = ir().CreateURem(thread_, I32(pieces_), "piece");
  if (asynchronous_) matrix_ = ir().CreateAddrSpaceCast(matrix_, llvm::PointerType::get(b.context(), kGlobalSpace));
}

IrValue TileCopy::NothingHeld() {
  return llvm::Constant::getNullValue(llvm::FixedVectorType::get(ir().getInt32Ty(), 4));
}

IrValue TileCopy::Takes(int j) {
  const int total = operand_.tile_lines * pieces_;
  if ((j + 1) * threads_ <= total) return nullptr;
  return ir().CreateICmpULT(thread_, I32(total - j * threads_));
}

IrValue TileCopy::To(IrValue stage, int j) {
  // Threads are a multiple of the pieces of a line, so that a thread's piece has one number in all passes.
  TES_CHECK(threads_ % pieces_ == 0, threads_, " threads, ", pieces_, " pieces");
  const int step = threads_ / pieces_;
  IrValue turn = ir().CreateAnd(step % 8 == 0 ? line_ : ir().CreateAdd(line_, I32(j * step)), I32(7));
  IrValue at = ir().CreateMul(line_, I32(operand_.line_bytes()));
  at = ir().CreateAdd(at, ir().CreateMul(ir().CreateXor(piece_, turn), I32(kPieceBytes)));
  at = ir().CreateAdd(at, I32(int64_t{j} * step * operand_.line_bytes()));
  return ir().CreateGEP(ir().getInt8Ty(), stage, at);
}

IrValues TileCopy::Fetch(IrValue depth, IrValue stage) {
  const int bytes = operand_.element_bytes(), step = threads_ / pieces_;
  llvm::Type* i64 = ir().getInt64Ty();
  IrValue line = ir().CreateAdd(operand_.depth_inner ? first_ : depth, line_);
  IrValue along =
      ir().CreateAdd(operand_.depth_inner ? depth : first_, ir().CreateMul(piece_, I32(kPieceBytes / bytes)));
  IrValue element =
      ir().CreateAdd(ir().CreateMul(ir().CreateZExt(line, i64), b_.I64(operand_.pitch)), ir().CreateZExt(along, i64));
  IrValue from = ir().CreateGEP(ir().getInt8Ty(), matrix_, ir().CreateMul(element, b_.I64(bytes)));
  // Bytes of this thread's piece that the line still has; all of them where tiles divide the line.
  IrValue left = nullptr;
  if (operand_.run % operand_.tile_run != 0) {
    left = ir().CreateMul(ir().CreateSub(I32(operand_.run), along), I32(bytes));
    left = ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, left, I32(0));
    left = ir().CreateBinaryIntrinsic(llvm::Intrinsic::smin, left, I32(kPieceBytes));
  }
  IrValues held;
  for (int j = 0; j < passes_; ++j) {
    IrValue bytes_left = left;
    if (operand_.lines % operand_.tile_lines != 0) {
      IrValue there = ir().CreateICmpULT(ir().CreateAdd(line, I32(int64_t{j} * step)), I32(operand_.lines));
      bytes_left = ir().CreateSelect(there, left == nullptr ? I32(kPieceBytes) : left, I32(0));
    }
    IrValue piece = ir().CreateGEP(ir().getInt8Ty(), from, b_.I64(int64_t{j} * step * operand_.pitch * bytes));
    IrValue takes = Takes(j);
    if (asynchronous_) {
      const auto copy = [&] { CopyPiece(piece, To(stage, j), bytes_left); };
      if (takes == nullptr) {
        copy();
      } else {
        b_.If("piece", takes, copy);
      }
      continue;
    }
    if (takes != nullptr) bytes_left = ir().CreateSelect(takes, bytes_left == nullptr ? I32(16) : bytes_left, I32(0));
    held.push_back(LoadPiece(piece, bytes_left));
  }
  return held;
}

void TileCopy::CopyPiece(IrValue from, IrValue to, IrValue bytes_left) {
  const int granule = operand_.granule;
  const std::string op = internal::Join("nv.cp_async.", granule);
  for (int at = 0; at < kPieceBytes; at += granule) {
    IrValue to_part = ir().CreateConstGEP1_32(ir().getInt8Ty(), to, static_cast<unsigned>(at));
    IrValue from_part = ir().CreateConstGEP1_32(ir().getInt8Ty(), from, static_cast<unsigned>(at));
    if (bytes_left == nullptr) {
      DeviceOp(b_, op, {to_part, from_part});
      continue;
    }
    IrValue part = bytes_left;
    if (granule < kPieceBytes) {
      part = ir().CreateSub(part, I32(at));
      part = ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, part, I32(0));
      part = ir().CreateBinaryIntrinsic(llvm::Intrinsic::smin, part, I32(granule));
    }
    DeviceOp(b_, op + ".zfill", {to_part, from_part, part});
  }
}

IrValue TileCopy::LoadPiece(IrValue from, IrValue bytes_left) {
  const int granule = operand_.granule;
  llvm::Type* part_type = ir().getIntNTy(static_cast<unsigned>(std::min(granule, 4) * 8));
  llvm::Type* words = llvm::FixedVectorType::get(ir().getInt32Ty(), 4);
  IrValue piece = nullptr;
  if (granule == kPieceBytes) {
    // Outside, the matrix's first bytes are read instead: those are always there.
    if (bytes_left != nullptr) from = ir().CreateSelect(ir().CreateICmpSGT(bytes_left, I32(0)), from, matrix_);
    piece = ir().CreateAlignedLoad(words, from, llvm::Align(kPieceBytes));
    if (bytes_left == nullptr) return piece;
    // A granule that the line ends in is padding behind it, or there is none.
    return ir().CreateSelect(ir().CreateICmpSGT(bytes_left, I32(0)), piece, NothingHeld());
  }
  const int bytes = std::min(granule, 4);
  llvm::Type* vector = llvm::FixedVectorType::get(part_type, static_cast<unsigned>(kPieceBytes / bytes));
  piece = llvm::Constant::getNullValue(vector);
  for (int k = 0; k < kPieceBytes / bytes; ++k) {
    IrValue address = ir().CreateConstGEP1_32(ir().getInt8Ty(), from, static_cast<unsigned>(k * bytes));
    IrValue there = bytes_left == nullptr ? nullptr : ir().CreateICmpSGT(bytes_left, I32(int64_t{k} * bytes));
    if (there != nullptr) address = ir().CreateSelect(there, address, matrix_);
    IrValue part = ir().CreateAlignedLoad(part_type, address, llvm::Align(static_cast<uint64_t>(bytes)));
    if (there != nullptr) part = ir().CreateSelect(there, part, llvm::Constant::getNullValue(part_type));
    piece = ir().CreateInsertElement(piece, part, static_cast<uint64_t>(k));
  }
  return ir().CreateBitCast(piece, words);
}

void TileCopy::Store(const IrValues& held, IrValue stage) {
  for (size_t j = 0; j < held.size(); ++j) {
    const auto store = [&] {
      ir().CreateAlignedStore(held[j], To(stage, static_cast<int>(j)), llvm::Align(kPieceBytes));
    };
    if (IrValue takes = Takes(static_cast<int>(j)); takes != nullptr) {
      b_.If("piece", takes, store);
    } else {
      store();
    }
  }
}

}  // namespace tessera
