// Sparsity at import: what a model declares and what its weights show becomes an Attribute on the constant.
//
//   conv1.weight  f32[64,3,7,7]   declared -                          found 70.3% zero, block[4,1]   kept tesa(…)
//
// Weights are the constants that reach a matmul or a convolution, directly or through casts, dequantisations and moves
// that were not folded. Precedence: the user's side file, what the format declares, a 0/1 mask that multiplies the
// weight, exact zeros. What is declared pruned but is not zero becomes zero: the masked model is the model. Tested by
// sparsity_test.cc.
#ifndef TESSERA_MODELS_IMPORT_SPARSITY_H_
#define TESSERA_MODELS_IMPORT_SPARSITY_H_

#include <vector>

#include "models/import/graph_writer.h"
#include "models/import/import.h"

namespace tessera {

// Exact zeros are kept as an attribute from this share on; below it they are what dense training leaves.
inline constexpr double kMinZeroShare = 0.1;

// `origins` is indexed by value. Returns the report, in order of the constants.
std::vector<TensorReport> AnnotateSparsity(Graph& graph, const std::vector<ConstantOrigin>& origins, AnnotateMode mode);

}  // namespace tessera

#endif  // TESSERA_MODELS_IMPORT_SPARSITY_H_
