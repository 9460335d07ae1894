// Footprint: what a rule predicts that scrambling would see: the output elements that move with an input element, and
// the input elements that an output element moves with, while some elements are held.
//
//   Footprint f(rule, held);
//   f.Forward(/*input=*/0, element)  == the row that Prober::Measure found
//   f.Backward(/*output=*/0, element, /*input=*/1)
//
// A walk over the points of the clauses, one element at a time: slow and plain. Held elements annihilate and are looked
// up; all others are unknown, and an unknown index may be any. One thread per object. Tested by fit_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_FOOTPRINT_H_
#define TESSERA_PROPAGATE_LEARN_FOOTPRINT_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "propagate/learn/probe.h"
#include "propagate/rule/rule.h"

namespace tessera {

// Row-major coordinates of an element.
std::vector<int64_t> CoordinatesOf(const Shape& shape, int64_t element);

class Footprint {
 public:
  // Both outlive the object.
  Footprint(const Rule& rule, const Held& held);

  // [output element, all outputs one behind the other]: 1 where it moves.
  std::vector<uint8_t> Forward(int input, int64_t element) const;
  // [element of `input`]: 1 where the output element moves with it.
  std::vector<uint8_t> Backward(int output, int64_t element, int input) const;

  // Calls visit(values of variables, element of the other side) for each point of `clause` whose input (or output)
  // element is this and that nothing annihilates.
  using Visit = std::function<void(const std::vector<int64_t>& values, int64_t other)>;
  void ForEachPoint(const Clause& clause, bool fix_input, int64_t element, const Visit& visit) const;

 private:
  bool Annihilated(const Annihilator& a, const std::vector<int64_t>& values) const;

  const Rule& rule_;
  const Held& held_;
};

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_FOOTPRINT_H_
