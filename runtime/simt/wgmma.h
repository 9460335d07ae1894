// Operands of a warpgroup's matrix products (wgmma), as their descriptors say where they lie in shared memory.
//
//   WgmmaOperand a = DecodeWgmma(descriptor, base, 'A', /*extent=*/64, /*transposed=*/false);
//   for (int piece = 0; piece < a.pieces(); ++piece) …a.offset(piece)…        // 16 bytes each
//
// A product of one instruction takes 32 bytes of k of each row of A [M, K] and each column of B [K, N]: two pieces of
// 16 bytes. Rows (columns of B) lie 8 together, in a pattern of 16, 32, 64 or 128 bytes a row (PTX manual, "Shared
// memory matrix layout"; strides are the descriptor's):
//
//   k fastest              row r, piece p at   (r % 8) pattern + (r / 8) stride + p (no pattern: leading; else 16)
//   M or N fastest         k, piece p of 8 elements at   (k % 8) pattern + (k / 8) stride
//                                                        + (p % q) 16 + (p / q) leading, q = pattern / 16
//   (the same, no pattern) k, piece p at   (k % 8) 16 + (k / 8) leading + p stride
//
// and with a pattern, bits 4 to 6 of the address are xored with bits 7 to 9, as far as it is wide. Tested by
// stand_ins_test.cc and codegen/simt_async_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_WGMMA_H_
#define TESSERA_RUNTIME_SIMT_WGMMA_H_

#include <array>
#include <cstdint>
#include <string>

#include "runtime/simt/matrix.h"

namespace tessera {

// An instruction: types of A and B, columns of B, elements of k; A from registers; and whether operands may be
// transposed, which is said by constants after `scale`.
struct WgmmaShape {
  FragmentType a = FragmentType::kF16, b = FragmentType::kF16;
  int n = 8;
  bool registers = false;
  int k() const { return 8 * ElementsOf(a); }
  int accumulators() const { return n / 2; }
  bool can_transpose() const { return a == FragmentType::kF16 || a == FragmentType::kBF16; }
};

struct WgmmaOperand {
  char name = 'A';
  int extent = 64;  // rows of A, columns of B
  bool transposed = false;
  int64_t start = 0, leading = 0, stride = 0;  // bytes in shared memory
  int swizzle = 0;                             // bytes

  int pieces() const { return extent * 2; }
  // In shared memory, of the piece of 16 bytes; not checked against its size.
  int64_t offset(int piece) const;
  // Which row and which element of k (or, transposed, which 8 rows of one k) it holds.
  int row(int piece) const { return transposed ? piece % (extent / 8) * 8 : piece / 2; }
  int k(int piece, int per_piece) const { return transposed ? piece / (extent / 8) : piece % 2 * per_piece; }
};

// `base`: where shared memory starts, of which a descriptor's start has the lowest 18 bits.
WgmmaOperand DecodeWgmma(uint64_t descriptor, uint64_t base, char name, int extent, bool transposed);
// What is wrong with it, or empty: bits that must be zero, a start within a pattern.
std::string WgmmaOperandError(const WgmmaOperand& operand, uint64_t descriptor);

// Of one product: A by rows, B by k.
struct WgmmaMatrices {
  std::array<std::array<float, 32>, 64> a;
  std::array<std::array<float, 256>, 32> b;
};

// Element i of 16 bytes.
inline float PieceElement(FragmentType type, const uint32_t* piece, int i) {
  const int e = ElementsOf(type);
  return static_cast<float>(FragmentElement(type, piece[i / e], i % e));
}

// values[thread, accumulator] of the 128 threads: the product, and what was there before where `adds`.
void MultiplyWarpgroup(const WgmmaMatrices& matrices, const WgmmaShape& shape, bool adds, uint32_t* values);

// `offset` with bits 4 to 6 as the pattern of `swizzle` bytes has them.
inline int64_t Swizzled(int64_t offset, int64_t swizzle) {
  return swizzle == 0 ? offset : offset ^ ((offset >> 3) & (swizzle - 16));
}

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_WGMMA_H_
