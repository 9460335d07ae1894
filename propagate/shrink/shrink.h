// shrink: turns what propagation found into a smaller graph that computes the same function.
//
//   ASSIGN_OR_RETURN(ShrinkReport report, Shrink(graph, facts, book));
//
//   before  %h: [1,64] = relu(matmul(%x, %w1) + %b1); %y = matmul(%h, %w2)         24 rows of %w1 are pruned
//   after   %h: [1,40] = relu(matmul(%x, %w1') + %b1'); %y = matmul(%h, %w2') + %c   the 24 constant columns are in %c
//
// Indices of axes that an op ties together (a channel of a convolution, of its bias, of the activation behind it, of
// the rows that read it) stand or fall together: they go when every tensor of the tie may lose them, that is, when each
// of their elements is dead, or constant and folded by its readers. Readers that sum over a dropped index get what its
// constants contributed as a bias, exactly, also where padding makes it differ at borders. Wholly constant values
// become constants, nodes that nothing needs go. Dead and zero elements of the constants that stay are written as
// zeros, and their attribute says so: later stages need no facts. Graph inputs and outputs keep their shapes; no axis
// loses its last index. Whatever an op cannot take smaller stays as it was: an axis that mixes (softmax, a norm) is
// never cut.
//
// The graph is rewritten only when the result verifies. Tested by shrink_test.cc and propagate/soundness_test.cc: 1,000
// random graphs.
#ifndef TESSERA_PROPAGATE_SHRINK_SHRINK_H_
#define TESSERA_PROPAGATE_SHRINK_SHRINK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"
#include "propagate/propagate.h"
#include "propagate/rule_book.h"

namespace tessera {

struct ShrinkReport {
  int64_t indices_removed = 0;  // of axes of activations and weights
  int64_t nodes_removed = 0;
  int64_t values_folded = 0;                        // computed values that became constants
  int64_t biases_added = 0;                         // additions that carry folded constants
  int64_t elements_before = 0, elements_after = 0;  // of constants
  int64_t kept_before = 0, kept_after = 0;          // of these, not pruned
  std::vector<std::string> lines;                   // for people: "conv 'dw3': channels 64 -> 19"
  std::vector<std::string> warnings;                // what collapsed and was kept (propagate.h), with its causes

  bool changed() const { return indices_removed > 0 || nodes_removed > 0 || values_folded > 0; }
};

// `facts` are those of Propagate on this very graph. On error the graph is as it was.
StatusOr<ShrinkReport> Shrink(Graph& graph, const Facts& facts, RuleBook& book);

// Propagate, then Shrink; what the engine does between simplifying and lowering.
StatusOr<ShrinkReport> PropagateAndShrink(Graph& graph, RuleBook& book, const PropagateOptions& options = {});

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_SHRINK_H_
