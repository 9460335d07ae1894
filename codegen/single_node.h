// SingleNode: a node taken out of its graph, to be measured alone, and the key under which that is remembered.
//
//   const SingleNode single = TakeOut(graph, graph.nodes[3]);
//   single.graph;                                     // the node over inputs and its own constants
//   single.what == "matmul f32[192,512] x f32[512,512] kept 10.0 %";
//   NodeKey(single, target, threads);                 // 32 hexadecimal digits
//
// Two nodes have the same key when every emitter would treat them alike: op, parameters, types, epilogue, which
// operands are constants and what of those is kept, at which widths; on this kind of processor with as many threads.
// The values of constants are not part of it: tuning outlives retraining. Pure functions. Tested by tuner_test.cc.
#ifndef TESSERA_CODEGEN_SINGLE_NODE_H_
#define TESSERA_CODEGEN_SINGLE_NODE_H_

#include <string>

#include "codegen/target.h"
#include "graph/graph.h"

namespace tessera {

struct SingleNode {
  Graph graph;       // one node; constants share the bytes of the source's
  std::string what;  // for people
};

SingleNode TakeOut(const Graph& graph, const Node& node);
std::string NodeKey(const SingleNode& single, const Target& target, int threads);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_SINGLE_NODE_H_
