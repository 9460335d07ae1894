// f32 weights that are 4-bit integers times a scale for each block along the depth (tesa/int4.h), as weight-only
// quantisation makes them (decoding): stored at 4 bits and multiplied without losing any.
//
//   y[row] = sum over blocks of scale * sum over k of the block of (q + offset) * x[k]
//
//   values  [group][block][8 elements][lane]  a 32-bit lane holds 8 elements, the first lowest
//   scales  [group][block]([lane] scale, and where any offset is not 0 [lane] offset), f32
//
//   for group:  for block:  for word of the block:                          a word: 8 elements of each of 16 rows
//     partial += splat(x[k + e]) * table[word >> 4e]    for each of 8       AVX-512: a permutation of 16 floats;
//   sums += scale * partial                                                 otherwise shifts and a conversion
//
// Roofline: 0.5 bytes for each weight and 4 (8 with offsets) for each block; on Zen 4 a shift, a permutation and a
// multiply-add, which share three pipes, take 1.4 cycles for 16 weights that come from the third level in 0.3 and from
// memory in 1.1: instructions bind, except with many threads to one memory.
//
// Values only; functions are stateless. Tested by gemv_int4_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_GEMV_INT4_H_
#define TESSERA_CODEGEN_EMIT_HOST_GEMV_INT4_H_

#include <cstdint>
#include <optional>
#include <string>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/host/gemv_format.h"
#include "codegen/emit/host/gemv_kernel.h"
#include "tesa/int4.h"

namespace tessera {

// Of f32 weights; what is not kept is 0.
std::optional<Int4Weights> FindInt4(const GemvWeights& weights);

// All that the kernel depends on beside the shape.
struct Int4Schedule {
  int lanes = 16;
  int64_t block = 0;
  bool offsets = false;

  std::string Key() const;
};

struct Int4Stream {
  Tensor values;  // u8
  Tensor scales;  // f32
  int64_t tasks = 1;
};
Int4Stream PackInt4(const Int4Weights& weights, int lanes);

double Int4Bytes(const Int4Weights& weights, int lanes);
// Cycles of one core, while nothing has to be waited for.
double Int4Cycles(const Int4Weights& weights, int64_t columns, const Target& target);

// Arguments: 0 x, 1 values, 2 scales; then the epilogue's. A task is a group of rows.
inline constexpr int kInt4FirstEpilogueArg = 3;
void EmitGemvInt4(KernelBuilder& b, const GemvShape& shape, const Int4Schedule& schedule, const TileEpilogue& epilogue);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_GEMV_INT4_H_
