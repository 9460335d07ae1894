// multiply_add: the schoolbook triple loop of a matrix product, in double or modulo 2^64, laid out to be quick enough.
//
//   MultiplyAdd(2, 3, 4, a, b, c);      // c[2,3] += a[2,4] * b[4,3], dense and row-major
//
// The references of matmul and conv are built on it, and with them whole networks are checked (MobileNet-V1: 0.57 G
// multiply-adds, BERT-base at sequence 128: 11 G). Each sum still runs in order of k, one product after the other.
// Pure functions. Tested by multiply_add_test.cc.
#ifndef TESSERA_GRAPH_MULTIPLY_ADD_H_
#define TESSERA_GRAPH_MULTIPLY_ADD_H_

#include <cstdint>

namespace tessera {

// c[m, n] += sum over k of a[m, k] * b[k, n]; all dense and row-major, c apart from a and b. The second form wraps.
void MultiplyAdd(int64_t m, int64_t n, int64_t k, const double* a, const double* b, double* c);
void MultiplyAdd(int64_t m, int64_t n, int64_t k, const int64_t* a, const int64_t* b, int64_t* c);

}  // namespace tessera

#endif  // TESSERA_GRAPH_MULTIPLY_ADD_H_
