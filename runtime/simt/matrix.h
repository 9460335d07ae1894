// Products of small matrices whose elements lie in the registers of a warp's lanes, as NVIDIA's mma.sync has them.
//
//   MultiplyFragments<FragmentType::kF16, 16, 16>(a, b, c, d);       // m16n8k16, f32 accumulators
//
// D = A·B + C. A register holds E elements, the first in its lowest bits: 2 of f16 and bf16, 4 of s8 and u8, 1 of tf32.
// Of lane l, with g = l / 4 and t = l % 4 (PTX manual, "Matrix fragments for mma"):
//
//   A [M, K]  register r, element i:  row g + 8 (r % 2), column t E + i + 4 E (r / 2)        (M = 8: only r = 0)
//   B [K, 8]  register r, element i:  row t E + i + 4 E r, column g
//   C, D [M, 8]  of 32 bits, register r:  row g + 8 (r / 2), column 2 t + r % 2
//   C, D [M, 8]  of f16, register r, element i:  row g + 8 r, column 2 t + i
//
// Sums are made in double (integers: in 64 bits, kept to 32) and rounded once, which is at least as exact as the chip.
// Tested by stand_ins_test.cc, against products of whole matrices.
#ifndef TESSERA_RUNTIME_SIMT_MATRIX_H_
#define TESSERA_RUNTIME_SIMT_MATRIX_H_

#include <array>
#include <bit>
#include <cstdint>

namespace tessera {

enum class FragmentType : uint8_t { kF16, kBF16, kTF32, kF32, kS8, kU8 };

constexpr int ElementsOf(FragmentType type) {
  return type == FragmentType::kTF32 || type == FragmentType::kF32   ? 1
         : type == FragmentType::kF16 || type == FragmentType::kBF16 ? 2
                                                                     : 4;
}

// Element i of a register.
inline double FragmentElement(FragmentType type, uint32_t bits, int i) {
  switch (type) {
    case FragmentType::kF16: return std::bit_cast<_Float16>(static_cast<uint16_t>(bits >> 16 * i));
    case FragmentType::kBF16: return std::bit_cast<float>((bits >> 16 * i & 0xffff) << 16);
    // The chip looks at the upper 19 bits.
    case FragmentType::kTF32: return std::bit_cast<float>(bits & 0xffffe000);
    case FragmentType::kF32: return std::bit_cast<float>(bits);
    case FragmentType::kS8: return static_cast<int8_t>(bits >> 8 * i);
    default: return static_cast<uint8_t>(bits >> 8 * i);
  }
}

// Registers of all lanes: [lane][register].
template <int N>
using Fragments = std::array<std::array<uint32_t, N>, 32>;

// Whole matrices out of registers, and results into them. M x K, K x 8, M x 8.
template <int M, int K, int N>
std::array<std::array<double, K>, M> UnpackA(FragmentType type, const Fragments<N>& fragments) {
  std::array<std::array<double, K>, M> matrix = {};
  const int e = ElementsOf(type);
  for (int l = 0; l < 32; ++l) {
    for (int r = 0; r < N; ++r) {
      const int row = l / 4 + (M == 16 ? 8 * (r % 2) : 0), column = l % 4 * e + 4 * e * (M == 16 ? r / 2 : r);
      for (int i = 0; i < e; ++i) matrix[row][column + i] = FragmentElement(type, fragments[l][r], i);
    }
  }
  return matrix;
}

template <int K, int N>
std::array<std::array<double, 8>, K> UnpackB(FragmentType type, const Fragments<N>& fragments) {
  std::array<std::array<double, 8>, K> matrix = {};
  const int e = ElementsOf(type);
  for (int l = 0; l < 32; ++l) {
    for (int r = 0; r < N; ++r) {
      for (int i = 0; i < e; ++i) {
        matrix[l % 4 * e + i + 4 * e * r][l / 4] = FragmentElement(type, fragments[l][r], i);
      }
    }
  }
  return matrix;
}

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_MATRIX_H_
