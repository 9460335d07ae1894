// rebuild: a node over smaller tensors, and the proof that it computes the same there.
//
//   before  %y = reshape(%x) {shape = [1,128,12,64]}      %x: [1,128,768], heads 3 and 7 of %x and %y go
//   after   %y = reshape(%x) {shape = [1,128,10,64]}
//
// Parameters that hold extents or counts (shapes, groups, pads, starts and sizes) are made to fit. Whether they then
// mean the same is not left to that: SameSteps holds the loops of the new node against those of the old, step by step
// of each axis, on the elements that stay. A node that does not pass stays as it was. Pure functions. Private to
// propagate/. Tested by shrink_parts_test.cc.
#ifndef TESSERA_PROPAGATE_SHRINK_REBUILD_H_
#define TESSERA_PROPAGATE_SHRINK_REBUILD_H_

#include <optional>
#include <span>
#include <vector>

#include "graph/compute.h"
#include "graph/graph.h"
#include "propagate/shrink/kept.h"

namespace tessera {

// The node's parameters for operands and results of which only these indices stay. Operands(node)[k] keeps inputs[k],
// result r keeps outputs[r]; an absent operand has no axes.
struct NodeLists {
  std::vector<AxisLists> inputs, outputs;

  static NodeLists Of(const Node& node, const KeptAxes& kept);
  bool AllKept() const;
};

// nullopt where no parameters can say it.
std::optional<Attrs> FittingAttrs(const Graph& before, const Node& node, const NodeLists& lists);

// Is `after` what `before` does on the elements that stay? On success `summed` is the reduced axis of the only stage
// that loses steps, or -1 when none does: then the result lacks what those steps added.
struct Steps {
  int summed = -1;
  IndexList kept;  // of `summed`
};
std::optional<Steps> SameSteps(const Compute& before, const Compute& after, const NodeLists& lists);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_REBUILD_H_
