// RuleTransfer: applies a Rule to facts that are stored by cells, cell by cell: the cost grows with the number of
// different slices, not of elements.
//
//   RuleTransfer matmul(rule, ValuesOf(NodeCompute(graph, node)));
//   matmul.Forward({&x, &w});   // one Known: columns of zeros where w has them
//   matmul.Backward(0, {&x, &w}, {&all_live});   // dead where w has a row of zeros
//
// For each clause the variables are sorted into classes: two values of a variable are alike when every fact that the
// clause meets is the same for both (a window's variables jointly: its small ones stay apart, its large one is sorted
// by what it meets, borders included). The clause is then walked once over the product of the classes. The answer
// equals that of the walk over elements, exactly. Tested by apply_test.cc against that walk (testing/element_walk.h).
#ifndef TESSERA_PROPAGATE_RULE_APPLY_H_
#define TESSERA_PROPAGATE_RULE_APPLY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/status.h"
#include "graph/compute.h"
#include "propagate/rule/black_box.h"
#include "propagate/rule/rule.h"
#include "propagate/rule/transfer.h"
#include "tesa/cells.h"
#include "tesa/known.h"
#include "tesa/needed.h"

namespace tessera {

// The values of output elements that depend on known operand elements only. What is not known of the operands may be
// taken as anything finite.
class ConstantValues {
 public:
  // Values of these elements (row-major numbers) of an output. LimitExceeded: too much work; they count as unknown.
  using Get = std::function<Status(std::span<const Known* const> inputs, int output, std::span<const int64_t> elements,
                                   std::span<ScalarValue> values)>;
  // Cells of an output within which all elements that are constant have one value.
  using Alike = std::function<CellGrid(std::span<const Known* const> inputs, int output)>;

  // Without `alike` every element may have another value, and each is asked for.
  ConstantValues(Get get, Alike alike = nullptr) : get_(std::move(get)), alike_(std::move(alike)) {}
  template <typename F>
    requires std::is_convertible_v<F, Get> && (!std::is_same_v<std::remove_cvref_t<F>, ConstantValues>)
  ConstantValues(F get) : get_(std::move(get)) {}  // NOLINT: implicit on purpose, as is the one above

  const Get& get() const { return get_; }
  const Alike& alike() const { return alike_; }

 private:
  Get get_;
  Alike alike_;
};

// From an op's description, element by element on demand; elements are alike when all that leads to them is.
ConstantValues ValuesOf(Compute compute);
// By one run of the op on the known values and ones: for ops without a description.
ConstantValues ValuesOf(BlackBox box);

class RuleTransfer : public Transfer {
 public:
  // `rule` is verified.
  RuleTransfer(Rule rule, ConstantValues values);
  StatusOr<std::vector<Known>> Forward(std::span<const Known* const> inputs) const override;
  StatusOr<Needed> Backward(int input, std::span<const Known* const> inputs,
                            std::span<const Needed* const> outputs) const override;
  std::string WhyDead(int input, int64_t element, std::span<const Known* const> inputs,
                      std::span<const Needed* const> outputs) const override;
  std::string ToString() const override { return rule_.ToString(); }
  const Rule& rule() const { return rule_; }
  // Steps of innermost loops that all calls so far took: what the time grows with.
  int64_t visited() const { return visited_.load(std::memory_order_relaxed); }

 private:
  Status Check(std::span<const Known* const> inputs) const;
  // 1 where an element of output `output` can be changed by an element of kind `kind` of `input` (-1: any input).
  Cells<uint8_t> ChangedBy(int output, int input, Certainty kind, std::span<const Known* const> inputs) const;
  StatusOr<Known> Constants(int output, const Cells<uint8_t>& unknown, std::span<const Known* const> inputs) const;

  Rule rule_;
  ConstantValues values_;
  mutable std::atomic<int64_t> visited_ = 0;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_RULE_APPLY_H_
