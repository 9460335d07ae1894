// Attributes put together and spread out, on their cells: what is declared of the parts said of the whole.
//
//   Attribute wide = BroadcastTo(row, {4096, 768});              // an index set along axis 1, whatever the number of
//   rows Attribute qkv = Concat({&query, &key, &value}, 0);           // three weights stacked
//
// With Attribute's own Reshaped, Transposed and Sliced these are the moves that tensors make. The cost is that of the
// cells (cells.h): grids are never expanded to elements. Results are in the smallest exact form. Thread-safe. Tested by
// attribute_algebra_test.cc.
#ifndef TESSERA_TESA_ATTRIBUTE_ALGEBRA_H_
#define TESSERA_TESA_ATTRIBUTE_ALGEBRA_H_

#include <initializer_list>
#include <span>

#include "tesa/attribute.h"

namespace tessera {

// NumPy's rule; `shape` has the extents of the attribute's, or others where that has 1 or none.
Attribute BroadcastTo(const Attribute& attribute, const Shape& shape);
// At least one part; equal extents of all axes but `axis`.
Attribute Concat(std::span<const Attribute* const> parts, int axis);
inline Attribute Concat(std::initializer_list<const Attribute*> parts, int axis) {
  return Concat(std::span<const Attribute* const>(parts.begin(), parts.size()), axis);
}

}  // namespace tessera

#endif  // TESSERA_TESA_ATTRIBUTE_ALGEBRA_H_
