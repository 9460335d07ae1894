// The names of ops, without the ops: what printing, parsing and files need of ops.def.
//
//   OpName(Op::kMatmul) == "matmul";  OpByName("matmul") == Op::kMatmul;
//
// Unlike Name(Op) of op.h this does not link the implementations of all ops. Tested by text_test.cc.
#ifndef TESSERA_GRAPH_OP_NAMES_H_
#define TESSERA_GRAPH_OP_NAMES_H_

#include <optional>
#include <string_view>

#include "graph/graph.h"

namespace tessera {

inline constexpr std::string_view kOpNames[] = {
#define TES_OP(name, text, family) text,
#include "graph/ops/ops.def"
#undef TES_OP
};

// The name of the text form; "?" for a number that is no op.
inline std::string_view OpName(Op op) {
  const size_t index = static_cast<size_t>(op);
  return index < std::size(kOpNames) ? kOpNames[index] : "?";
}

inline std::optional<Op> OpByName(std::string_view name) {
  for (size_t k = 0; k < std::size(kOpNames); ++k) {
    if (kOpNames[k] == name) return static_cast<Op>(k);
  }
  return std::nullopt;
}

}  // namespace tessera

#endif  // TESSERA_GRAPH_OP_NAMES_H_
