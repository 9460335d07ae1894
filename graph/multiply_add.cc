#include "graph/multiply_add.h"

#include <algorithm>

namespace tessera {
namespace {

// Four rows of c at a time, so that a row of b that was loaded is used four times; columns in blocks whose four rows of
// c (4 * 512 * 8 bytes = 16 KiB) stay in the first-level cache while k runs.
constexpr int64_t kRows = 4;
constexpr int64_t kColumns = 512;

template <int kCount, typename T>
void AddRows(int64_t n, int64_t k, int64_t row, const T* a, int64_t a_stride, const T* b, T* c, int64_t c_stride) {
  T* __restrict__ c0 = c + row * c_stride;
  T* __restrict__ c1 = kCount > 1 ? c0 + c_stride : nullptr;
  T* __restrict__ c2 = kCount > 2 ? c1 + c_stride : nullptr;
  T* __restrict__ c3 = kCount > 3 ? c2 + c_stride : nullptr;
  for (int64_t i = 0; i < k; ++i) {
    const T* __restrict__ b_row = b + i * c_stride;
    T factor[kCount];
    for (int r = 0; r < kCount; ++r) factor[r] = a[(row + r) * a_stride + i];
    for (int64_t j = 0; j < n; ++j) {
      c0[j] += factor[0] * b_row[j];
      if constexpr (kCount > 1) c1[j] += factor[1] * b_row[j];
      if constexpr (kCount > 2) c2[j] += factor[2] * b_row[j];
      if constexpr (kCount > 3) c3[j] += factor[3] * b_row[j];
    }
  }
}

template <typename T>
void Multiply(int64_t m, int64_t n, int64_t k, const T* a, const T* b, T* c) {
  for (int64_t column = 0; column < n; column += kColumns) {
    const int64_t width = std::min(kColumns, n - column);
    int64_t row = 0;
    for (; row + kRows <= m; row += kRows) AddRows<kRows>(width, k, row, a, k, b + column, c + column, n);
    for (; row < m; ++row) AddRows<1>(width, k, row, a, k, b + column, c + column, n);
  }
}

}  // namespace

void MultiplyAdd(int64_t m, int64_t n, int64_t k, const double* a, const double* b, double* c) {
  Multiply(m, n, k, a, b, c);
}

void MultiplyAdd(int64_t m, int64_t n, int64_t k, const int64_t* a, const int64_t* b, int64_t* c) {
  // Unsigned, because sums of products of hostile values may pass 2^63; the low bits are what i32 keeps anyway.
  Multiply(m, n, k, reinterpret_cast<const uint64_t*>(a), reinterpret_cast<const uint64_t*>(b),
           reinterpret_cast<uint64_t*>(c));
}

}  // namespace tessera
