// Widen: bytes as 16-bit words or as f32, written once by a step of their own, for products that cannot take bytes.
//
//   i16[k] = x[k]            x of u8 or i8
//
// Words are for processors that have no instruction for four bytes. vpmaddwd multiplies words. Widened inside a product
// (Dot::Kind::kWordPairs), a unit of four bytes takes an addition, a mask and a shift for each row of a tile and again
// for each panel; widened beforehand (kWords) a unit of two words is broadcast from where it lies. Zen 4 at 256 bits:
// 126 GOP/s and 188 of 236, which two multiplications a cycle give. It costs a pass over x, so a product with few
// columns of results leaves it.
//
// Pure functions. Tested by dot_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_WIDEN_H_
#define TESSERA_CODEGEN_EMIT_HOST_WIDEN_H_

#include <cstdint>

#include "codegen/plan.h"
#include "codegen/target.h"
#include "tesa/types.h"

namespace tessera {

// `x`, a value of bytes, as `to` (i16 or f32): an argument to read. Adds the step that makes it, once for all that ask.
StepArg PlanWidened(ValueId x, DType to, PlanBuilder& builder);
// What that step takes for so many elements, of all threads together.
double WidenMicroseconds(int64_t elements, DType to, const Target& target);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_WIDEN_H_
