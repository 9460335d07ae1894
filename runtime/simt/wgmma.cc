#include "runtime/simt/wgmma.h"

#include <bit>

#include "base/status.h"

namespace tessera {

WgmmaOperand DecodeWgmma(uint64_t descriptor, uint64_t base, char name, int extent, bool transposed) {
  const auto field = [&](int bit) { return static_cast<int64_t>(descriptor >> bit & 0x3fff) * 16; };
  constexpr int64_t kAddresses = 0x3ffff;
  constexpr int kSwizzles[] = {0, 128, 64, 32};
  return {.name = name,
          .extent = extent,
          .transposed = transposed,
          .start = (field(0) - static_cast<int64_t>(base & kAddresses)) & kAddresses,
          .leading = field(16),
          .stride = field(32),
          .swizzle = kSwizzles[descriptor >> 62]};
}

std::string WgmmaOperandError(const WgmmaOperand& operand, uint64_t descriptor) {
  constexpr uint64_t kKnown = 0xc000'3fff'3fff'3fff;
  if ((descriptor & ~kKnown) != 0) {
    return internal::Join("the descriptor of ", operand.name, " has bits that must be 0: expected start, leading and ",
                          "stride offsets divided by 16 at bits 0, 16 and 32, and the swizzle at 62");
  }
  // Rows of a pattern repeat after 8; a start within the first of them goes on along k.
  if (operand.swizzle != 0 && operand.start / 128 % (operand.swizzle / 16) != 0) {
    return internal::Join("the descriptor of ", operand.name, " starts at offset ", operand.start,
                          "; with a swizzle of ", operand.swizzle, " bytes, expected one within the first 128 of ",
                          8 * operand.swizzle);
  }
  return "";
}

int64_t WgmmaOperand::offset(int piece) const {
  const int pattern = swizzle == 0 ? 16 : swizzle;
  int64_t at = start;
  if (!transposed) {
    const int r = piece / 2, p = piece % 2;
    at += r % 8 * pattern + r / 8 * stride + p * (swizzle == 0 ? leading : 16);
  } else {
    const int of_k = extent / 8, p = piece % of_k, element = piece / of_k;
    if (swizzle == 0) {
      at += element % 8 * 16 + element / 8 * leading + p * stride;
    } else {
      const int q = pattern / 16;
      at += element % 8 * pattern + element / 8 * stride + p % q * 16 + p / q * leading;
    }
  }
  return Swizzled(at, swizzle);
}

void MultiplyWarpgroup(const WgmmaMatrices& matrices, const WgmmaShape& shape, bool adds, uint32_t* values) {
  const bool integers = shape.a == FragmentType::kS8 || shape.a == FragmentType::kU8;
  const int count = shape.accumulators();
  for (int row = 0; row < 64; ++row) {
    std::array<double, 256> sums = {};
    for (int k = 0; k < shape.k(); ++k) {
      const double a = matrices.a[row][k];
      for (int n = 0; n < shape.n; ++n) sums[n] += a * matrices.b[k][n];
    }
    // Row and columns of accumulators of a thread, as mma.m16n8 has them: warp w has rows 16 w ….
    for (int n = 0; n < shape.n; ++n) {
      const int thread = row / 16 * 32 + row % 8 * 4 + n % 8 / 2;
      const int accumulator = n / 8 * 4 + row % 16 / 8 * 2 + n % 2;
      uint32_t& value = values[thread * count + accumulator];
      if (integers) {
        value = (adds ? value : 0) + static_cast<uint32_t>(static_cast<int64_t>(sums[n]));
      } else {
        value = std::bit_cast<uint32_t>(static_cast<float>(sums[n] + (adds ? std::bit_cast<float>(value) : 0)));
      }
    }
  }
}

}  // namespace tessera
