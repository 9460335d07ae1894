// canonicalize_rules: the rules of canonicalize.h, by what they are about; for canonicalize.cc alone.
//
//   for (const Rule& rule : ArithmeticRules()) if (rule.op == node.op && rule.apply(r, id)) …
//
// A rule returns whether it changed the graph; the node may be gone then. Tested by canonicalize_test.cc.
#ifndef TESSERA_GRAPH_PASSES_CANONICALIZE_RULES_H_
#define TESSERA_GRAPH_PASSES_CANONICALIZE_RULES_H_

#include <span>

#include "graph/passes/rewriter.h"

namespace tessera {

struct Rule {
  Op op;  // of nodes without epilogue that the rule looks at
  bool (*apply)(Rewriter& r, NodeId id);
};

std::span<const Rule> ArithmeticRules();
std::span<const Rule> MovementRules();
// For every element-wise op: operands need not be expanded, as they broadcast.
bool ReadThroughExpand(Rewriter& r, NodeId id);

}  // namespace tessera

#endif  // TESSERA_GRAPH_PASSES_CANONICALIZE_RULES_H_
