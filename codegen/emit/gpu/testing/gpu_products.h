// Products for tests of GPU emitters: graphs of one matmul with operands of any type and order, such operands, and how
// far from the interpreter results may be. Tested through its users.
#ifndef TESSERA_CODEGEN_EMIT_GPU_TESTING_GPU_PRODUCTS_H_
#define TESSERA_CODEGEN_EMIT_GPU_TESTING_GPU_PRODUCTS_H_

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "tesa/random.h"
#include "tesa/tensor.h"

namespace tessera {

struct Product {
  Shape a, b;
  bool transpose_a = false, transpose_b = false, constant_b = true;
  DType a_type = DType::kF32, b_type = DType::kF32;
  bool epilogue = false;
  double least = -1;  // of floats, which go up to least + 2
};

// Floats from `least` to least + 2; of integers any number that the type has.
Tensor RandomOperand(Random& random, DType type, const Shape& shape, double least = -1);

// x -> x·w, with a bias for each column, a residual and relu behind it where there is an epilogue. `inputs` receives
// what the graph's inputs are, random by `seed`.
Graph ProductGraph(const Product& p, std::vector<Tensor>& inputs, uint64_t seed);

// Relative to the largest result, of operands of that type.
double ProductBound(DType type);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_TESTING_GPU_PRODUCTS_H_
