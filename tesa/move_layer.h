// Layers of an Attribute moved without expanding them: what Transposed and Sliced do to grids.
//
//   rows of [64, 3*3*8], seen as [64, 3, 3, 8], transposed by {3, 0, 1, 2}: an index set along axis 1 of [8, 64, 3, 3]
//
// A cell of a grid moves with its elements. Residuals and grids that the new place would cut into cells not much larger
// than elements are left to the caller, who expands them to bits. Private to tesa/. Tested by attribute_test.cc.
#ifndef TESSERA_TESA_MOVE_LAYER_H_
#define TESSERA_TESA_MOVE_LAYER_H_

#include <cstdint>
#include <optional>
#include <span>

#include "tesa/attribute.h"
#include "tesa/bitmap.h"

namespace tessera::internal {

// Row-major bits of `shape` in the row-major order of the transposed shape: axis d of the result is axis perm[d].
Bitmap TransposedBits(const Shape& shape, const Bitmap& bits, std::span<const int> perm);

// The same layer, seen under `shape`, if its cells are products there.
std::optional<TesaLayer> SeenAs(const TesaLayer& layer, const Shape& shape);
// `shape` is the tensor's; axis d of the result is axis perm[d].
std::optional<TesaLayer> TransposedLayer(const TesaLayer& layer, const Shape& shape, std::span<const int> perm);
// A slice that holds at least one element.
std::optional<TesaLayer> SlicedLayer(const TesaLayer& layer, const Shape& shape, std::span<const int64_t> start,
                                     std::span<const int64_t> size);

}  // namespace tessera::internal

#endif  // TESSERA_TESA_MOVE_LAYER_H_
