// MachineModel: the few rates of one core that emitters' estimates share, so that their times can be compared.
//
//   const MachineModel machine(target);
//   ns = std::max(fmas * machine.fma_ns, loads * machine.load_ns);
//
// The rates are of recent x86 cores at 3.5 GHz: each cycle, 64 bytes of arithmetic (two 256-bit operations, or one of
// 512 bits on cores that split them), 64 bytes of loads, about 24 bytes from the second-level cache and 8 from beyond.
// Only ratios between candidates matter, and those hold from one machine to the next far better than the rates do.
//
// Times are of all threads of an inference together: work takes as long on one as on two, and what each of two waits
// for counts twice.
#ifndef TESSERA_CODEGEN_COST_MODEL_H_
#define TESSERA_CODEGEN_COST_MODEL_H_

#include <algorithm>

#include "codegen/target.h"

namespace tessera {

struct MachineModel {
  explicit MachineModel(const Target& target)
      : fma_ns(kCycle * std::max(0.5, target.vector_bits / 512.0) * (target.has_fma ? 1 : 2)),
        op_ns(kCycle * std::max(0.5, target.vector_bits / 512.0)),
        load_ns(kCycle * std::max(0.5, target.vector_bits / 512.0)),
        threads(std::max(1, target.threads)),
        step_ns(threads == 1 ? kStartNs : threads * (kStartNs + kBarrierNs)) {}

  // What `tasks` equal tasks take that need `ns` of one core together: threads wait for the one with the most of them.
  double Shared(double ns, int64_t tasks) const {
    const int64_t most = (tasks + threads - 1) / threads * threads;
    return tasks <= 0 ? ns : ns * static_cast<double>(most) / static_cast<double>(tasks);
  }
  // What it takes that all threads read `bytes` of which each has written its share, and writes it again next time.
  double ForeignNanoseconds(double bytes) const { return bytes / 64 * (threads - 1) * kForeignLineNs; }

  static constexpr double kCycle = 1 / 3.5;  // nanoseconds
  // Starting a step: a call, cold code; the barrier in front of it, 100 where two cores share a third-level cache and
  // 400 where they do not (docs/results/host_networks.md); a line that one core writes and another reads in turn, of
  // both together (sparse products with panels that a step packs against those that each thread packs: 10 to 16).
  static constexpr double kStartNs = 100, kBarrierNs = 250, kForeignLineNs = 12;
  double fma_ns;                     // a vector multiply-add (two instructions where there is no fused one)
  double op_ns;                      // any other vector operation
  double load_ns;                    // a vector load from the first-level cache
  double broadcast_ns = kCycle / 2;  // a scalar to all lanes, from memory
  double l2_bytes_per_ns = 24 / kCycle;
  double memory_bytes_per_ns = 8 / kCycle;
  int threads;
  double step_ns;  // starting a step, of all threads together
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_COST_MODEL_H_
