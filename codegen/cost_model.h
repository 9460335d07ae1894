// MachineModel: the few rates of one core that emitters' estimates share, so that their times can be compared.
//
//   const MachineModel machine(target);
//   ns = std::max(fmas * machine.fma_ns, loads * machine.load_ns);
//
// The rates are of recent x86 cores at 3.5 GHz: each cycle, 64 bytes of arithmetic (two 256-bit operations, or one of
// 512 bits on cores that split them), 64 bytes of loads, about 24 bytes from the second-level cache and 8 from beyond.
// Only ratios between candidates matter, and those hold from one machine to the next far better than the rates do.
#ifndef TESSERA_CODEGEN_COST_MODEL_H_
#define TESSERA_CODEGEN_COST_MODEL_H_

#include <algorithm>

#include "codegen/target.h"

namespace tessera {

struct MachineModel {
  explicit MachineModel(const Target& target)
      : fma_ns(kCycle * std::max(0.5, target.vector_bits / 512.0) * (target.has_fma ? 1 : 2)),
        op_ns(kCycle * std::max(0.5, target.vector_bits / 512.0)),
        load_ns(kCycle * std::max(0.5, target.vector_bits / 512.0)) {}

  static constexpr double kCycle = 1 / 3.5;  // nanoseconds
  double fma_ns;                             // a vector multiply-add (two instructions where there is no fused one)
  double op_ns;                              // any other vector operation
  double load_ns;                            // a vector load from the first-level cache
  double broadcast_ns = kCycle / 2;          // a scalar to all lanes, from memory
  double l2_bytes_per_ns = 24 / kCycle;
  double memory_bytes_per_ns = 8 / kCycle;
  double step_ns = 100;  // starting a step: a barrier, a call
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_COST_MODEL_H_
