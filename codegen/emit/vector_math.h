// Transcendental functions as polynomials, for scalars and vectors of f32 and f64, on any target: no library calls.
//
// Method and stated error (relative to the exact result, over the whole range). Tested by body_emitter_test.cc:
//   exp         x = n·ln2 + r, |r| <= ln2/2; polynomial in r of degree 5 | 14, scaled by 2^n           3e-7 | 2e-15
//   expm1       the same with Taylor's polynomial of degree 8 | 14                                      5e-7 | 3e-15
//   log, log1p  m in [sqrt(1/2), sqrt 2); atanh series in (m-1)/(m+1)                                   3e-7 | 2e-15
//   tanh        expm1(2|x|) / (expm1(2|x|) + 2); f32 on AVX-512: x times a polynomial of |x| by cells   6e-7 | 3e-15
//   erf         f32: x·P(x²)/Q(x²), P and Q of degree 5 fitted on [0, 3.92] in 40-digit arithmetic,     1e-6
//               or by cells as tanh; f64: Kummer's series below 4, asymptotic series above              1e-14
//   sin, cos    in f64 for both types, x = n·π/2 + r for |x| < 2^30                                     3e-7 | 1e-13
//   pow         exp(b·log|a|), in f64 for f32; f64 itself                                               3e-7 | 1e-12
// Infinities, NaN, signed zeros and subnormals follow C's <math.h>.
#ifndef TESSERA_CODEGEN_EMIT_VECTOR_MATH_H_
#define TESSERA_CODEGEN_EMIT_VECTOR_MATH_H_

#include "codegen/emit/kernel_builder.h"

namespace tessera {

// x is a scalar or vector of float or double; the result has its type.
IrValue EmitExp(KernelBuilder& b, IrValue x);
// The same for x <= 0, as softmax has it, at two thirds of the work. Results below the smallest normal number may be 0,
// and -∞ gives 0 exactly.
IrValue EmitExpNonPositive(KernelBuilder& b, IrValue x);
IrValue EmitExpm1(KernelBuilder& b, IrValue x);
IrValue EmitLog(KernelBuilder& b, IrValue x);
IrValue EmitLog1p(KernelBuilder& b, IrValue x);
IrValue EmitTanh(KernelBuilder& b, IrValue x);
IrValue EmitErf(KernelBuilder& b, IrValue x);
IrValue EmitSin(KernelBuilder& b, IrValue x);
IrValue EmitCos(KernelBuilder& b, IrValue x);
IrValue EmitPow(KernelBuilder& b, IrValue x, IrValue y);
// The remainder with the sign of x (C's fmod); exact for f32. f64 is exact for quotients below 2^53 where the machine
// has a fused multiply-add; elsewhere a quotient within rounding of an integer may give 0 for |y|.
IrValue EmitRem(KernelBuilder& b, IrValue x, IrValue y);
IrValue EmitRoundEven(KernelBuilder& b, IrValue x);
IrValue EmitFloor(KernelBuilder& b, IrValue x);
IrValue EmitCeil(KernelBuilder& b, IrValue x);
IrValue EmitTrunc(KernelBuilder& b, IrValue x);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_VECTOR_MATH_H_
