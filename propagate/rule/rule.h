// Rule: how attributes cross an op: which elements of an input can change which elements of an output, and what stops
// them. One value for all of its sources: learned by scrambling, derived from a compute description, written by hand.
//
//   rule matmul: f32[7,5], f32[5,3] -> f32[7,3]
//     out0[a,b] <- in0[a,c]  unless in1[c,b] = 0
//     out0[a,b] <- in1[c,b]  unless in0[a,c] = 0
//
// A clause is a set of points, one for each assignment of its variables for which every index is in range. At a point
// it says: this element of the input can change this element of the output, unless each listed element of a third
// tensor equals 0 (or 1, for bool). From that everything follows:
//
//   forward    an output element is constant when every element that can change it is; its value is the op's there
//   backward   an input element is live when some live output element can be changed by it
//   sideways   the `unless`: a pruned column of W kills the row of X that it met, and the reverse
//
// A rule that lists too few points is unsound, one that lists too many finds less. Extents are those of the shapes the
// rule is bound to. Values only; thread-compatible. Tested by rule_test.cc.
//
//   index    c0 + c1*var + …        affine; several terms make a window: in0[n,k,2*y+i-1]
//   view     out0:[n,2,3,h,w][…]    the tensor indexed under another shape with as many elements (grouped convolution)
//   lookup   in0[value in1[a],b]    the index is the value of an integer input there: gather
//   link     for c in table(b) {…}  b may meet only the listed c: resize, roll, cumulative sums
//   unless   in1[c,*] = 0           all of a slice; in1[c,2*d] = 0 for any d < 3: one of them is enough
//   *        a variable that nothing else mentions; for i < 3: an extent that no axis implies (rule_text.cc)
#ifndef TESSERA_PROPAGATE_RULE_RULE_H_
#define TESSERA_PROPAGATE_RULE_RULE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tesa/types.h"

namespace tessera {

// offset + sum(coefficient * variable) + (value of lookup `lookup`, if >= 0; negative values count from the end).
struct RuleIndex {
  struct Term {
    int variable = 0;
    int64_t coefficient = 1;
    friend bool operator==(const Term&, const Term&) = default;
  };
  int64_t offset = 0;
  std::vector<Term> terms;  // ascending by variable, no zero coefficient
  int lookup = -1;          // of the clause
  friend bool operator==(const RuleIndex&, const RuleIndex&) = default;
};

// An element of a tensor at a point.
struct RuleAccess {
  Shape view;                    // as many elements as the tensor; usually its shape
  std::vector<RuleIndex> index;  // one per axis of `view`
  friend bool operator==(const RuleAccess&, const RuleAccess&) = default;
};

// The term drops out when the elements `at` of `input` all equal `value`. Variables beyond the clause's own (numbered
// from clause.extents.size() on, extents in `extents`) run through all their values: all = every one of these elements
// has to equal it, any = one is enough. An element out of range counts as equal (it is absent).
struct Annihilator {
  int input = 0;
  int value = 0;  // 0, or 1 for bool
  bool any = false;
  std::vector<int64_t> extents;
  RuleAccess at;
  friend bool operator==(const Annihilator&, const Annihilator&) = default;
};

// Variable `from` at value x may only meet the values of variable `to` in runs[x] (half-open, ascending).
struct Link {
  int from = 0, to = 0;
  std::vector<std::vector<std::pair<int64_t, int64_t>>> runs;
  friend bool operator==(const Link&, const Link&) = default;
};

// An integer input whose value is an index of another access; it may use the clause's variables.
struct Lookup {
  int input = 0;
  RuleAccess at;
  friend bool operator==(const Lookup&, const Lookup&) = default;
};

struct Clause {
  int output = 0, input = 0;
  std::vector<int64_t> extents;  // of the variables
  RuleAccess out, in;
  std::vector<Annihilator> unless;  // any one of them suffices
  std::vector<Link> links;
  std::vector<Lookup> lookups;
  friend bool operator==(const Clause&, const Clause&) = default;
};

struct Rule {
  std::string name;  // of the op
  std::vector<TensorType> inputs, outputs;
  std::vector<Clause> clauses;

  // Ranks, variables, extents, views, operand numbers.
  Status Verify() const;
  // The form shown above, in canonical order: equal text, equal rule.
  std::string ToString() const;
  friend bool operator==(const Rule&, const Rule&) = default;
};

// Reads ToString's form back; the result is verified.
StatusOr<Rule> ParseRule(std::string_view text);

// Clauses sorted, variables numbered by first appearance, variables of extent 1 gone, equal clauses once, clauses that
// another one covers (same pair, no fewer points, no more annihilators) dropped; variables are the indices of the
// output's axes, then of the input's, wherever they can be (rule_canonical.cc). The same points throughout.
Rule Canonical(Rule rule);

// Shorthands for writing rules by hand: an access to all of `shape` by variables first, first + 1, …
RuleAccess Straight(const Shape& shape, int first = 0);
RuleIndex Variable(int variable, int64_t coefficient = 1, int64_t offset = 0);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_RULE_H_
