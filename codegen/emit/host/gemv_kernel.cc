#include "codegen/emit/host/gemv_kernel.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "base/round.h"
#include "codegen/emit/int8_dot.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace tessera {
namespace {

// Multiply-adds that are under way at once: one starts each cycle and takes four.
constexpr int kSumsInFlight = 4;
// Vectors of one trip of the loop over a dense group.
constexpr int kUnroll = 8;

// Bytes of one element of x.
int ElementBytes(const GemvFormat& format) { return format.unit == GemvUnit::kF32 ? 4 : 1; }

// From one column of x to the next in scratch: windows, and a register of zeros, fit behind it.
int64_t ColumnStride(const GemvShape& shape, const GemvFormat& format) {
  return RoundUp(shape.depth * ElementBytes(format), 64) + kWindowBytes + 64;
}

class GemvEmitter {
 public:
  GemvEmitter(KernelBuilder& b, const GemvShape& shape, const GemvFormat& format, const TileEpilogue& epilogue)
      : b_(b), shape_(shape), f_(format), epilogue_(epilogue), lanes_(format.lanes) {
    sum_type_ = f_.unit == GemvUnit::kF32 ? DType::kF32 : DType::kI32;
    copies_ = std::max<int>(1, kSumsInFlight / static_cast<int>(shape.columns));
    if (f_.kind == GemvKind::kScattered) copies_ = std::min(copies_, f_.steps());
  }

  void Emit() {
    b_.If("any", ir().CreateICmpSLT(b_.begin(), b_.end()), [&] {
      for (int64_t m = 0; m < shape_.columns; ++m) CopyColumn(m);
      b_.For("task", b_.begin(), b_.end(), 1, [&](IrValue task) {
        IrValue first = LoadI32(b_.arg(2), task), last = LoadI32(b_.arg(2), Plus(task, b_.I64(1)));
        b_.For("group", first, last, 1, [&](IrValue group) { EmitGroup(group); });
      });
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  IrValue At(IrValue pointer, IrValue bytes) { return ir().CreateInBoundsGEP(ir().getInt8Ty(), pointer, bytes); }
  IrValue At(IrValue pointer, int64_t bytes) { return At(pointer, b_.I64(bytes)); }
  IrValue LoadI32(IrValue pointer, IrValue index) {
    return ir().CreateSExt(b_.Load(pointer, index, DType::kI32, 1), ir().getInt64Ty());
  }
  IrValue LoadPlace(IrValue index) {
    return ir().CreateZExt(b_.Load(b_.arg(4), index, DType::kU16, 1), ir().getInt64Ty());
  }
  llvm::FixedVectorType* Words() { return llvm::FixedVectorType::get(ir().getInt32Ty(), lanes_); }
  llvm::FixedVectorType* Bytes() { return llvm::FixedVectorType::get(ir().getInt8Ty(), lanes_ * 4); }
  IrValue LoadVector(llvm::Type* type, IrValue pointer, int align) {
    return ir().CreateAlignedLoad(type, pointer, llvm::Align(align));
  }
  // A vector of the stream.
  IrValue LoadStream(IrValue pointer, int64_t bytes) {
    return LoadVector(Words(), At(pointer, bytes), f_.vector_bytes());
  }
  IrValue Column(int64_t m) { return At(b_.scratch(), m * ColumnStride(shape_, f_)); }

  // x's column m to scratch, whole registers at a time; the last of them overlaps the one before. Zeros behind.
  void CopyColumn(int64_t m) {
    const int64_t bytes = shape_.depth * ElementBytes(f_), step = f_.vector_bytes();
    IrValue from = At(b_.arg(0), m * bytes), to = Column(m);
    const auto copy = [&](IrValue at, llvm::Type* type) {
      ir().CreateAlignedStore(LoadVector(type, At(from, at), 1), At(to, at), llvm::Align(1));
    };
    if (bytes >= step) {
      b_.For("copy", b_.I64(0), b_.I64(bytes / step * step), step, [&](IrValue at) { copy(at, Bytes()); });
      if (bytes % step != 0) copy(b_.I64(bytes - step), Bytes());
    } else {
      // Two of the largest power of two that overlap.
      const auto part = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes)));
      copy(b_.I64(0), llvm::FixedVectorType::get(ir().getInt8Ty(), static_cast<unsigned>(part)));
      if (part < bytes) {
        copy(b_.I64(bytes - part), llvm::FixedVectorType::get(ir().getInt8Ty(), static_cast<unsigned>(part)));
      }
    }
    const int64_t behind = ColumnStride(shape_, f_) - bytes;
    for (int64_t at = 0; at < behind; at += step) {
      IrValue place = At(to, bytes + std::min(at, behind - step));
      ir().CreateAlignedStore(llvm::Constant::getNullValue(Bytes()), place, llvm::Align(1));
    }
  }

  void EmitGroup(IrValue group) {
    IrValues sums(shape_.columns * copies_, b_.Zero(sum_type_, lanes_));
    switch (f_.kind) {
      case GemvKind::kDense: sums = EmitDense(group, sums); break;
      case GemvKind::kColumns: sums = EmitColumns(group, sums); break;
      case GemvKind::kScattered: sums = EmitScattered(group, sums); break;
    }
    IrValue row = Times(group, lanes_), mask = nullptr;
    if (shape_.rows % lanes_ != 0) mask = b_.MaskBelow(ir().CreateSub(b_.I64(shape_.rows), row), lanes_);
    EpilogueEmitter finish(b_, epilogue_, GemvFirstEpilogueArg(f_));
    for (int64_t m = 0; m < shape_.columns; ++m) {
      for (int have = copies_; have > 1;) {
        const int half = (have + 1) / 2;
        for (int c = half; c < have; ++c) {
          IrValue& sum = Sum(sums, m, c - half);
          IrValue other = Sum(sums, m, c);
          sum = sum_type_ == DType::kF32 ? ir().CreateFAdd(sum, other) : ir().CreateAdd(sum, other);
        }
        have = half;
      }
      IrValue sum = Sum(sums, m, 0);
      if (f_.value_bits == 4) sum = ir().CreateAShr(sum, 4);
      finish.Store(sum, b_.I64(m), row, mask);
    }
  }

  IrValue& Sum(IrValues& sums, int64_t m, int copy) { return sums[m * copies_ + copy]; }

  IrValue MultiplyAdd(IrValue sum, IrValue x, IrValue w) {
    if (sum_type_ == DType::kF32) {
      llvm::Type* floats = b_.VectorType(DType::kF32, lanes_);
      return b_.Fma(ir().CreateBitCast(x, floats), ir().CreateBitCast(w, floats), sum);
    }
    return EmitDotBytes(b_, sum, ir().CreateBitCast(x, Words()), ir().CreateBitCast(w, Words()));
  }

  // The `count` vectors of values from `pointer` on; of 4 bits two in each of memory, as the upper halves of bytes.
  IrValues LoadValues(IrValue pointer, int count) {
    IrValues values;
    for (int v = 0; v < count / f_.shared(); ++v) {
      IrValue vector = LoadStream(pointer, int64_t{v} * f_.vector_bytes());
      if (f_.value_bits != 4) {
        values.push_back(vector);
        continue;
      }
      IrValue high = llvm::ConstantInt::get(Words(), 0xf0f0f0f0u);
      values.push_back(ir().CreateAnd(ir().CreateShl(vector, 4), high));
      values.push_back(ir().CreateAnd(vector, high));
    }
    return values;
  }

  // sums += splat(x[unit]) * value for `count` vectors whose units are `units`.
  void AddVectors(IrValues& sums, IrValue pointer, const IrValues& units) {
    const IrValues values = LoadValues(pointer, static_cast<int>(units.size()));
    for (size_t v = 0; v < units.size(); ++v) {
      for (int64_t m = 0; m < shape_.columns; ++m) {
        IrValue x = b_.Splat(
            ir().CreateAlignedLoad(ir().getInt32Ty(), At(Column(m), Times(units[v], 4)), llvm::Align(1)), lanes_);
        IrValue& sum = Sum(sums, m, static_cast<int>(v) % copies_);
        sum = MultiplyAdd(sum, x, values[v]);
      }
    }
  }

  // Vectors [first, first + count) of the stream, whose units `unit_of` gives; the rest of a trip one by one (of 4
  // bits, in twos).
  IrValues VectorLoop(IrValue first, IrValue end, IrValues sums, const std::function<IrValue(IrValue)>& unit_of) {
    const auto trip = [&](const char* name, IrValue from, IrValue to, int count) {
      sums = b_.For(name, from, to, count, sums, [&](IrValue j, const IrValues& carried) {
        IrValues next = carried, units;
        for (int v = 0; v < count; ++v) units.push_back(unit_of(Plus(j, b_.I64(v))));
        IrValue at = f_.shared() == 1 ? j : ir().CreateLShr(j, 1);
        AddVectors(next, At(b_.arg(1), Times(at, f_.vector_bytes())), units);
        return next;
      });
    };
    IrValue rest = ir().CreateAnd(ir().CreateSub(end, first), b_.I64(kUnroll - 1));
    IrValue whole = ir().CreateSub(end, rest);
    trip("vectors", first, whole, kUnroll);
    trip("vector", whole, end, f_.shared());
    return sums;
  }

  IrValues EmitDense(IrValue group, IrValues sums) {
    const int64_t units = RoundUp((shape_.depth + f_.elements() - 1) / f_.elements(), f_.shared());
    IrValue first = Times(group, units);
    return VectorLoop(first, Plus(first, b_.I64(units)), std::move(sums),
                      [&](IrValue j) { return ir().CreateSub(j, first, "", true, true); });
  }

  IrValues EmitColumns(IrValue group, IrValues sums) {
    IrValue first = LoadI32(b_.arg(3), group), end = LoadI32(b_.arg(3), Plus(group, b_.I64(1)));
    return VectorLoop(first, end, std::move(sums), [&](IrValue j) { return LoadPlace(j); });
  }

  IrValues EmitScattered(IrValue group, IrValues sums) {
    IrValue first = LoadI32(b_.arg(3), group), end = LoadI32(b_.arg(3), Plus(group, b_.I64(1)));
    return b_.For("bundle", first, end, 1, sums, [&](IrValue bundle, const IrValues& carried) {
      IrValues next = carried;
      IrValue at = At(b_.arg(1), Times(bundle, f_.bundle_bytes()));
      const IrValues values = LoadValues(At(at, f_.index_bytes()), f_.steps());
      IrValue window = Times(LoadPlace(bundle), int64_t{kWindowAlign} * f_.unit_bytes());
      for (int64_t m = 0; m < shape_.columns; ++m) {
        IrValue x = At(Column(m), window);
        const IrValues taken = f_.unit == GemvUnit::kByte ? TakeBytes(x, at) : TakeUnits(x, at);
        for (int step = 0; step < f_.steps(); ++step) {
          IrValue& sum = Sum(next, m, step % copies_);
          sum = MultiplyAdd(sum, taken[step], values[step]);
        }
      }
      return next;
    });
  }

  IrValue Intrinsic(llvm::Intrinsic::ID id, const IrValues& args) { return ir().CreateIntrinsic(id, {}, args); }

  // Each step's bytes of x, by its own vector of indices.
  IrValues TakeBytes(IrValue x, IrValue indices) {
    IrValue low = LoadVector(Bytes(), x, 1), high = LoadVector(Bytes(), At(x, 64), 1);
    IrValues taken;
    for (int step = 0; step < f_.steps(); ++step) {
      IrValue index = ir().CreateBitCast(LoadStream(indices, int64_t{step} * f_.vector_bytes()), Bytes());
      taken.push_back(Intrinsic(llvm::Intrinsic::x86_avx512_vpermi2var_qi_512, {low, index, high}));
    }
    return taken;
  }

  // Each step's units of x, by one byte of the only vector of indices: 5 bits that permute, and one that chooses
  // between the halves of the window.
  IrValues TakeUnits(IrValue x, IrValue indices) {
    IrValues window;
    for (int r = 0; r < 4; ++r) {
      IrValue from = At(x, int64_t{r} * 64);
      if (r < 3 || f_.unit != GemvUnit::kF32) {
        window.push_back(LoadVector(Words(), from, 4));
        continue;
      }
      // The 64th unit is the zero of padding.
      IrValue mask = llvm::ConstantInt::get(ir().getInt16Ty(), 0x7fff);
      mask = ir().CreateBitCast(mask, llvm::FixedVectorType::get(ir().getInt1Ty(), 16));
      window.push_back(
          ir().CreateMaskedLoad(Words(), from, llvm::Align(4), mask, llvm::Constant::getNullValue(Words())));
    }
    IrValue all = LoadStream(indices, 0);
    IrValues taken;
    for (int step = 0; step < f_.steps(); ++step) {
      IrValue index = step == 0 ? all : ir().CreateLShr(all, 8 * step);
      const auto permute = [&](int r) {
        return Intrinsic(llvm::Intrinsic::x86_avx512_vpermi2var_d_512, {window[r], index, window[r + 1]});
      };
      // Asked of the vector before it is shifted, so that the mask does not wait for that.
      IrValue bit = llvm::ConstantInt::get(Words(), uint64_t{32} << (8 * step));
      IrValue upper = ir().CreateICmpNE(ir().CreateAnd(all, bit), llvm::Constant::getNullValue(Words()));
      taken.push_back(ir().CreateSelect(upper, permute(2), permute(0)));
    }
    return taken;
  }

  KernelBuilder& b_;
  const GemvShape& shape_;
  const GemvFormat& f_;
  const TileEpilogue& epilogue_;
  const int lanes_;
  DType sum_type_;
  int copies_;  // of each column's sums
};

}  // namespace

std::string GemvShape::Key() const { return internal::Join(rows, "x", columns, "x", depth); }

bool HasGemv(const Target& target, const GemvFormat& format) {
  if (format.lanes != target.Lanes(32)) return false;
  if (format.kind != GemvKind::kScattered) return true;
  return target.has_avx512 && (format.unit != GemvUnit::kByte || target.has_vbmi);
}

int64_t GemvScratchBytes(const GemvShape& shape, const GemvFormat& format) {
  return shape.columns * ColumnStride(shape, format);
}

int GemvFirstEpilogueArg(const GemvFormat& format) { return format.kind == GemvKind::kDense ? 3 : 5; }

void EmitGemv(KernelBuilder& b, const GemvShape& shape, const GemvFormat& format, const TileEpilogue& epilogue) {
  GemvEmitter(b, shape, format, epilogue).Emit();
}

}  // namespace tessera
