// contraction: what matmul, conv and attention share besides the loops of multiply_add.h.
//
//   ASSIGN_OR_RETURN(DType dtype, ContractionType(c));        // f16 x f16 -> f16, i8 x u8 -> i32
//   stage.body = ProductBody(c.dtype(0), c.dtype(1));
//
// Pure functions. Tested by contraction_test.cc.
#ifndef TESSERA_GRAPH_OPS_CONTRACTION_H_
#define TESSERA_GRAPH_OPS_CONTRACTION_H_

#include <cstdint>
#include <vector>

#include "graph/compute.h"
#include "graph/op.h"

namespace tessera {

// The element type of sums of products of operands 0 and 1: the floats' own type, which must be the same, or i32 for
// integers of up to 32 signed or 16 unsigned bits in any mix.
StatusOr<DType> ContractionType(const OpContext& c);

// (a, b) -> a * b, both read as their compute type, which must be the same.
Body ProductBody(DType a, DType b);

// The values of a tensor as T = double for floats, int64_t for others.
template <typename T>
std::vector<T>& ValuesOf(RefTensor& t);
template <>
inline std::vector<double>& ValuesOf<double>(RefTensor& t) {
  return t.f;
}
template <>
inline std::vector<int64_t>& ValuesOf<int64_t>(RefTensor& t) {
  return t.i;
}
template <typename T>
const std::vector<T>& ValuesOf(const RefTensor& t) {
  return ValuesOf<T>(const_cast<RefTensor&>(t));
}

}  // namespace tessera

#endif  // TESSERA_GRAPH_OPS_CONTRACTION_H_
