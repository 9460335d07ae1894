// Attention for tests of GPU emitters: a node over inputs q, k and v of any sizes, in both layouts. Tested through its
// users.
#ifndef TESSERA_CODEGEN_EMIT_GPU_TESTING_ATTENTION_GRAPH_H_
#define TESSERA_CODEGEN_EMIT_GPU_TESTING_ATTENTION_GRAPH_H_

#include "graph/builder.h"

namespace tessera {

struct AttentionSizes {
  int64_t batch, heads, queries, keys, depth, value_depth;
};

inline Shape AttentionOperand(bool positions_first, const AttentionSizes& s, int64_t positions, int64_t depth) {
  return positions_first ? Shape({s.batch, positions, s.heads, depth}) : Shape({s.batch, s.heads, positions, depth});
}

inline ValueId AttentionOfInputs(GraphBuilder& b, const AttentionSizes& s, bool positions_first, DType type,
                                 double scale, ValueId mask = ValueId::kNone) {
  const ValueId q = b.Input("q", type, AttentionOperand(positions_first, s, s.queries, s.depth));
  const ValueId k = b.Input("k", type, AttentionOperand(positions_first, s, s.keys, s.depth));
  const ValueId v = b.Input("v", type, AttentionOperand(positions_first, s, s.keys, s.value_depth));
  return b.Attention(q, k, v, scale, mask, positions_first ? "bshd" : "bhsd");
}

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_TESTING_ATTENTION_GRAPH_H_
