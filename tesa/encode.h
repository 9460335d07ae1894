// EncodeRegion: the smallest exact region for a set of elements; how an Attribute comes to be compressed.
//
//   TesaLayer layer = EncodeRegion({4096, 4096}, kept, 32);      // 32x32 blocks: one grid of 128x128 cells, 2 KiB
//   DecodeRegion(layer) == kept;                                 // region.h
//
// Private to tesa/. Tested by attribute_test.cc.
#ifndef TESSERA_TESA_ENCODE_H_
#define TESSERA_TESA_ENCODE_H_

#include "tesa/attribute.h"
#include "tesa/bitmap.h"

namespace tessera::internal {

// A layer of width `bits` that contains exactly `kept`; the smallest among
//   one grid: the coarsest cells in which `kept` is constant (whole, rows, columns, channels, blocks, single elements);
//   index sets along several axes, with or without a grid of blocks as well;
//   a residual bitmap inside an index set or inside blocks;
//   n:m codes along an axis, in all of the tensor or inside an index set along another axis;
// each under `shape` without its extents of 1 and, beyond rank 2, under the matrix [first extent, rest].
// A few passes over the words of `kept`.
TesaLayer EncodeRegion(const Shape& shape, const Bitmap& kept, int bits);

}  // namespace tessera::internal

#endif  // TESSERA_TESA_ENCODE_H_
