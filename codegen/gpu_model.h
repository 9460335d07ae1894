// GpuModel: the few rates of an NVIDIA card that emitters' estimates share, so that their times can be compared.
//
//   const GpuModel gpu(target);
//   us = gpu.launch_us + flops / (gpu.fma_per_clock * gpu.clock_ghz * 1e3 * gpu.units);
//
// Per clock and multiprocessor: multiply-adds of f32 outside the tensor cores, and of mma.sync by the width of operands
// (on sm_90, where only wgmma reaches the peak, 62 % of it), and of wgmma. Clocks are those that cards hold under load.
// Only ratios between candidates matter.
#ifndef TESSERA_CODEGEN_GPU_MODEL_H_
#define TESSERA_CODEGEN_GPU_MODEL_H_

#include <algorithm>
#include <cstdint>

#include "codegen/target.h"

namespace tessera {

struct GpuModel {
  explicit GpuModel(const Target& target) {
    units = std::max(1, target.multiprocessors);
    const int chip = target.capability;
    fma_per_clock = chip == 75 || chip == 80 ? 64 : 128;
    mma_f16_per_clock = chip >= 90 ? 1270 : chip == 80 ? 1024 : 512;
    shared_bytes = chip >= 90 ? 227 << 10 : chip == 80 ? 163 << 10 : chip == 75 ? 64 << 10 : 99 << 10;
    l2_bytes_per_ns = chip >= 90 ? 5500 : chip == 80 ? 4000 : 1500;
    memory_bytes_per_ns = chip >= 90 ? 3000 : chip == 80 ? 1500 : 600;
  }

  int units = 1;  // multiprocessors
  double clock_ghz = 1.7;
  double fma_per_clock = 128, mma_f16_per_clock = 1024, wgmma_f16_per_clock = 2048;
  int64_t shared_bytes = 48 << 10;  // that a block may have, and all blocks of a multiprocessor together
  double l2_bytes_per_ns = 4000, memory_bytes_per_ns = 1500;
  double tma_bytes_per_ns = 10200;  // of sm_90: from the second-level cache in boxes
  double launch_us = 1.5;           // a step of a graph: its start, and filling and draining the card
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_GPU_MODEL_H_
