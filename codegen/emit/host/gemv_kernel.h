// EmitGemv: the kernel of a product with few columns, for any GemvFormat (gemv_format.h says how weights lie).
//
//   copy x's columns into scratch, zeros behind each                  windows and whole units may be read past its end
//   task = a run of groups:
//     for group:
//       sums[column][lane] = 0                                        several sums each, where columns are too few to
//       dense, columns:   for vector of the stream:                   hide the latency of a multiply-add
//         sums[column] += splat(x[column][unit]) * vector
//       scattered:        for bundle of the stream:
//         for column:  window = registers of x[column] from the bundle's place on
//           for step:  sums[column] += permute(window, indices[step]) * values[step]
//       y[column][group's rows] = epilogue(sums)
//
// Roofline: a vector of the stream is 64 bytes (AVX-512). On Zen 4 the second level gives 32 bytes a cycle and core,
// the third 28, memory 9, and loads are one register a cycle; so a bundle of single bytes, 256 bytes, takes 8 cycles
// (9, 28), of which its 6 loads and 4 multiply-adds and permutations fill 6; a bundle of f32 or quads, 320 bytes, takes
// 10 (11, 35) and its 9 loads, 8 permutations and what chooses between their halves 17, which binds it.
// Measured figures: docs/results/host_few_columns.md.
//
// Permutations take AVX-512, of single bytes AVX512-VBMI; all else is for any processor. Stateless. Tested by
// gemv_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_GEMV_KERNEL_H_
#define TESSERA_CODEGEN_EMIT_HOST_GEMV_KERNEL_H_

#include <string>

#include "codegen/emit/epilogue.h"
#include "codegen/emit/host/gemv_format.h"
#include "codegen/emit/kernel_builder.h"
#include "codegen/target.h"

namespace tessera {

struct GemvShape {
  int64_t rows = 0, depth = 0, columns = 1;  // x is [columns][depth], y [columns][rows]

  std::string Key() const;
};

// Whether the target has what the format's kernel needs.
bool HasGemv(const Target& target, const GemvFormat& format);

// Of a thread's scratch that the kernel uses.
int64_t GemvScratchBytes(const GemvShape& shape, const GemvFormat& format);

// Arguments: 0 x, 1 values, 2 tasks, and unless dense 3 begin, 4 places (GemvStream); then the epilogue's.
int GemvFirstEpilogueArg(const GemvFormat& format);
void EmitGemv(KernelBuilder& b, const GemvShape& shape, const GemvFormat& format, const TileEpilogue& epilogue);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_GEMV_KERNEL_H_
