// What device ops compute, for kernels that run on the host: one stand-in for each row of codegen's device_ops.def.
//
//   SimtStandIn shuffle = FindSimtStandIn("gpu.shuffle_xor");            // null: there is none of that name
//
// They follow the PTX manual: what comes from which lane, how fragments of matrices lie in registers (matrix.h), when
// data of a copy is there. Approximate arithmetic is exact here. Tested by stand_ins_test.cc and codegen/simt_test.cc.
#ifndef TESSERA_RUNTIME_SIMT_STAND_INS_H_
#define TESSERA_RUNTIME_SIMT_STAND_INS_H_

#include <string_view>
#include <vector>

#include "runtime/simt/context.h"

namespace tessera {

SimtStandIn FindSimtStandIn(std::string_view op);
// Every name, sorted.
std::vector<std::string_view> SimtStandInNames();

}  // namespace tessera

#endif  // TESSERA_RUNTIME_SIMT_STAND_INS_H_
