// u8 times i8 as the machine adds them up: products of several neighbours in each 32-bit lane of the sum.
//
//   sum[lane] += x[lane][0] * w[lane][0] + … + x[lane][3] * w[lane][3]        x unsigned bytes, w signed ones
//
// Always exact, wrapping as i32 does: VNNI has vpdpbusd, and vpdpwssd for pairs; without it pairs of 16-bit numbers are
// multiplied and added, which never saturate here (vpmaddubsw would, but for small w). Tested by int8_dot_test.cc and
// dot_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_INT8_DOT_H_
#define TESSERA_CODEGEN_EMIT_INT8_DOT_H_

#include "codegen/emit/kernel_builder.h"

namespace tessera {

// Is EmitDotBytes one instruction? (AVX512-VNNI, or AVX-VNNI where vectors have 256 bits.)
bool HasDotBytes(const Target& target);

// Vectors of i32 lanes, each a unit of four bytes; any number of lanes that is a multiple of 4 and at most a
// register's.
IrValue EmitDotBytes(KernelBuilder& b, IrValue sum, IrValue x, IrValue w);

// The same with two signed 16-bit numbers in each lane of x and w. For operands that were widened beforehand.
IrValue EmitDotPairs(KernelBuilder& b, IrValue sum, IrValue x, IrValue w);

// sum + x[0] * w[0] + x[1] * w[1] in the first 16 bits of each lane, of bytes 2 and 3 in the others, for AVX2 and up.
// Sums of two products that 16 bits do not hold saturate, sums beyond wrap: w must be small.
IrValue EmitDotShort(KernelBuilder& b, IrValue sum, IrValue x, IrValue w);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_INT8_DOT_H_
