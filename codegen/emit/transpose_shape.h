// TransposeShape: a transposition in as few dimensions as it has, as emitters of every target match it.
//
//   out[…, c, …, o] = epilogue(in[…, o, …, c])            c: neighbours in memory there, o: neighbours here
//
// Dimensions that stay neighbours are one; where a run of neighbours keeps its order, runs are the elements (up to 64
// bits). Where that leaves c = o, rows are copied. Values only. Tested by transpose_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_TRANSPOSE_SHAPE_H_
#define TESSERA_CODEGEN_EMIT_TRANSPOSE_SHAPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace tessera {

struct TransposeShape {
  // Dimensions of the output, outermost first; elements of the input from one position to the next.
  std::vector<int64_t> extents, strides;
  int bits = 32;  // of an element as it is moved
  int bytes = 4;  // of an element as it is stored: what addresses are multiples of
  int c = 0;      // the dimension whose positions are neighbours in the input

  int o() const { return static_cast<int>(extents.size()) - 1; }
  int64_t OutStride(int d) const {
    int64_t stride = 1;
    for (int k = d + 1; k <= o(); ++k) stride *= extents[k];
    return stride;
  }
  std::string Key() const;
};

// The shape of a node; nullopt with the reason in *why.
std::optional<TransposeShape> TransposeShapeOf(const Graph& graph, const Node& node, std::string* why);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_TRANSPOSE_SHAPE_H_
