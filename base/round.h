// Division and multiples that round up.
//
//   DivideUp(10, 4) == 3     RoundUp(10, 4) == 12
//
// For value >= 0 and divisor > 0 whose sum fits in 64 bits. Tested by round_test.cc.
#ifndef TESSERA_BASE_ROUND_H_
#define TESSERA_BASE_ROUND_H_

#include <cstdint>

namespace tessera {

constexpr int64_t DivideUp(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }
// The least multiple of `divisor` that is not below `value`.
constexpr int64_t RoundUp(int64_t value, int64_t divisor) { return DivideUp(value, divisor) * divisor; }

}  // namespace tessera

#endif  // TESSERA_BASE_ROUND_H_
