// Tensor scrambling: learns how attributes cross an op from nothing but running it.
//
//   StatusOr<Rule> rule = LearnRule(box, {.seed = 1});            // a relation, generalised and checked again
//   InstanceTransfer transfer(box, {});                            // no relation: the very facts, scrambled
//
// What is tried. An element of an input is changed, at random (sign and magnitude varied; integers as integers), by
// spikes far above and below (for ops that select or saturate), among ties, and every output element that moves depends
// on it: probe.h. Slices of another operand held at zero, one for each bit of an index, show what annihilates:
// annihilate.h. Both at two small instances of the op (small_shapes.h), fitted by affine indices (fit.h), and carried
// to the shapes of the box (rule_template.h). InstanceTransfer changes groups of elements together and splits them
// along axes when something moves, so that structured answers take logarithmically many runs.
//
// What is assumed. A true dependence shows in one trial of a kind that fits it with probability at least kShowsFirm
// (0.9), and in one trial of all kinds in turn with at least kShowsWeak (0.2): probe.h says which kinds fit. What
// follows. A dependence of a tensor of n tests is missed with probability at most n (1 - p)^trials; Trials() is the
// least count that makes this at most max_error (1e-9), and ScrambleStats says what it was. Where only some elements of
// a large instance are tried, the bound speaks of those. A learned relation is held against random masks, and again at
// the largest instance up to the real one that the time allows; where none fits, InstanceTransfer answers for the
// instance.
//
// Depends on a callable, shapes and types only (//tests/layers checks that it reaches neither the algebra nor any op's
// compute). Seeded: the same seed gives the same rule. Tested by scramble_test.cc,
// instance_test.cc and, for every op, agreement_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_SCRAMBLE_H_
#define TESSERA_PROPAGATE_LEARN_SCRAMBLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "propagate/rule/black_box.h"
#include "propagate/rule/rule.h"
#include "propagate/rule/transfer.h"

namespace tessera {

struct ScrambleOptions {
  uint64_t seed = 1;
  double max_error = 1e-9;          // chance of a missed dependence per tensor, under the assumption
  double spot_check_seconds = 0.2;  // the most that checking a relation at the real shape may take; the largest shape
                                    // that fits is taken instead (0: no check)
};

struct ScrambleStats {
  int64_t runs = 0;  // of the callable
  double seconds = 0;
  int trials = 0;          // per test
  double error_bound = 0;  // what follows for the worst tensor
};

// Learns a relation at small shapes (distinct primes for distinct extents, where the op has such an instance), fits it,
// binds it to the shapes of `box` and checks it there. kRuleNotLearned: no relation fits; the message says which
// dependence it was that did not.
StatusOr<Rule> LearnRule(const BlackBox& box, const ScrambleOptions& options = {}, ScrambleStats* stats = nullptr);

// What LearnRule found, independent of shapes: kept under the box's name. Text, so that a cache file can be read.
class RuleCache {
 public:
  RuleCache();
  ~RuleCache();
  RuleCache(RuleCache&&) noexcept;
  RuleCache& operator=(RuleCache&&) noexcept;
  // Learned before under this name and fits these shapes: bound to them, without a run. nullopt otherwise.
  std::optional<Rule> Find(const BlackBox& box) const;
  StatusOr<Rule> FindOrLearn(const BlackBox& box, const ScrambleOptions& options, ScrambleStats* stats = nullptr);
  std::string ToString() const;
  // Replaces what is kept. kTextInvalid or kRuleInvalid leave it as it was.
  Status Parse(std::string_view text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class InstanceTransfer : public Transfer {
 public:
  explicit InstanceTransfer(BlackBox box, ScrambleOptions options = {});
  StatusOr<std::vector<Known>> Forward(std::span<const Known* const> inputs) const override;
  StatusOr<Needed> Backward(int input, std::span<const Known* const> inputs,
                            std::span<const Needed* const> outputs) const override;
  std::string WhyDead(int input, int64_t element, std::span<const Known* const> inputs,
                      std::span<const Needed* const> outputs) const override;
  std::string ToString() const override;

 private:
  BlackBox box_;
  ScrambleOptions options_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_SCRAMBLE_H_
