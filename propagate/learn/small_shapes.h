// SmallShapes: small instances of an op, of which a relation is learned that holds for large ones.
//
//   matmul f32[128,768], f32[768,768]    ->    f32[5,7], f32[7,6]  and  f32[8,9], f32[9,5]
//
// Extents of 1 stay (they broadcast), small ones stay in the first instance and differ in the second (kernels), others
// become small numbers, each its own. Which extents are tied the op itself says: an extent changes alone if the op has
// such an instance, else together with one other of the same size, with two, and so on; what never changes stays at its
// real size (the groups of a convolution). No extent that changes has the same pair of sizes as another, so that a
// number of the relation that grows from the one instance to the other can be told to be this extent.
// Pure. Tested by rule_template_test.cc.
#ifndef TESSERA_PROPAGATE_LEARN_SMALL_SHAPES_H_
#define TESSERA_PROPAGATE_LEARN_SMALL_SHAPES_H_

#include <utility>
#include <vector>

#include "base/status.h"
#include "propagate/rule/black_box.h"

namespace tessera {

// Axes (input, axis) whose extents change together.
using Tie = std::vector<std::pair<int, int>>;

struct SmallShapes {
  std::vector<Tie> ties;
  BlackBox first, second;
};

// An error where the op exists at its own shapes only, or nothing about it can change.
StatusOr<SmallShapes> FindSmallShapes(const BlackBox& box);

// `box` with the extents of each tie set; an error when the op has no such instance.
StatusOr<BlackBox> Resized(const BlackBox& box, const std::vector<Tie>& ties, const std::vector<int64_t>& extents);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_LEARN_SMALL_SHAPES_H_
