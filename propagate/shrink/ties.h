// Ties: which indices of which axes stand or fall together when a graph shrinks, and which of them may go.
//
//   Ties ties(removable);
//   for (const Node& node : graph.nodes) ties.AddNode(graph, node);
//   KeptAxes kept = ties.Solve(graph);
//
// An atom is one index of one axis of one value. Two atoms are tied when a node reads or writes both at the same step
// of one of its loops (graph/compute.h): channel 3 of a convolution's result, row 3 of its weights, element 3 of the
// bias behind it, channel 3 of what the next one reads. A loop that touches an axis in any other way than index by
// index (a window, a lookup, a stride), that combines what it walks by anything but a plain sum, or whose step the
// scalar body looks at, freezes the axis: all of its indices stay. Where a node sees a tensor under another shape, the
// indices that share a coordinate of the view are tied: heads of [S, 12, 64] in an axis of 768, or the 64 within each
// head, whichever lets more go; the others stay.
//
// A sum may lose steps because what they add is known, and goes into a constant (fold.h).
//
// Cost: the sum of all extents. Private to shrink/. Tested by shrink_test.cc.
#ifndef TESSERA_PROPAGATE_SHRINK_TIES_H_
#define TESSERA_PROPAGATE_SHRINK_TIES_H_

#include <cstdint>
#include <vector>

#include "graph/compute.h"
#include "graph/graph.h"
#include "propagate/shrink/kept.h"

namespace tessera {

// [value][axis][index]: may this index go as far as its own elements are concerned? No list for an axis: every index
// may (constants).
using Removable = std::vector<std::vector<std::vector<uint8_t>>>;

class Ties {
 public:
  // `removable` outlives the object.
  Ties(const Graph& graph, const Removable& removable);

  void AddNode(const Graph& graph, const Node& node);
  // Its operands and results keep all indices.
  void FreezeNode(const Node& node);
  void FreezeValue(ValueId id);

  // What stays; of each axis at least one index. Graph inputs and outputs stay whole.
  KeptAxes Solve(const Graph& graph);

 private:
  struct Buffer;
  class StageTies;

  int64_t Find(int64_t atom);
  void Union(int64_t a, int64_t b);
  void Freeze(int64_t atom) { frozen_[static_cast<size_t>(Find(atom))] = 1; }
  void FreezeAxis(int64_t base, int64_t extent);
  // Fresh atoms, numbered from the result on.
  int64_t NewAtoms(int64_t count);

  const Removable& removable_;
  std::vector<Shape> shapes_;               // by value
  std::vector<std::vector<int64_t>> base_;  // [value][axis]: its first atom
  std::vector<int64_t> parent_;
  std::vector<uint8_t> frozen_;  // of roots
};

// May steps of the reduced loops of this op (without epilogue) be left out when what they add is known? So it is for a
// single stage that sums and does nothing with the sum.
bool SumsPlainly(const Compute& of_op);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_TIES_H_
