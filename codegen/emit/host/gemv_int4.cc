#include "codegen/emit/host/gemv_int4.h"

#include <algorithm>
#include <cstring>

#include "base/round.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace tessera {
namespace {

constexpr int kElements = 8;  // of a word
int64_t WordsOf(int64_t elements) { return DivideUp(elements, kElements); }

}  // namespace

std::optional<Int4Weights> FindInt4(const GemvWeights& weights) {
  if (weights.tensor.dtype() != DType::kF32) return std::nullopt;
  const std::span<const float> data = weights.tensor.data<float>();
  return FindInt4(weights.rows, weights.depth, [&](int64_t r, std::span<float> row) {
    for (int64_t k = 0; k < weights.depth; ++k) {
      const int64_t at = r * weights.row_step + k * weights.depth_step;
      row[static_cast<size_t>(k)] = weights.kept.size() == 0 || weights.kept[at] ? data[at] : 0.0f;
    }
  });
}

std::string Int4Schedule::Key() const {
  return internal::Join("int4 lanes ", lanes, " blocks of ", block, offsets ? " offsets" : "");
}

Int4Stream PackInt4(const Int4Weights& w, int lanes) {
  const int64_t groups = DivideUp(w.rows, lanes), blocks = w.blocks_per_row();
  int64_t words = 0;  // of a row
  for (int64_t b = 0; b < blocks; ++b) words += WordsOf(std::min(w.block, w.depth - b * w.block));
  const int64_t scale_step = lanes * (w.offsets ? 2 : 1);
  Int4Stream stream = {.values = Tensor(DType::kU8, Shape({groups * words * lanes * 4})),
                       .scales = Tensor(DType::kF32, Shape({groups * blocks * scale_step})),
                       .tasks = groups};
  const std::span<uint8_t> values = stream.values.mutable_data<uint8_t>();
  const std::span<float> scales = stream.scales.mutable_data<float>();
  for (int64_t r = 0; r < w.rows; ++r) {
    const int64_t group = r / lanes, lane = r % lanes;
    int64_t word = group * words;
    for (int64_t b = 0; b < blocks; ++b) {
      const Int4Block& block = w.blocks[r * blocks + b];
      float* scale = &scales[(group * blocks + b) * scale_step];
      scale[lane] = block.scale;
      if (w.offsets) scale[lanes + lane] = static_cast<float>(block.offset);
      const int64_t first = b * w.block, count = std::min(w.block, w.depth - first);
      for (int64_t e = 0; e < count; ++e) {
        uint8_t& byte = values[((word + e / kElements) * lanes + lane) * 4 + e % kElements / 2];
        byte = static_cast<uint8_t>(byte | (w.elements[r * w.depth + first + e] & 15) << (4 * (e % 2)));
      }
      word += WordsOf(count);
    }
  }
  return stream;
}

double Int4Bytes(const Int4Weights& w, int lanes) {
  const double rows = static_cast<double>(DivideUp(w.rows, lanes) * lanes);
  return rows * (static_cast<double>(w.depth) / 2 + static_cast<double>(w.blocks_per_row()) * (w.offsets ? 8 : 4));
}

double Int4Cycles(const Int4Weights& w, int64_t columns, const Target& target) {
  const double vectors = static_cast<double>(DivideUp(w.rows, target.Lanes(32)) * w.depth);
  const double unpack = (target.has_avx512 ? 0.6 : 2) + (w.offsets ? 0.5 : 0);
  return vectors * target.vector_bits / 512 * (unpack + static_cast<double>(columns));
}

namespace {

class Int4Emitter {
 public:
  Int4Emitter(KernelBuilder& b, const GemvShape& shape, const Int4Schedule& schedule, const TileEpilogue& epilogue)
      : b_(b), shape_(shape), s_(schedule), epilogue_(epilogue), lanes_(schedule.lanes) {
    copies_ = std::max<int>(1, 4 / static_cast<int>(shape.columns));
    blocks_ = DivideUp(shape.depth, s_.block);
    last_ = shape.depth - (blocks_ - 1) * s_.block;
    block_words_ = WordsOf(s_.block);
    words_ = (blocks_ - 1) * block_words_ + WordsOf(last_);
  }

  void Emit() {
    b_.For("group", b_.begin(), b_.end(), 1, [&](IrValue group) {
      IrValues sums(shape_.columns, b_.Zero(DType::kF32, lanes_));
      IrValue word = Times(group, words_), scale = Times(group, blocks_ * ScaleStep());
      if (blocks_ > 1) {
        sums = b_.For("block", b_.I64(0), b_.I64(blocks_ - 1), 1, sums, [&](IrValue block, const IrValues& carried) {
          return EmitBlock(Plus(word, Times(block, block_words_)), Plus(scale, Times(block, ScaleStep())),
                           Times(block, s_.block), s_.block, carried);
        });
      }
      sums = EmitBlock(Plus(word, b_.I64((blocks_ - 1) * block_words_)),
                       Plus(scale, b_.I64((blocks_ - 1) * ScaleStep())), b_.I64((blocks_ - 1) * s_.block), last_, sums);
      IrValue row = Times(group, lanes_), mask = nullptr;
      if (shape_.rows % lanes_ != 0) mask = b_.MaskBelow(ir().CreateSub(b_.I64(shape_.rows), row), lanes_);
      EpilogueEmitter finish(b_, epilogue_, kInt4FirstEpilogueArg);
      for (int64_t m = 0; m < shape_.columns; ++m) finish.Store(sums[m], b_.I64(m), row, mask);
    });
  }

 private:
  llvm::IRBuilder<>& ir() { return b_.ir(); }
  IrValue Times(IrValue x, int64_t by) { return ir().CreateMul(x, b_.I64(by), "", true, true); }
  IrValue Plus(IrValue x, IrValue y) { return ir().CreateAdd(x, y, "", true, true); }
  int64_t ScaleStep() const { return lanes_ * (s_.offsets ? 2 : 1); }

  // sums += scale * the products of a block: `word`, `scale`, `k` are its first.
  IrValues EmitBlock(IrValue word, IrValue scale, IrValue k, int64_t count, IrValues sums) {
    IrValue offset = nullptr;
    if (s_.offsets) offset = b_.Load(b_.arg(2), Plus(scale, b_.I64(lanes_)), DType::kF32, lanes_);
    IrValues partial(shape_.columns * copies_, b_.Zero(DType::kF32, lanes_));
    const int64_t whole = count / kElements;
    partial = b_.For("word", b_.I64(0), b_.I64(whole), 1, partial, [&](IrValue w, const IrValues& carried) {
      return EmitWord(Plus(word, w), Plus(k, Times(w, kElements)), kElements, offset, carried);
    });
    const auto rest = static_cast<int>(count % kElements);
    if (rest > 0) {
      partial = EmitWord(Plus(word, b_.I64(whole)), Plus(k, b_.I64(whole * kElements)), rest, offset, partial);
    }
    IrValue factor = b_.Load(b_.arg(2), scale, DType::kF32, lanes_);
    for (int64_t m = 0; m < shape_.columns; ++m) {
      IrValue sum = partial[m * copies_];
      for (int c = 1; c < copies_; ++c) sum = ir().CreateFAdd(sum, partial[m * copies_ + c]);
      sums[m] = b_.Fma(sum, factor, sums[m]);
    }
    return sums;
  }

  IrValues EmitWord(IrValue word, IrValue k, int count, IrValue offset, IrValues partial) {
    IrValue bits = b_.Load(b_.arg(1), Times(word, lanes_), DType::kI32, lanes_);
    for (int e = 0; e < count; ++e) {
      IrValue weight = Element(bits, e);
      if (offset != nullptr) weight = ir().CreateFAdd(weight, offset);
      for (int64_t m = 0; m < shape_.columns; ++m) {
        IrValue x = b_.Load(b_.arg(0), Plus(k, b_.I64(m * shape_.depth + e)), DType::kF32, 1);
        IrValue& sum = partial[m * copies_ + e % copies_];
        sum = b_.Fma(weight, b_.Splat(x, lanes_), sum);
      }
    }
    return partial;
  }

  // Nibble e of each lane as a float.
  IrValue Element(IrValue bits, int e) {
    if (lanes_ == 16) {
      std::vector<llvm::Constant*> table;
      for (int n = 0; n < 16; ++n) table.push_back(llvm::ConstantFP::get(ir().getFloatTy(), n < 8 ? n : n - 16));
      IrValue index = e == 0 ? bits : ir().CreateLShr(bits, 4 * e);
      // Only the low 4 bits of a lane are looked at.
      return ir().CreateIntrinsic(llvm::Intrinsic::x86_avx512_permvar_sf_512, {},
                                  {llvm::ConstantVector::get(table), index});
    }
    IrValue top = e == 7 ? bits : ir().CreateShl(bits, 28 - 4 * e);
    return ir().CreateSIToFP(ir().CreateAShr(top, 28), b_.VectorType(DType::kF32, lanes_));
  }

  KernelBuilder& b_;
  const GemvShape& shape_;
  const Int4Schedule& s_;
  const TileEpilogue& epilogue_;
  const int lanes_;
  int copies_;  // of each column's partial sums
  int64_t blocks_, last_, block_words_, words_;
};

}  // namespace

void EmitGemvInt4(KernelBuilder& b, const GemvShape& shape, const Int4Schedule& schedule,
                  const TileEpilogue& epilogue) {
  Int4Emitter(b, shape, schedule, epilogue).Emit();
}

}  // namespace tessera
