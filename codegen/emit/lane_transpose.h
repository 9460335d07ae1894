// A square of elements, n vectors of n lanes, transposed in registers: what turns a gather into whole loads.
//
//   v[0] = a b c d        a e i m = w[0]
//   v[1] = e f g h   ->   b f j n = w[1]      lane j of w[i] is lane i of v[j]
//   v[2] = i j k l        c g k o = w[2]
//   v[3] = m n o p        d h l p = w[3]
//
// First the squares that lie in the 128-bit quarters of the registers, by interleaving neighbours; then the quarters
// among each other. For 32-bit elements that is log2(n) single instructions for each register: 64 for 16x16.
// Tested by lane_transpose_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_LANE_TRANSPOSE_H_
#define TESSERA_CODEGEN_EMIT_LANE_TRANSPOSE_H_

#include "codegen/emit/kernel_builder.h"

namespace tessera {

// n is a power of two; elements of 8 bits or more. One vector of one lane is returned as it is.
IrValues EmitLaneTranspose(KernelBuilder& b, const IrValues& rows);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_LANE_TRANSPOSE_H_
