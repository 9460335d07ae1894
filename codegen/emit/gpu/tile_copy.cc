#include "codegen/emit/gpu/tile_copy.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr unsigned kGlobalSpace = 1;
constexpr int64_t kMostTaps = 15;  // of an axis; bit 15 of a mask is never set

}  // namespace

std::string TileOperand::Key() const {
  const std::string of = windows ? " windows " + windows->Key() : "";
  return internal::Join(Name(type), of, depth_inner ? " depth inner " : " depth outer ", lines, "x", run, "/", pitch,
                        rounds ? " rounded by " : " by ", granule, " tile ", tile_lines, "x", tile_run);
}

int GranuleOf(DType type, int64_t pitch, int64_t offset) {
  const int64_t bytes = TypeInfo(type).bits / 8;
  int64_t granule = kPieceBytes;
  while (granule > bytes && (pitch * bytes % granule != 0 || offset % granule != 0)) granule /= 2;
  return static_cast<int>(granule);
}

bool CanGatherWindows(const ConvGeometry& g, std::string* why) {
  if (g.pad_value != 0 && !(g.y.inside() && g.x.inside())) {
    *why = internal::Join("what lies outside the image is ", g.pad_value);
  } else if (std::max(g.y.taps, g.x.taps) > kMostTaps) {
    *why = internal::Join("more than ", kMostTaps, " taps of an axis");
  } else if (g.batch * g.y.in * g.x.in * g.all_in_channels() > int64_t{1} << 29) {
    *why = "too large for 32-bit indices";
  } else {
    return true;
  }
  return false;
}

TileCopy::TileCopy(KernelBuilder& b, const TileOperand& operand, int threads, IrValue matrix, IrValue first)
    : b_(b),
      operand_(operand),
      threads_(threads),
      asynchronous_(operand.granule >= 4 && b.target().has_async_copy),
      matrix_(matrix),
      first_(first) {
  pieces_ = operand.line_bytes() / kPieceBytes;
  TES_CHECK(operand.line_bytes() % 128 == 0, operand.Key());
  passes_ = (operand.tile_lines * pieces_ + threads - 1) / threads;
  thread_ = b.ThreadId();
  line_ = ir().CreateUDiv(thread_, I32(pieces_), "line");
  piece_ = ir().CreateURem(thread_, I32(pieces_), "piece");
  if (asynchronous_) matrix_ = ir().CreateAddrSpaceCast(matrix_, llvm::PointerType::get(b.context(), kGlobalSpace));
  if (operand_.windows) FindWindows();
}

IrValue TileCopy::NothingHeld(KernelBuilder& b) {
  return llvm::Constant::getNullValue(llvm::FixedVectorType::get(b.ir().getInt32Ty(), 4));
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

IrValues TileCopy::Fetch(IrValue depth, IrValue stage, IrValue first) {
  if (operand_.windows) return FetchWindows(depth, stage);
  if (first == nullptr) first = first_;
  const int bytes = operand_.element_bytes(), step = threads_ / pieces_;
  llvm::Type* i64 = ir().getInt64Ty();
  IrValue line = ir().CreateAdd(operand_.depth_inner ? first : depth, line_);
  IrValue along =
      ir().CreateAdd(operand_.depth_inner ? depth : first, ir().CreateMul(piece_, I32(kPieceBytes / bytes)));
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
    return ir().CreateSelect(ir().CreateICmpSGT(bytes_left, I32(0)), piece, NothingHeld(b_));
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

void TileCopy::FindWindows() {
  const ConvGeometry& g = *operand_.windows;
  const int step = threads_ / pieces_;
  const bool inside = g.y.inside() && g.x.inside(),
             whole = operand_.lines % operand_.tile_lines == 0 && operand_.run % operand_.tile_run == 0;
  for (int j = 0; j < passes_; ++j) {
    IrValue pixel = ir().CreateAdd(first_, ir().CreateAdd(line_, I32(int64_t{j} * step)));
    IrValue there = ir().CreateICmpULT(pixel, I32(operand_.lines));
    // Lines behind the last one are the last one; their pieces are zeros by the mask.
    pixel = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, pixel, I32(operand_.lines - 1));
    IrValue row = ir().CreateUDiv(pixel, I32(g.x.out)), ox = ir().CreateURem(pixel, I32(g.x.out));
    IrValue image = ir().CreateUDiv(row, I32(g.y.out)), oy = ir().CreateURem(row, I32(g.y.out));
    IrValue y = ir().CreateSub(ir().CreateMul(oy, I32(g.y.stride)), I32(g.y.pad));
    IrValue x = ir().CreateSub(ir().CreateMul(ox, I32(g.x.stride)), I32(g.x.pad));
    IrValue base = ir().CreateAdd(ir().CreateMul(image, I32(g.y.in)), y);
    base = ir().CreateAdd(ir().CreateMul(base, I32(g.x.in)), x);
    base_.push_back(ir().CreateMul(base, I32(g.all_in_channels())));
    if (inside && whole) continue;
    IrValue mask = I32(0);
    const auto add = [&](const ConvAxis& axis, IrValue at, int first_bit) {
      for (int64_t tap = 0; tap < axis.taps; ++tap) {
        IrValue within = ir().CreateICmpULT(ir().CreateAdd(at, I32(tap * axis.dilation)), I32(axis.in));
        mask = ir().CreateOr(mask, ir().CreateSelect(within, I32(int64_t{1} << (first_bit + tap)), I32(0)));
      }
    };
    add(g.y, y, 0);
    add(g.x, x, 16);
    mask_.push_back(ir().CreateSelect(there, mask, I32(0)));
  }
}

std::vector<TileCopy::WindowPart> TileCopy::PartsOf(IrValue depth) {
  const ConvGeometry& g = *operand_.windows;
  const int bytes = operand_.element_bytes(), of_part = operand_.granule / bytes;
  std::vector<WindowPart> parts;
  for (int at = 0; at < kPieceBytes / bytes; at += of_part) {
    IrValue place = ir().CreateAdd(depth, ir().CreateAdd(ir().CreateMul(piece_, I32(kPieceBytes / bytes)), I32(at)));
    IrValue tap = ir().CreateUDiv(place, I32(g.in_channels)), channel = ir().CreateURem(place, I32(g.in_channels));
    IrValue ky = ir().CreateUDiv(tap, I32(g.x.taps)), kx = ir().CreateURem(tap, I32(g.x.taps));
    IrValue offset =
        ir().CreateAdd(ir().CreateMul(ky, I32(g.y.dilation * g.x.in)), ir().CreateMul(kx, I32(g.x.dilation)));
    WindowPart part = {.offset = ir().CreateAdd(ir().CreateMul(offset, I32(g.all_in_channels())), channel)};
    if (!mask_.empty()) {
      // Behind the depth there are no taps.
      part.y_bit = ir().CreateBinaryIntrinsic(llvm::Intrinsic::umin, ky, I32(kMostTaps));
      part.x_bit = ir().CreateAdd(kx, I32(16));
    }
    parts.push_back(part);
  }
  return parts;
}

IrValue TileCopy::Inside(const WindowPart& part, int j) {
  if (mask_.empty()) return nullptr;
  IrValue both = ir().CreateAnd(ir().CreateLShr(mask_[j], part.y_bit), ir().CreateLShr(mask_[j], part.x_bit));
  return ir().CreateTrunc(both, ir().getInt1Ty());
}

IrValues TileCopy::FetchWindows(IrValue depth, IrValue stage) {
  const std::vector<WindowPart> parts = PartsOf(depth);
  const int granule = operand_.granule;
  const std::string op = internal::Join("nv.cp_async.", granule);
  IrValues held;
  for (int j = 0; j < passes_; ++j) {
    if (!asynchronous_) {
      held.push_back(LoadWindowPiece(parts, j));
      continue;
    }
    const auto copy = [&] {
      IrValue to = To(stage, j);
      for (size_t k = 0; k < parts.size(); ++k) {
        IrValue element = ir().CreateSExt(ir().CreateAdd(base_[j], parts[k].offset), ir().getInt64Ty());
        IrValue from =
            ir().CreateGEP(ir().getInt8Ty(), matrix_, ir().CreateMul(element, b_.I64(operand_.element_bytes())));
        IrValue to_part = ir().CreateConstGEP1_32(ir().getInt8Ty(), to, static_cast<unsigned>(k) * granule);
        IrValue inside = Inside(parts[k], j);
        if (inside == nullptr) {
          DeviceOp(b_, op, {to_part, from});
        } else {
          DeviceOp(b_, op + ".zfill", {to_part, from, ir().CreateSelect(inside, I32(granule), I32(0))});
        }
      }
    };
    if (IrValue takes = Takes(j); takes != nullptr) {
      b_.If("piece", takes, copy);
    } else {
      copy();
    }
  }
  return held;
}

IrValue TileCopy::LoadWindowPiece(const std::vector<WindowPart>& parts, int j) {
  const int granule = operand_.granule;
  llvm::Type* words = llvm::FixedVectorType::get(ir().getInt32Ty(), 4);
  llvm::Type* part_type = granule == kPieceBytes ? words : ir().getIntNTy(static_cast<unsigned>(granule * 8));
  IrValue piece = llvm::PoisonValue::get(llvm::FixedVectorType::get(
      ir().getIntNTy(static_cast<unsigned>(std::min(granule, 8) * 8)), static_cast<unsigned>(parts.size())));
  for (size_t k = 0; k < parts.size(); ++k) {
    IrValue element = ir().CreateSExt(ir().CreateAdd(base_[j], parts[k].offset), ir().getInt64Ty());
    IrValue from = ir().CreateGEP(ir().getInt8Ty(), matrix_, ir().CreateMul(element, b_.I64(operand_.element_bytes())));
    IrValue inside = Inside(parts[k], j);
    // Outside, the image's first bytes are read instead: those are always there.
    if (inside != nullptr) from = ir().CreateSelect(inside, from, matrix_);
    IrValue part = ir().CreateAlignedLoad(part_type, from, llvm::Align(static_cast<uint64_t>(granule)));
    if (inside != nullptr) part = ir().CreateSelect(inside, part, llvm::Constant::getNullValue(part_type));
    if (granule == kPieceBytes) return part;
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
