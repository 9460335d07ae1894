// int4: f32 weights that are 4-bit integers times a scale for each block along the depth, as weight-only quantisation
// makes them.
//
//   W[row, k] = scale[row, block of k] * (q[row, k] + offset[row, block of k])         q in [-8, 7], exactly, in f32
//
// What matters is what the values are, not how the model spells them: a constant that is f32 because it has been
// dequantised is recognised by its values, whatever tool wrote it; each must come out of f32(scale * integer) to the
// last bit. Blocks are as long as they can be: a row, or 256 … 16 elements.
//
// Values only; functions are stateless. Tested by int4_test.cc.
#ifndef TESSERA_TESA_INT4_H_
#define TESSERA_TESA_INT4_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace tessera {

struct Int4Block {
  float scale = 1;
  int offset = 0;
};

// Of these values, if they are f32(scale * (q + offset)) each.
std::optional<Int4Block> FitInt4Block(std::span<const float> values);

struct Int4Weights {
  int64_t rows = 0, depth = 0;
  int64_t block = 0;              // elements; the last of a row may be shorter
  bool offsets = false;           // any of them is not 0
  std::vector<Int4Block> blocks;  // [row][block]
  std::vector<int8_t> elements;   // q, [row][depth]

  int64_t blocks_per_row() const { return (depth + block - 1) / block; }
};

// Of `rows` rows of `depth` elements each, which `read_row(row, values)` writes to `values`; with the longest blocks.
// Most weights are found to be no such ones after a few elements.
std::optional<Int4Weights> FindInt4(int64_t rows, int64_t depth,
                                    const std::function<void(int64_t row, std::span<float> values)>& read_row);

}  // namespace tessera

#endif  // TESSERA_TESA_INT4_H_
