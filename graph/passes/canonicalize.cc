#include "graph/passes/canonicalize.h"

#include <vector>

#include "graph/op.h"
#include "graph/passes/canonicalize_rules.h"
#include "graph/passes/rewriter.h"

namespace tessera {

Status Canonicalize(Graph& graph) {
  std::vector<std::vector<const Rule*>> by_op(AllOps().size());
  for (const Rule& rule : ArithmeticRules()) by_op[static_cast<size_t>(rule.op)].push_back(&rule);
  for (const Rule& rule : MovementRules()) by_op[static_cast<size_t>(rule.op)].push_back(&rule);
  Rewriter r(graph);
  for (NodeId id; r.Next(id);) {
    if (r.node(id).epilogue) continue;
    bool changed = GetOp(r.node(id).op).elementwise() && ReadThroughExpand(r, id);
    for (const Rule* rule : by_op[static_cast<size_t>(r.node(id).op)]) {
      if (changed || !r.status().ok()) break;
      changed = rule->apply(r, id);
    }
  }
  return std::move(r).Finish();
}

}  // namespace tessera
