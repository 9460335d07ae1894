// fused_qkv: an attention block whose queries, keys and values come from one product, as exporters spell it.
//
//   Graph graph = FusedQkvBlock({.form = QkvForm::kPlanes, .batch = 1, .positions = 128, .heads = 12, .depth = 64});
//
// x [B, S, H * D] times a constant [H * D, 3 * H * D], plus a bias, cut into heads, attention spelled out, heads put
// side by side and projected back. Weights are seeded. For tests and benchmarks of passes and emitters; tested by them.
#ifndef TESSERA_GRAPH_TESTING_FUSED_QKV_H_
#define TESSERA_GRAPH_TESTING_FUSED_QKV_H_

#include <cstdint>

#include "graph/graph.h"

namespace tessera {

enum class QkvForm : uint8_t {
  kSplit,         // three runs of columns, each reshaped to heads and transposed: GPT-2
  kPlanes,        // reshape [B, S, 3, H, D], transpose [2, 0, 3, 1, 4], one index of the first dimension: ViT
  kPlanesBehind,  // reshape [B, S, 3, H, D], one index of dimension 2, then transposed
  kInHeads,       // reshape [B, S, H, 3 * D], runs of the last dimension, then transposed: BLOOM, GPT-NeoX
  kHeadsFirst,    // the same, transposed before it is cut
};
inline constexpr QkvForm kQkvForms[] = {QkvForm::kSplit, QkvForm::kPlanes, QkvForm::kPlanesBehind, QkvForm::kInHeads,
                                        QkvForm::kHeadsFirst};

enum class QkvMask : uint8_t { kNone, kAdded, kCausalChoice };  // an input; where(constant, scores, lowest)

struct FusedQkv {
  QkvForm form = QkvForm::kSplit;
  int64_t batch = 1, positions = 8, heads = 2, depth = 4;
  QkvMask mask = QkvMask::kNone;
  bool quantised = false;   // quantize and dequantize around x, the weights and the product's result
  bool read_whole = false;  // something else reads the product's result
  double pruned = 0;        // of the weights, declared
  uint64_t seed = 1;
};

Graph FusedQkvBlock(const FusedQkv& what);

}  // namespace tessera

#endif  // TESSERA_GRAPH_TESTING_FUSED_QKV_H_
