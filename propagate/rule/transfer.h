// Transfer: what carries attributes across one node, both ways. The one door for every kind of rule: a Rule (learned,
// exact or written by hand) behind RuleTransfer (apply.h), scrambling of the very instance behind InstanceTransfer
// (scramble.h).
//
// Implementations are pure: the same facts give the same answer; more facts never give less. Thread-compatible.
#ifndef TESSERA_PROPAGATE_RULE_TRANSFER_H_
#define TESSERA_PROPAGATE_RULE_TRANSFER_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "tesa/known.h"
#include "tesa/needed.h"

namespace tessera {

class Transfer {
 public:
  virtual ~Transfer() = default;

  // What is known of each output, from what is known of the operands. Operands are those of Operands(node); nullptr
  // where absent. Ranges are left to ranges.h.
  virtual StatusOr<std::vector<Known>> Forward(std::span<const Known* const> inputs) const = 0;

  // What this node needs of operand `input`, from what is needed of its outputs. An element that can change nothing
  // live is dead; a tensor that stands at several operands is asked for at each, and the caller joins.
  virtual StatusOr<Needed> Backward(int input, std::span<const Known* const> inputs,
                                    std::span<const Needed* const> outputs) const = 0;

  // Why element `element` (row-major) of `input` is dead, or of output `output` known: one line for people that names
  // operands as in0, in1, out0 and the elements that decide, e.g. "in1[c,*] = 0". Empty when it is not so.
  virtual std::string WhyDead(int input, int64_t element, std::span<const Known* const> inputs,
                              std::span<const Needed* const> outputs) const = 0;

  // The rule as text, or what stands for it ("scrambled at this shape").
  virtual std::string ToString() const = 0;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_TRANSFER_H_
