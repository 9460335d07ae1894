// RuleTemplate: a relation without its shapes: what was learned of an op at two instances, carried to any other.
//
//   first    out0[a,b] <- in0[a-5,b]     concat of f32[5,6] and f32[7,6]
//   second   out0[a,b] <- in0[a-8,b]     concat of f32[8,5] and f32[6,5]
//   bound    out0[a,b] <- in0[a-20,b]    f32[20,768] and …: 5 and 8 are the extent of axis 0 of input 0
//
// The two witnesses have one structure and differ in numbers. A number that is equal in both is a constant; one that
// differs has to be an extent of an axis, up to sign, a constant and a whole factor, or the sum of the extents that
// come before an operand's (concat). So the form that is kept is the witnesses themselves, in the text of rules.
// Binding asks for what the witnesses cannot speak of: an axis whose extent was the same in both keeps it, one of
// extent 1 stays so, and tables of links hold for the shapes that they were learned at. Values only. Tested by
// rule_template_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_RULE_TEMPLATE_H_
#define TESSERA_PROPAGATE_LEARN_RULE_TEMPLATE_H_

#include <optional>
#include <string>
#include <vector>

#include "propagate/rule/black_box.h"
#include "propagate/rule/rule.h"

namespace tessera {

// Rules for inputs that are absent name this type in their place.
inline TensorType AbsentType() { return {DType::kF32, Shape()}; }
// The types of a box as a rule lists them.
std::vector<TensorType> InputTypes(const BlackBox& box);

struct RuleTemplate {
  std::vector<Rule> witnesses;  // canonical; one: holds at its shapes only

  // The rule at the shapes of `box`; nothing where the witnesses do not say.
  std::optional<Rule> Bind(const BlackBox& box) const;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_RULE_TEMPLATE_H_
