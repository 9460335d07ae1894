// element_walk: what a Rule says, element by element: slow and plainly right, what RuleTransfer is tested against.
//
//   EXPECT_EQ(*transfer.Forward(known), *ForwardByElements(rule, values, known));
//
// Every fact is expanded; each clause's variables run through all their values one by one. An index that is looked up
// and unknown is every index of its axis in turn. Tested by apply_test.cc.
#ifndef TESSERA_PROPAGATE_TESTING_ELEMENT_WALK_H_
#define TESSERA_PROPAGATE_TESTING_ELEMENT_WALK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "propagate/rule/apply.h"
#include "propagate/rule/rule.h"
#include "tesa/known.h"
#include "tesa/needed.h"

namespace tessera {

// 1 for each element of output `output` that an unknown element can change.
std::vector<uint8_t> ChangedElements(const Rule& rule, int output, std::span<const Known* const> inputs);
// 1 for each element of `input` that can change a live element.
std::vector<uint8_t> LiveElements(const Rule& rule, int input, std::span<const Known* const> inputs,
                                  std::span<const Needed* const> outputs);

// As Transfer's: every constant element is asked for its value.
StatusOr<std::vector<Known>> ForwardByElements(const Rule& rule, const ConstantValues& values,
                                               std::span<const Known* const> inputs);
Needed BackwardByElements(const Rule& rule, int input, std::span<const Known* const> inputs,
                          std::span<const Needed* const> outputs);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_TESTING_ELEMENT_WALK_H_
