// GpuModel: the few rates of a card that emitters' estimates share, so that their times can be compared.
//
//   const GpuModel gpu(target);
//   us = gpu.launch_us + flops / (gpu.fma_per_clock * gpu.clock_ghz * 1e3 * gpu.units);
//
// Per clock and multiprocessor: multiply-adds of f32 outside the matrix cores, and inside them by the width of
// operands: of mma.sync (on sm_90, where only wgmma reaches the peak, 62 % of it), of wgmma, of MFMA and WMMA (as their
// makers state). Clocks are those that cards hold under load. Only ratios between candidates matter.
#ifndef TESSERA_CODEGEN_GPU_MODEL_H_
#define TESSERA_CODEGEN_GPU_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "codegen/target.h"

namespace tessera {

// Of a multiprocessor's shared memory, the system's own for each block.
inline constexpr int64_t kReservedSharedBytes = 1024;

struct GpuModel {
  explicit GpuModel(const Target& target) {
    units = std::max(1, target.multiprocessors);
    shared_bytes = target.shared_bytes;
    if (target.kind == TargetKind::kAmdgpu) {
      SetAmd(target.cpu);
      return;
    }
    const int chip = target.capability;
    fma_per_clock = chip == 75 || chip == 80 ? 64 : 128;
    mma_f16_per_clock = chip >= 90 ? 1270 : chip == 80 ? 1024 : 512;
    mma_f32_per_clock = mma_f16_per_clock / 2;
    mma_f64_per_clock = chip == 90 ? 128 : chip == 80 ? 64 : 0;
    mma_of_two_of_four = chip >= 90 ? 1.5 : 1.8;
    l2_bytes_per_ns = chip >= 90 ? 5500 : chip == 80 ? 4000 : 1500;
    memory_bytes_per_ns = chip >= 90 ? 3000 : chip == 80 ? 1500 : 600;
  }

  int units = 1;  // multiprocessors
  double clock_ghz = 1.7;
  // Operands of bytes go twice as fast as f16; of f32 (on NVIDIA's tf32) as said. Lanes: of any instruction.
  double fma_per_clock = 128, lanes_per_clock = 128, mma_f16_per_clock = 1024, mma_f32_per_clock = 512,
         wgmma_f16_per_clock = 2048;
  double mma_f64_per_clock = 0;     // 0: hardly any
  double mma_of_two_of_four = 1;    // of mma.sp, counting what is pruned, times that of mma.sync
  int64_t shared_bytes = 48 << 10;  // that a block may have, and all blocks of a multiprocessor together
  double l2_bytes_per_ns = 4000, memory_bytes_per_ns = 1500;
  double tma_bytes_per_ns = 10200;  // of sm_90: from the second-level cache in boxes
  double launch_us = 1.5;           // a step of a graph: its start, and filling and draining the card

 private:
  // From the makers' tables of peak rates, of multiply-adds without packed ones; caches as a multiple of memory.
  void SetAmd(std::string_view chip) {
    struct Row {
      std::string_view chip;
      double clock_ghz, fma, f16, f32, l2, memory;
    };
    constexpr Row kRows[] = {
        {"gfx906", 1.7, 64, 0, 0, 2000, 1000},     {"gfx908", 1.5, 64, 512, 128, 3000, 1200},
        {"gfx90a", 1.7, 64, 512, 128, 4000, 1600}, {"gfx942", 2.1, 64, 1024, 128, 10000, 5300},
        {"gfx1100", 2.3, 128, 256, 0, 3500, 960},
    };
    for (const Row& row : kRows) {
      if (row.chip != chip) continue;
      clock_ghz = row.clock_ghz;
      fma_per_clock = row.fma;
      mma_f16_per_clock = row.f16;
      mma_f32_per_clock = row.f32;
      l2_bytes_per_ns = row.l2;
      memory_bytes_per_ns = row.memory;
    }
    launch_us = 5;
    lanes_per_clock = 64;  // four units of 16, on gfx1100 two of 32
  }
};

}  // namespace tessera

#endif  // TESSERA_CODEGEN_GPU_MODEL_H_
