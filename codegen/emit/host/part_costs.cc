#include "codegen/emit/host/part_costs.h"

#include <algorithm>
#include <array>

namespace tessera {
namespace {

constexpr int kHeights = 5;  // of tiles: 1, 2, 4, 8, 16 rows

// A row of the table: one kind of unit on one level of processors; nanoseconds of a unit and a panel of 16 columns.
struct Measured {
  double stream, loop;  // at 10 % kept; no stream: 0
  std::array<double, kHeights> tiles;
};

// Measured on a Zen 4 at 3.67 GHz, 2026-11-23, by
//
//   TESSERA_TARGET=host:LEVEL bazel run //codegen/emit/host:cover_benchmark -- calibrate          tiles, loop
//   TESSERA_TARGET=host:LEVEL bazel run //codegen/emit/host:scattered_benchmark                   stream: 512x512x192
//
// A multiply-add of a whole panel takes 0.272 with AVX-512, 0.272 for both halves with AVX2, and 1.09 for the four
// quarters, multiplied and added one after the other, without either.
constexpr Measured kAvx512F32 = {0.30, 0.50, {0.97, 0.54, 0.273, 0.272, 0.272}};
constexpr Measured kAvx512Bytes = {0.30, 0.51, {0.97, 0.53, 0.274, 0.274, 0.273}};
constexpr Measured kAvx512Pairs = {0.65, 0.65, {0.72, 0.44, 0.44, 0.41, 0.38}};
constexpr Measured kAvx2F32 = {0.50, 0.51, {1.08, 0.56, 0.30, 0.30, 0.30}};
constexpr Measured kAvx2Pairs = {0.95, 0.75, {0.75, 0.485, 0.455, 0.45, 0.44}};
constexpr Measured kOldF32 = {0, 1.10, {1.10, 1.09, 1.05, 1.04, 1.02}};
constexpr Measured kOldPairs = {0, 1.30, {1.25, 1.20, 1.20, 1.20, 1.20}};

// What beginning a block takes: a loop of a stream, or the next columns of a tile, for each 16 rows. A few cycles.
constexpr double kBeginNs = 0.5;

CoverCosts CostsOf(const Measured& m) {
  CoverCosts costs;
  costs.scattered_ns = m.stream == 0 ? m.loop : std::min(m.stream, m.loop);
  costs.dense_ns = costs.slices_ns = m.tiles.back();
  costs.nm_ns = m.loop;
  for (const auto& [height, width] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4}, {32, 1}, {16, 1}, {8, 1}, {4, 1}, {1, 4}}) {
    int level = 0;
    while (level + 1 < kHeights && int64_t{2} << level <= height) ++level;
    const auto elements = static_cast<double>(height * width), tiles = static_cast<double>((height + 15) / 16);
    costs.blocks.push_back({height, width, elements * m.tiles[level] + tiles * kBeginNs});
  }
  return costs;
}

}  // namespace

const CoverCosts& CoverCostsFor(SparseUnit unit, const Target& target) {
  static const CoverCosts avx512_f32 = CostsOf(kAvx512F32), avx512_bytes = CostsOf(kAvx512Bytes),
                          avx512_pairs = CostsOf(kAvx512Pairs), avx2_f32 = CostsOf(kAvx2F32),
                          avx2_pairs = CostsOf(kAvx2Pairs), old_f32 = CostsOf(kOldF32), old_pairs = CostsOf(kOldPairs);
  const bool f32 = unit == SparseUnit::kF32;
  if (target.has_avx512) return f32 ? avx512_f32 : unit == SparseUnit::kInt8x4 ? avx512_bytes : avx512_pairs;
  if (target.vector_bits >= 256) return f32 ? avx2_f32 : avx2_pairs;
  return f32 ? old_f32 : old_pairs;
}

}  // namespace tessera
