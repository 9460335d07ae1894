#include "codegen/emit/depthwise_units.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "llvm/IR/Intrinsics.h"
#include "llvm/IR/IntrinsicsX86.h"

namespace tessera {

DepthwiseUnits DepthwiseUnits::Make(const ConvGeometry& g, const Dot& dot) {
  DepthwiseUnits units = {.dot = dot, .taps = g.y.taps, .stride = g.y.stride, .dilation = g.y.dilation};
  // As many rows of the result as one unit has room for; their windows must lie in the same rows of the image.
  if (g.y.dilation == 1 && g.y.taps <= dot.unit()) {
    units.rows = std::min((dot.unit() - g.y.taps) / g.y.stride + 1, g.y.out);
  }
  return units;
}

Tensor PackFilterUnits(const Tensor& weights, const ConvGeometry& g, const DepthwiseUnits& units) {
  const int64_t channels = g.groups, parts = units.dot.parts(), x_taps = g.x.taps;
  const std::byte* from = weights.bytes().data();
  const bool is_signed = weights.dtype() == DType::kI8;
  std::vector<uint32_t> words(static_cast<size_t>(units.words(x_taps) * channels));
  for (int64_t row = 0; row < units.rows; ++row) {
    for (int64_t kx = 0; kx < x_taps; ++kx) {
      for (int64_t ky = 0; ky < units.taps; ++ky) {
        const int64_t image_row = row * units.stride + ky, unit = image_row / 4, position = image_row % 4;
        // In the order that EmitParts takes units apart: words of two bytes are (0, 2) and (1, 3).
        const int64_t word = units.Word(row, kx, x_taps, unit, static_cast<int>(position % parts));
        const int64_t shift = parts == 1 ? 8 * position : 16 * (position / 2);
        for (int64_t c = 0; c < channels; ++c) {
          const auto byte = static_cast<uint8_t>(from[(c * units.taps + ky) * x_taps + kx]);
          uint32_t value = byte;
          if (parts == 2 && is_signed) value = static_cast<uint16_t>(static_cast<int8_t>(byte));
          words[static_cast<size_t>(word * channels + c)] |= value << shift;
        }
      }
    }
  }
  Tensor packed(DType::kI32, Shape({units.words(x_taps), channels}));
  std::memcpy(packed.mutable_bytes().data(), words.data(), words.size() * 4);
  return packed;
}

IrValue EmitRowsUnit(KernelBuilder& b, const IrValues& rows) {
  auto& ir = b.ir();
  const int lanes = KernelBuilder::LanesOf(rows[0]);
  auto* wide = b.VectorType(DType::kI32, lanes);
  if (rows.size() == 1) return ir.CreateZExt(rows[0], wide);
  std::vector<int> both(2 * lanes), interleave;
  for (int l = 0; l < 2 * lanes; ++l) both[l] = l;
  const auto pair = [&](size_t first) -> IrValue {
    if (first >= rows.size())
      return llvm::Constant::getNullValue(llvm::FixedVectorType::get(ir.getInt8Ty(), 2 * lanes));
    IrValue second = first + 1 < rows.size() ? rows[first + 1] : llvm::Constant::getNullValue(rows[0]->getType());
    return ir.CreateShuffleVector(rows[first], second, both);
  };
  for (int l = 0; l < lanes; ++l) {
    for (int r = 0; r < 4; ++r) interleave.push_back(r * lanes + l);
  }
  if (lanes == 16 && b.target().has_vbmi) {
    // One vector of all rows, one instruction. LLVM takes two vectors and an instruction that is slower.
    std::vector<int> all(4 * lanes);
    for (int l = 0; l < 4 * lanes; ++l) all[l] = l;
    IrValue bytes = ir.CreateShuffleVector(pair(0), pair(2), all);
    std::vector<llvm::Constant*> places;
    for (int place : interleave) places.push_back(ir.getInt8(static_cast<uint8_t>(place)));
    IrValue turned =
        ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_permvar_qi_512, {}, {bytes, llvm::ConstantVector::get(places)});
    return ir.CreateBitCast(turned, wide);
  }
  return ir.CreateBitCast(ir.CreateShuffleVector(pair(0), pair(2), interleave), wide);
}

}  // namespace tessera
