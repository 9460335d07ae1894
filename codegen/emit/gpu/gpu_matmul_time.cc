// What a dense product is expected to take on a GPU in each of its tilings; see gpu_matmul.h. Fitted to an H100
// (docs/results/nvptx_matmul.md); other chips go by their rates (gpu_model.h). Tested by gpu_matmul_test.cc.
#include <algorithm>
#include <cmath>

#include "codegen/emit/gpu/gpu_matmul.h"
#include "codegen/gpu_model.h"

namespace tessera {
namespace {

// Cycles in which a multiprocessor's 128 lanes bring one operand's tile of a stage, as far as that is more than copies
// of whole pieces: odd lines come in parts of 4 bytes, or of one element through registers; of gathered windows each
// part needs its tap and channel, once a thread, then an address and a bit of the mask.
double CopyCycles(const TileOperand& operand, int threads) {
  const double parts = static_cast<double>(kPieceBytes) / operand.granule;
  const double pieces = static_cast<double>(operand.tile_bytes()) / kPieceBytes;
  const double each = operand.granule >= 4 ? 7 : 10;
  constexpr double kLanes = 128, kTapAndChannel = 14;
  if (operand.windows) return (threads * parts * kTapAndChannel + pieces * parts * each) / kLanes;
  return pieces * (parts - 1) * each / kLanes;
}

double SplitSumMicroseconds(const GpuMatmul& m, const GpuModel& gpu, bool joined) {
  if (m.tiling.splits == 1) return 0;
  const double results = static_cast<double>(m.problem.groups() * m.problem.rows * m.problem.columns);
  return (joined ? 0 : gpu.launch_us) + results * 4 * (2.0 * m.tiling.splits + 1) / gpu.l2_bytes_per_ns / 1e3;
}

double TileTraffic(const GpuMatmul& m) {
  return static_cast<double>(m.tiles() * m.steps_of_split()) * static_cast<double>(m.stage_bytes());
}

// Fitted to every tile on an H100 (docs/results/nvptx_matmul.md), within 10 % where the card is full.
double WgmmaMicroseconds(const GpuMatmul& m, const GpuModel& gpu) {
  const MatmulTiling& t = m.tiling;
  // Cycles of a stage: its products, its barriers, what each warpgroup adds; of what a multiprocessor's blocks do, one
  // after the other. With few stages, what their number leaves of the way from the second-level cache.
  const double products = static_cast<double>(t.tile_m) * t.tile_n * t.tile_k_bytes / 2 / gpu.wgmma_f16_per_clock;
  const double tiles = static_cast<double>(m.tiles());
  const double sharing = std::min<double>(t.per_unit, std::ceil(tiles / gpu.units));
  double stage = std::max((1.08 * products + 95 + 25 * t.tile_m / 64.0) * sharing, 1100.0 / (t.stages - 1));
  // Which tile comes next is read first; nothing hides that where a block has but one list.
  if (m.listed >= 0 && tiles <= gpu.units) stage = std::max(stage, 500.0);
  const double rounds = std::ceil(tiles / static_cast<double>(gpu.units * t.per_unit));
  // Where a warpgroup's registers are given away, results take longer from there to memory, and the next tile waits.
  const double finish = t.gives_registers() ? 800 : 0;
  const double us = rounds * (static_cast<double>(m.steps_of_split()) * stage + finish) / gpu.clock_ghz / 1e3;
  // Lists of tiles come in an order that shares less.
  const double traffic = TileTraffic(m) / (gpu.tma_bytes_per_ns * (m.listed >= 0 ? 0.72 : 1)) / 1e3;
  const double results =
      static_cast<double>(m.problem.groups() * m.problem.rows * m.problem.columns) * m.a.element_bytes();
  const double both = std::max(us, traffic) + std::min(us, traffic) / 20;  // they do not quite overlap
  return gpu.launch_us + both + results / gpu.l2_bytes_per_ns / 1e3;
}

// Blocks whose registers a multiprocessor has: two for each sum, and those of fragments.
int64_t F64Blocks(const MatmulTiling& t) {
  constexpr int64_t kRegisters = 65536, kOfFragments = 100;
  return kRegisters / (t.threads() * (int64_t{2} * t.warp_m() * t.warp_n() / 32 + kOfFragments));
}

}  // namespace

double GpuMatmulMicroseconds(const GpuMatmul& m, const Target& target, bool shares_are_joined) {
  const GpuModel gpu(target);
  if (m.tiling.core == MatmulTiling::Core::kWgmma)
    return WgmmaMicroseconds(m, gpu) + SplitSumMicroseconds(m, gpu, shares_are_joined);
  const MatmulTiling& t = m.tiling;
  const double steps = static_cast<double>(m.steps_of_split());
  const double warps = t.threads() / 32.0;
  const double products = static_cast<double>(t.tile_m) * t.tile_n * m.tile_k();
  // Blocks of one multiprocessor share what it does in a cycle; those that do not fit wait.
  const double blocks = static_cast<double>(m.blocks());
  const double of_unit = std::ceil(blocks / gpu.units);
  int64_t most = std::min<int64_t>(gpu.shared_bytes / m.shared_bytes(), 2048 / t.threads());
  if (t.core == MatmulTiling::Core::kMmaF64) most = std::min<int64_t>(most, F64Blocks(t));
  const int64_t fit = std::max<int64_t>(1, most);
  const double together = std::min(static_cast<double>(fit), of_unit);  // blocks of one multiprocessor at once
  // Cycles of a stage on a multiprocessor that works on nothing else.
  double cycles = 0, efficiency = 1;
  if (t.core == MatmulTiling::Core::kFma) {
    const double rows = t.warp_m() / 8.0, columns = t.warp_n() / 4.0;
    const double loads = (rows + columns) / (rows * columns);  // of 16 bytes for each 4 products
    cycles = products / gpu.fma_per_clock * (1 + 0.8 * loads);
    if (m.a.element_bytes() == 1) cycles /= 4;    // four products at once
    if (m.a.element_bytes() == 2) cycles *= 1.5;  // they are widened
    // Eight slices have 16 bytes of depth each between two barriers.
    efficiency = warps < 8 ? 0.6 : t.slices >= 8 ? 0.55 : 0.82;
  } else if (t.core == MatmulTiling::Core::kMmaF64) {
    // Fitted to every tile of 1024³ and 4096³ on an H100, whose clock does not fall below 1.96 GHz here: that is in the
    // efficiency. One warp for each scheduler waits for loads and conversions; slices of a block that is alone meet.
    const double fragment = t.warp_m() * t.warp_n() > 32 * 32 ? 1.04 : 1.01;
    cycles = products / gpu.mma_f64_per_clock;
    efficiency =
        fragment * std::min(1.0, std::pow(warps * together / 8, 0.45)) * (together == 1 && t.slices > 1 ? 0.88 : 1);
  } else {
    const double bytes = t.tile_k_bytes / static_cast<double>(m.tile_k());
    const double of_two = m.packed() ? gpu.mma_of_two_of_four : 1;
    const double rate = (bytes == 4 ? gpu.mma_f32_per_clock : gpu.mma_f16_per_clock * 2 / bytes) * of_two;
    // Fragments come through shared memory: 128 bytes a cycle.
    const double of_b = m.packed() ? 0.625 : 1;  // half, and which of four they are
    const double fragments = warps / t.slices * (t.warp_m() + of_b * t.warp_n()) * t.tile_k_bytes / 128.0;
    cycles = std::max(products / rate, fragments) + 0.3 * std::min(products / rate, fragments);
    efficiency = m.packed() ? 0.75 : 0.9;
  }
  cycles = cycles / efficiency + CopyCycles(m.b, t.threads());
  // The barrier, where no other block fills it.
  if (t.core != MatmulTiling::Core::kMmaF64 || together < 2) cycles += 30;
  // Packed weights are multiplied in half the time: copies of A in parts stand out (84x3580x3328 on an H100).
  cycles += m.a_cycles > 0 ? m.a_cycles : CopyCycles(m.a, t.threads()) * (m.packed() ? 4 : 1);
  // Each stage's data comes from the second-level cache at most so late; what comes through registers is asked for one
  // stage before. And alone on a multiprocessor, a block waits for what its warps do one after the other, the longer
  // the less there is of it (measured on an H100: products of 128 rows in all tiles).
  const bool asynchronous = target.has_async_copy && std::min(m.a.granule, m.b.granule) >= 4;
  const double chain = cycles + std::max(0.0, 400 - cycles / 4);
  const double latency = std::max(700.0 / std::max(1, asynchronous ? t.stages - 1 : 1), chain);
  const double waves = std::ceil(blocks / static_cast<double>(gpu.units * fit));
  double work = std::max(of_unit * steps * cycles, waves * steps * latency);
  const double finish =
      waves * (1200 + t.tile_m * t.tile_n / 32.0);  // cycles: first data, results through shared memory
  // Shares of the depth: short blocks, of which each adds its slices one after the other.
  const double shares = t.splits == 1 ? 0 : of_unit * t.slices * t.tile_m * t.tile_n / 16.0;
  const double lists = m.listed >= 0 ? 700 : 0;  // where a list begins, and what is first in it
  const double us = gpu.launch_us + (work + finish + shares + lists) / gpu.clock_ghz / 1e3;
  // Many small blocks ask for more at once.
  const double traffic = TileTraffic(m) / (t.core == MatmulTiling::Core::kMmaF64 ? 1.4 : 1) / gpu.l2_bytes_per_ns / 1e3;
  return std::max(us, traffic) + SplitSumMicroseconds(m, gpu, shares_are_joined);
}

}  // namespace tessera
