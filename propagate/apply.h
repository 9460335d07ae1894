// RuleTransfer: applies a Rule to facts that are stored by cells, cell by cell: the cost grows with the number of
// different slices, not of elements.
//
//   RuleTransfer matmul(rule, PointValues(NodeCompute(graph, node)));
//   matmul.Forward({&x, &w});   // one Known: columns of zeros where w has them
//   matmul.Backward(0, {&x, &w}, {&all_live});   // dead where w has a row of zeros
//
// For each clause the variables are sorted into classes: two values of a variable are alike when every fact that the
// clause meets is the same for both (a window's variables jointly: its small ones stay apart, its large one is sorted
// by what it meets, borders included). The clause is then walked once over the product of the classes. The answer
// equals that of the walk over elements, exactly. Tested by apply_test.cc against that walk (testing/element_walk.h).
#ifndef TESSERA_PROPAGATE_APPLY_H_
#define TESSERA_PROPAGATE_APPLY_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/compute.h"
#include "propagate/black_box.h"
#include "propagate/rule.h"
#include "propagate/transfer.h"

namespace tessera {

// Gives the values of output elements (row-major numbers) that depend on known operand elements only. What is not known
// of the operands may be taken as anything finite.
using ConstantValues = std::function<Status(std::span<const Known* const> inputs, int output,
                                            std::span<const int64_t> elements, std::span<ScalarValue> values)>;
// From an op's description, element by element on demand.
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

 private:
  Rule rule_;
  ConstantValues values_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_APPLY_H_
