// GemvFormat: how the weights of a product with few columns are stored, so that reading them once, front to back, is
// all that the product costs.
//
//   y[row] = sum over kept (row, k) of W[row, k] * x[k]            `lanes` rows at a time, a *group*, one in each lane
//
// A *unit* is what 32 bits of x hold and a lane multiplies at once: one f32, or four bytes (u8 of x, i8 of W).
//
//   dense      [group][unit][lane]                        x's unit is broadcast
//   columns    [group][unit that the group keeps][lane]   the same, and the unit's number beside the stream
//   scattered  [group][bundle]: indices, then values      each lane takes units of its own out of a window of x:
//                                                         registers, and a permutation by the indices
//
// A scattered bundle is a few *steps* that share a window of x, which begins wherever the slowest of the group's rows
// has got to (a multiple of 16 units): rows may be ahead of each other by a window, not only by a step, and so most
// steps are full though rows keep different numbers of units here and there.
//
//                          units of a window   steps   units a lane and step   bundle, 16 lanes
//   f32                    63                  4       1                       64 + 4 · 64 bytes
//   four bytes (quads)     64                  4       1                       64 + 4 · 64 (4 bits: 64 + 2 · 64)
//   single bytes           128                 2       4                       128 + 128   (4 bits: 128 + 64)
//
// Bytes for each kept element of a 4096 x 4096 matrix whose elements are dropped at random (as much again of what
// limits small densities is padding; longer windows need more instructions than the bytes save, shorter ones more
// bytes):
//
//   kept               5 %    10 %   20 %   30 %   50 %
//   f32                9.4    6.9    5.8    5.5    5.2         dense 4 for each element
//   bytes              3.2    2.4    2.2    2.1    2.1         dense 1
//   quads              2.3    1.7    1.5    1.4    1.3         of quads dropped at random
//
// Absent f32 elements multiply nothing but zeros that the kernel itself provides: the window's 64th unit is 0, and it
// is what padding points to. Weights of 4 bits are stored as the upper half of a byte would hold them, so that
// unpacking is a shift and a mask, and sums are 16 times the result, exactly.
//
// Values only; functions are stateless. Tested by gemv_format_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_GEMV_FORMAT_H_
#define TESSERA_CODEGEN_EMIT_HOST_GEMV_FORMAT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tesa/bitmap.h"
#include "tesa/tensor.h"

namespace tessera {

enum class GemvKind : uint8_t { kDense, kColumns, kScattered };
enum class GemvUnit : uint8_t { kF32, kQuad, kByte };  // kByte: scattered only

struct GemvFormat {
  GemvKind kind = GemvKind::kDense;
  GemvUnit unit = GemvUnit::kF32;
  int lanes = 16;
  int value_bits = 32;  // of an element: 32, or of integers 8 or 4

  // "dense", "scattered", "quads4": a way's name.
  std::string Name() const;

  int elements() const { return unit == GemvUnit::kQuad ? 4 : 1; }    // of W in a unit
  int unit_bytes() const { return unit == GemvUnit::kByte ? 1 : 4; }  // of x
  int vector_bytes() const { return lanes * 4; }
  // Vectors of values that share one of memory: 2 of 4 bits.
  int shared() const { return value_bits == 4 ? 2 : 1; }
  // Scattered: one bundle.
  int window() const { return unit == GemvUnit::kByte ? 128 : unit == GemvUnit::kQuad ? 64 : 63; }
  int steps() const { return unit == GemvUnit::kByte ? 2 : 4; }
  int slots() const { return unit == GemvUnit::kByte ? 4 : 1; }  // units a lane takes in a step
  int index_bytes() const { return unit == GemvUnit::kByte ? steps() * vector_bytes() : vector_bytes(); }
  int bundle_bytes() const { return index_bytes() + steps() * vector_bytes() / shared(); }
};

// What a window begins at is a multiple of this many units, and stored divided by it.
inline constexpr int kWindowAlign = 16;
// Bytes behind x that a window may reach into: the longest window.
inline constexpr int kWindowBytes = 256;
// Products of 4-bit weights are summed 16-fold; up to this depth 32 bits hold that.
inline constexpr int64_t kMaxDepth4Bit = 65000;

// W, where it lies: element (row, k) is number row * row_step + k * depth_step of `tensor` (f32 or i8).
struct GemvWeights {
  Tensor tensor;
  int64_t rows = 0, depth = 0, row_step = 1, depth_step = 1;
  // Which of its elements are kept; empty: all. Integers that are 0 need not be kept: they contribute nothing.
  Bitmap kept;

  int64_t groups(int lanes) const { return (rows + lanes - 1) / lanes; }
  int64_t num_kept() const { return kept.size() == 0 ? rows * depth : kept.Count(); }
  double density() const;
};

// The weights as a kernel reads them.
struct GemvStream {
  Tensor values;  // u8: the stream
  Tensor places;  // u16: of a column its unit, of a bundle its window; empty where dense
  Tensor begin;   // i32[groups + 1]: a group's first column or bundle; empty where dense
  Tensor tasks;   // i32[tasks + 1]: a task's first group; tasks are of about equal bytes
};

// Does the format hold these weights exactly? f32 columns must be kept by all rows of the group or by none, places fit
// 16 bits, weights of 4 bits lie in [-8, 7].
bool CanStore(const GemvFormat& format, const GemvWeights& weights);

// Vectors (dense, columns) or bundles in the stream, by a sample of its groups: for estimates.
double EstimateVectors(const GemvFormat& format, const GemvWeights& weights);

GemvStream PackGemv(const GemvFormat& format, const GemvWeights& weights);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_GEMV_FORMAT_H_
