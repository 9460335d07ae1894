// propagate: pushes what is known and what is needed of every element through the graph, forward, backward and
// sideways, to the fixed point.
//
//   RuleBook book;
//   ASSIGN_OR_RETURN(Facts facts, Propagate(graph, book));
//   facts.known[Index(w)];  facts.needed[Index(w)];
//   PrunedAttribute(graph, facts, w).density();          // after propagation: what is neither zero, dead nor folded
//
// A work list. A node is visited forward when what is known of an operand grew: its outputs' Known meet what the rule
// gives. A value is visited backward when what is needed of an output of a reader shrank, or what is known of a
// reader's operands grew: its Needed become the join over all operands of all readers at which it stands. Both only
// ever move one way, so the result does not depend on the order (options.order_seed shuffles it, for tests). Known
// never depends on Needed: a dead element is unread, not zero. So the cheapest order goes forward through the nodes
// once, then backward through the values once. Graph outputs are live throughout. Known ranges come from ranges.h.
//
// The masks that are declared for constants are facts from the start. Those of other values have to be nodes by now
// (graph/passes/apply_masks.h): Propagate refuses a graph in which one still stands.
//
// Collapse: a graph output that became wholly constant though it depends on an input, or a contraction all of whose
// weights are pruned, is an error that gives the chain of causes, or with OnCollapse::kKeep a warning in
// Facts::collapsed. Tested by propagate_test.cc and oracles_test.cc.
#ifndef TESSERA_PROPAGATE_PROPAGATE_H_
#define TESSERA_PROPAGATE_PROPAGATE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/rule_book.h"
#include "tesa/attribute.h"
#include "tesa/known.h"
#include "tesa/needed.h"

namespace tessera {

enum class OnCollapse : uint8_t { kError, kKeep };
// "error" or "keep".
StatusOr<OnCollapse> ParseOnCollapse(std::string_view text);

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
  int64_t visits = 0;  // of nodes forward and of values backward
  int passes = 0;      // the most visits of one node or value
  int64_t byte_size() const;
};

// The graph is one that the verifier accepts. Errors name the node.
StatusOr<Facts> Propagate(const Graph& graph, RuleBook& book, const PropagateOptions& options = {});

// The attribute after propagation: pruned where zero, dead or a folded constant, else the lower of the declared width
// and the bits that are read. For a constant of the graph "folded" does not apply: its elements are all known, they are
// pruned where zero or dead.
Attribute PrunedAttribute(const Graph& graph, const Facts& facts, ValueId value);

// How many elements of this constant of the graph are zero or dead; as num_elements - num_kept of PrunedAttribute,
// without making one.
int64_t NumPruned(const Facts& facts, ValueId constant);

// Why is this element pruned? One line per cause, from the element back to a declared mask or a constant; ends where
// nothing is left to explain. Empty when the element is live and unknown.
//   %h[*,5] is dead: matmul 'fc2' reads it only through %w2[5,*], which is zero
//   %w2[5,*] is zero: declared pruned
std::string Explain(const Graph& graph, const Facts& facts, RuleBook& book, ValueId value, int64_t element);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_PROPAGATE_H_
