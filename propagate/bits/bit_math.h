// bit_math: the arithmetic of ranges and bit masks that both directions of BitFlow use. Internal to bit_flow*.cc.
#ifndef TESSERA_PROPAGATE_BITS_BIT_MATH_H_
#define TESSERA_PROPAGATE_BITS_BIT_MATH_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "propagate/bits/bit_flow.h"

namespace tessera::bit_math {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kExact = 0x1p53;        // integers up to here are exact in double
inline constexpr double kSlack = 1e-6;          // relative, of a float operation
inline constexpr uint64_t kAll = ~uint64_t{0};  // bits

// 0 · ∞ is 0: an unbounded operand is finite whenever the product is a number.
inline double Times(double a, double b) { return a == 0 || b == 0 ? 0 : a * b; }
inline bool IsFinite(const Interval& r) { return std::isfinite(r.low) && std::isfinite(r.high); }
inline bool Within(const Interval& r, const Interval& bounds) { return r.low >= bounds.low && r.high <= bounds.high; }
// A NaN bound is none.
inline Interval Ordered(double low, double high) {
  return {std::isnan(low) ? -kInf : low, std::isnan(high) ? kInf : high};
}
inline Interval Widened(Interval r, double slack = kSlack) {
  return Ordered(r.low - std::fabs(r.low) * slack, r.high + std::fabs(r.high) * slack);
}

// An operation's exact range as that of its result: integers wrap unless they fit, floats round.
inline Interval Fit(DType type, Interval r) {
  if (IsFloat(type)) return Widened(r);
  const Interval all = TypeRange(type);
  return Within(r, all) && std::max(std::fabs(r.low), std::fabs(r.high)) <= kExact ? r : all;
}

inline uint64_t LowBits(int count) { return count >= 64 ? kAll : (uint64_t{1} << count) - 1; }
// Every bit up to the highest of `mask`: what sums and products are made of.
inline uint64_t UpTo(uint64_t mask) { return LowBits(64 - std::countl_zero(mask)); }

// A value of `type` widened to 64 bits: which of its own bits `mask` of the wide one asks for.
inline uint64_t Narrowed(DType type, uint64_t mask) {
  if (mask == 0) return 0;
  if (IsFloat(type) || IsBool(type)) return kAll;
  const int bits = TypeInfo(type).bits;
  const uint64_t low = LowBits(bits);
  const bool sign = !IsUnsigned(type) && (mask & ~low) != 0;
  return (mask & low) | (sign ? uint64_t{1} << (bits - 1) : 0);
}

}  // namespace tessera::bit_math

#endif  // TESSERA_PROPAGATE_BITS_BIT_MATH_H_
