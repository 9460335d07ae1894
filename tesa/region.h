// Regions of an Attribute as bits: expanding a layer, asking it for one element, checking one that comes from outside.
//
//   Bitmap kept = DecodeRegion(layer);        // encode.h is the way back
//
// Private to tesa/. Tested by attribute_test.cc.
#ifndef TESSERA_TESA_REGION_H_
#define TESSERA_TESA_REGION_H_

#include <cstdint>
#include <vector>

#include "tesa/attribute.h"
#include "tesa/bitmap.h"

namespace tessera::internal {

// Cells of `block` along each axis of `view`: the shape of a grid's bitmap.
Shape GridShape(const Shape& view, const std::vector<int64_t>& block);
// The elements in the set cells of one grid.
Bitmap DecodeGrid(const Shape& view, const TesaGrid& grid);
// How many those are; linear in the cells.
int64_t CountGrid(const Shape& view, const TesaGrid& grid);

// The elements of the layer's region.
Bitmap DecodeRegion(const TesaLayer& layer);
int64_t CountRegion(const TesaLayer& layer);
// Is row-major element i in the region? A step per axis and grid, and, where there is a residual, a count over the
// words of the first grid's cells.
bool RegionContains(const TesaLayer& layer, int64_t i);
// Payload bits of a layer: what EncodeRegion makes small.
int64_t RegionBits(const TesaLayer& layer);
// All promises of TesaLayer, for a tensor of `count` elements.
Status CheckRegion(const TesaLayer& layer, int64_t count);

// Sets the residual of kind kNm that, inside the set cells of the layer's first grid, keeps what `kept` keeps. The
// caller knows that it fits: every group there has n of m.
void EncodeNm(const Bitmap& kept, int axis, int n, int m, TesaLayer& layer);
// The same for kBitmap, which always fits.
void EncodeResidualBitmap(const Bitmap& kept, TesaLayer& layer);

}  // namespace tessera::internal

#endif  // TESSERA_TESA_REGION_H_
