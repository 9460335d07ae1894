// Coarsen: which indices of each axis of an array have equal slices.
//
//   {1, 0, 1,
//    1, 0, 1}   as [2, 3]:   axes {whole, {0, 2} | {1}},  values {1, 0}
//
// Private to tesa/. Tested by cells_test.cc.
#ifndef TESSERA_TESA_COARSEN_H_
#define TESSERA_TESA_COARSEN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "tesa/partition.h"
#include "tesa/types.h"

namespace tessera::internal {

template <typename T>
struct Coarse {
  std::vector<Partition> axes;  // of the extents of `shape`
  std::vector<T> values;        // one per cell; empty when `unchanged`
  bool unchanged = false;       // every element is a cell of its own: `values` would be the array that was given
};

// The coarsest axes that tell `values` (row-major, shape.num_elements() of them) apart, by their bits: exact, and
// linear in the number of values. T is uint8_t, int32_t or double.
template <typename T>
Coarse<T> Coarsen(const Shape& shape, std::span<const T> values);

}  // namespace tessera::internal

#endif  // TESSERA_TESA_COARSEN_H_
