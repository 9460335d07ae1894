// Stand-ins of the device ops that only AMD's chips have: products of small matrices in the registers of a wave, by the
// layouts that device_ops.def states (AMD, "CDNA3" and "RDNA3 Instruction Set Architecture", matrix arithmetic).
//
//   for (const SimtStandInRow& row : AmdStandIns()) …                    // part of stand_ins.h's table
//
// Sums are made in double (integers: in 64 bits, kept to 32) and rounded once, which is at least as exact as the chip.
// Tested by amd_stand_ins_test.cc, against products of whole matrices.
#ifndef TESSERA_RUNTIME_SIMT_AMD_STAND_INS_H_
#define TESSERA_RUNTIME_SIMT_AMD_STAND_INS_H_

#include <span>
#include <string_view>

#include "runtime/simt/context.h"

namespace tessera {

struct SimtStandInRow {
  std::string_view op;
  SimtStandIn function;
};

std::span<const SimtStandInRow> AmdStandIns();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_AMD_STAND_INS_H_
