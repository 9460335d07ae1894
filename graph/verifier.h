// Verify: the invariants of a Graph, on one page. Checked after every parse, read and pass; all other code relies on
// them.
//
//   RETURN_IF_ERROR(Verify(graph));
//   // TES-1105: node 'fc1' (matmul): output 0 '%h': expected the type f32[1,1024], found f32[1,1000]
//
// Values
//   1  Names are not empty and each stands once.
//   2  Shapes have at most 16 extents, all >= 0, and a byte count below 2^40.
//   3  An input of the graph stands once in graph.inputs, which lists nothing else.
//   4  A constant's data has the value's type. (A value of another kind has no data, and nobody reads its `constant`.)
//   5  A computed value is an output of exactly one node; inputs and constants are outputs of none.
//   6  An attribute has the value's shape, and no width beyond that of the element type. Where it prunes a constant the
//      data is +0 (VerifyOptions.data).
//   7  Quantisation parameters fit type and shape (CheckQuantParams); the type is an integer type.
//   8  graph.outputs lists values of the graph; one may stand twice.
// Nodes
//   9  The op is one of ops.def; operands and outputs are values of the graph; only an optional operand is kNone.
//  10  Each operand is an input, a constant, or an output of an earlier node.
//  11  Parameters are those of the op's OpDef, in presence and kind; floats among them are not NaN.
//  12  Output types are what the op infers; after an epilogue, with the epilogue's element type.
// Epilogues
//  13  The node has one output. The body is well formed (Body::Verify), takes 1 + inputs operands, reads the op's
//  result
//      and each operand under its compute type, and gives the compute type of `dtype`.
//  14  Operands broadcast to the shape of the output, which keeps its own.
//
// Errors name node or value, what was expected and what was found. Pure; safe to call from several threads.
// Tested by verifier_test.cc.
#ifndef TESSERA_GRAPH_VERIFIER_H_
#define TESSERA_GRAPH_VERIFIER_H_

#include <string_view>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/text.h"

namespace tessera {

struct VerifyOptions {
  // Also read the data of constants with an attribute (6). Off, the cost does not depend on the size of tensors.
  bool data = true;
};

Status Verify(const Graph& graph, const VerifyOptions& options = {});

// ParseGraph, then Verify.
StatusOr<Graph> ParseAndVerify(std::string_view text, const ParseOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_GRAPH_VERIFIER_H_
