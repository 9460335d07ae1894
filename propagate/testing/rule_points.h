// rule_points: a rule read word by word: every point of every clause, element by element. Slow and plainly right; what
// rules are compared by, and what tests propagate small facts with.
//
//   ElementFacts facts = RandomFacts(rule.inputs, rng);
//   ForwardByPoints(rule, facts)[0][k]      is element k of output 0 known?
//
// Pure functions. Tested by algebra_walk_test.cc, against a computation that sees no rule.
#ifndef TESSERA_PROPAGATE_TESTING_RULE_POINTS_H_
#define TESSERA_PROPAGATE_TESTING_RULE_POINTS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "graph/body.h"
#include "propagate/rule/rule.h"

namespace tessera {

// What is known of each element of each input, row-major.
struct ElementFacts {
  std::vector<std::vector<std::optional<ScalarValue>>> inputs;

  bool IsKnown(int input, int64_t k) const { return inputs[input][k].has_value(); }
};

// Some elements unknown, some 0, some other constants that mean nothing special; scattered, by slices or by blocks.
// Integers of `index_extent` > 0 that are known are indices of an axis of that extent, from either end.
ElementFacts RandomFacts(std::span<const TensorType> inputs, std::mt19937_64& rng, int64_t index_extent = 0);
// Likewise which elements are live.
std::vector<uint8_t> RandomSet(const Shape& shape, std::mt19937_64& rng);

using ElementSets = std::vector<std::vector<uint8_t>>;  // [tensor][element]
// 1 where an output's element is known.
ElementSets ForwardByPoints(const Rule& rule, const ElementFacts& facts);
// 1 where an input's element is live.
ElementSets BackwardByPoints(const Rule& rule, const ElementFacts& facts, const ElementSets& live_outputs);

// All (output, its element, input, its element) of which the first can depend on the second when nothing is known.
std::set<std::array<int64_t, 4>> RelationOf(const Rule& rule);

// The first difference of the two sets, as "output 0, element 7: 1 and 0"; empty when there is none. Elements with
// `ignored` != 0 are not looked at.
std::string FirstDifference(const ElementSets& a, const ElementSets& b, const ElementSets& ignored = {});

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_TESTING_RULE_POINTS_H_
