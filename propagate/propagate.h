// propagate: pushes what is known and what is needed of every element through the graph, forward, backward and
// sideways, to the fixed point.
//
//   RuleBook book;
//   ASSIGN_OR_RETURN(Facts facts, Propagate(graph, book));
//   facts.known[Index(w)];  facts.needed[Index(w)];
//   PrunedAttribute(graph, facts, w).density();          // after propagation: what is neither zero, dead nor folded
//
// A work list of nodes, cheapest first. A node is visited when a fact of one of its tensors changed: its outputs' Known
// meet what the rule gives from its operands', and its operands' Needed are recomputed from its outputs' and joined
// over all readers. Both only ever move one way, so the result does not depend on the order (options.order_seed
// shuffles it, for tests). Known never depends on Needed: a dead element is unread, not zero. Graph outputs are live
// throughout.
//
// Collapse: a graph output that became wholly constant though it depends on an input, or a contraction all of whose
// weights are pruned, is an error that gives the chain of causes, or with OnCollapse::kKeep a warning in
// Facts::collapsed. Tested by propagate_test.cc and oracles_test.cc.
#ifndef TESSERA_PROPAGATE_PROPAGATE_H_
#define TESSERA_PROPAGATE_PROPAGATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/rule_book.h"
#include "tesa/attribute.h"
#include "tesa/known.h"
#include "tesa/needed.h"

namespace tessera {

enum class OnCollapse : uint8_t { kError, kKeep };

struct PropagateOptions {
  OnCollapse on_collapse = OnCollapse::kError;
  uint64_t order_seed = 0;  // 0: cheapest first
};

struct Collapse {
  ValueId value = ValueId::kNone;  // the output or weight that is empty
  std::string chain;               // why, a cause per line, as Explain gives
};

struct Facts {
  std::vector<Known> known;    // by ValueId
  std::vector<Needed> needed;  // by ValueId
  std::vector<Collapse> collapsed;
  int64_t visits = 0;  // of nodes
  int passes = 0;      // the longest chain of revisits of one node
  int64_t byte_size() const;
};

// The graph is one that the verifier accepts. Errors name the node.
StatusOr<Facts> Propagate(const Graph& graph, RuleBook& book, const PropagateOptions& options = {});

// The attribute after propagation: pruned where zero, dead or a folded constant, else the lower of the declared width
// and the bits that are read. For a constant of the graph "folded" does not apply: its elements are all known, they are
// pruned where zero or dead.
Attribute PrunedAttribute(const Graph& graph, const Facts& facts, ValueId value);

// Why is this element pruned? One line per cause, from the element back to a declared mask or a constant; ends where
// nothing is left to explain. Empty when the element is live and unknown.
//   %h[*,5] is dead: matmul 'fc2' reads it only through %w2[5,*], which is zero
//   %w2[5,*] is zero: declared pruned
std::string Explain(const Graph& graph, const Facts& facts, RuleBook& book, ValueId value, int64_t element);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_PROPAGATE_H_
