#include "codegen/emit/host/depthwise_units.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>

#include "base/status.h"
#include "codegen/emit/body_bounds.h"
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

namespace {

// Instruction `n` behind narrowings of f32 to itself.
int BehindNarrow(const Body& body, int n) {
  while (body.insts[n].op == ScalarOp::kNarrow && body.insts[n].imm_int == static_cast<int64_t>(DType::kF32)) {
    n = body.insts[n].args[0];
  }
  return n;
}

// The input that instruction `n` is, or -1.
int InputAt(const Body& body, int n) {
  return body.insts[n].op == ScalarOp::kInput ? static_cast<int>(body.insts[n].imm_int) : -1;
}

// One for all channels, or one for each.
bool ByChannel(const EpilogueOperand& operand, const Tensor& constant) {
  return operand.rows.empty() && !operand.elementwise && constant.num_elements() > 0;
}
double ValueFor(const EpilogueOperand& operand, const Tensor& constant, int64_t channel) {
  return constant.Get(operand.along_columns ? channel : 0);
}

}  // namespace

std::optional<PlainRequantization> ReadPlainRequantization(const TileEpilogue& epilogue,
                                                           const std::vector<Tensor>& constants) {
  const Body& body = epilogue.body();
  if (body.empty() || epilogue.dtype() != DType::kU8) return std::nullopt;
  // From the result to the sum: narrow, cast, round, clamp, multiply, cast.
  const auto step = [&](int n, ScalarOp op, DType type) {
    return n >= 0 && body.insts[n].op == op && body.insts[n].type == type ? body.insts[n].args[0] : -1;
  };
  int n = body.result;
  if (body.insts[n].op == ScalarOp::kNarrow && body.insts[n].imm_int == static_cast<int64_t>(DType::kU8)) {
    n = body.insts[n].args[0];
  }
  n = step(n, ScalarOp::kCast, DType::kI32);
  n = step(n, ScalarOp::kRoundEven, DType::kF32);
  if (n < 0) return std::nullopt;
  const Clamp clamp = ClampAt(body, n);
  if (clamp.bounds.low != 0 || clamp.bounds.high != 255) return std::nullopt;
  n = BehindNarrow(body, clamp.value);
  if (body.insts[n].op != ScalarOp::kMul || body.insts[n].type != DType::kF32) return std::nullopt;
  for (const int k : {0, 1}) {
    const int scale = InputAt(body, BehindNarrow(body, body.insts[n].args[k])) - 1;
    const int sum = step(BehindNarrow(body, body.insts[n].args[1 - k]), ScalarOp::kCast, DType::kF32);
    if (scale < 0 || sum < 0 || InputAt(body, sum) != 0) continue;
    const EpilogueOperand& operand = epilogue.operands()[scale];
    if (operand.dtype != DType::kF32 || !ByChannel(operand, constants[scale])) return std::nullopt;
    // Below 1: no sum of i32 leaves i32 by it. (NaN is not below 1 either.)
    for (const float value : constants[scale].data<float>()) {
      if (!(std::abs(value) < 1)) return std::nullopt;
    }
    const int start = epilogue.start();
    if (start >= 0 && !ByChannel(epilogue.operands()[start], constants[start])) return std::nullopt;
    return PlainRequantization{.scale = scale};
  }
  return std::nullopt;
}

Tensor PackWide(const Tensor& packed, int64_t channels, const TileEpilogue& epilogue,
                const PlainRequantization& requantization, const std::vector<Tensor>& constants) {
  TES_CHECK(channels % kWideChannels == 0, channels);
  const int64_t words = packed.shape()[0], all = packed.shape()[1];
  Tensor wide(DType::kI32, Shape({words + 2, channels}));
  const std::span<const int32_t> from = packed.data<int32_t>();
  const std::span<int32_t> to = wide.mutable_data<int32_t>();
  const int start = epilogue.start(), scale = requantization.scale;
  for (int64_t at = 0; at < channels; ++at) {
    const auto within = static_cast<int>(at % kWideChannels);
    const int64_t channel = at - within + WideChannel(within / 16, within % 16);
    for (int64_t w = 0; w < words; ++w) to[w * channels + at] = from[w * all + channel];
    if (start >= 0) {
      to[words * channels + at] = static_cast<int32_t>(ValueFor(epilogue.operands()[start], constants[start], channel));
    }
    to[(words + 1) * channels + at] =
        std::bit_cast<int32_t>(static_cast<float>(ValueFor(epilogue.operands()[scale], constants[scale], channel)));
  }
  return wide;
}

namespace {

// Elements of `size` bytes of the low or high half of each quarter of two vectors of 64 bytes, in turn.
IrValue Interleave(KernelBuilder& b, IrValue x, IrValue y, int size, bool high) {
  std::vector<int> picks;
  for (int quarter = 0; quarter < 64; quarter += 16) {
    for (int k = 0; k < 8; k += size) {
      for (const int from : {0, 64}) {
        for (int e = 0; e < size; ++e) picks.push_back(from + quarter + (high ? 8 : 0) + k + e);
      }
    }
  }
  return b.ir().CreateShuffleVector(x, y, picks);
}

}  // namespace

IrValues EmitWideUnits(KernelBuilder& b, const IrValues& rows) {
  const auto row = [&](size_t r) -> IrValue {
    return r < rows.size() ? rows[r] : llvm::Constant::getNullValue(rows[0]->getType());
  };
  IrValues units;
  for (const bool high : {false, true}) {
    IrValue upper = Interleave(b, row(0), row(1), 1, high), lower = Interleave(b, row(2), row(3), 1, high);
    for (const bool second : {false, true}) {
      units.push_back(b.ir().CreateBitCast(Interleave(b, upper, lower, 2, second), b.VectorType(DType::kI32, 16)));
    }
  }
  return units;
}

IrValue EmitWideBytes(KernelBuilder& b, const IrValues& sums, const IrValues& scales) {
  auto& ir = b.ir();
  llvm::Type* ints = b.VectorType(DType::kI32, 16);
  IrValues rounded;
  for (int v = 0; v < kWideVectors; ++v) {
    IrValue value = ir.CreateFMul(ir.CreateSIToFP(sums[v], b.VectorType(DType::kF32, 16)), scales[v]);
    constexpr int kCurrentMode = 4;  // to the nearest, of two the even one
    rounded.push_back(
        ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_mask_cvtps2dq_512, {},
                           {value, llvm::Constant::getNullValue(ints), ir.getInt16(-1), ir.getInt32(kCurrentMode)}));
  }
  const auto pack = [&](IrValue x, IrValue y) {
    return ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_packssdw_512, {}, {x, y});
  };
  return ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_packuswb_512, {},
                            {pack(rounded[0], rounded[1]), pack(rounded[2], rounded[3])});
}

}  // namespace tessera
