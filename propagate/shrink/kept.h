// KeptAxes: which indices of each axis of each value stay when a graph shrinks, and what that makes of shapes, tensors,
// attributes and cells.
//
//   kept.of[Index(w)][0] = {0, 2, 5};               // rows 0, 2 and 5 of %w stay
//   kept.ShapeOf(w, {8, 16}) == Shape({3, 16});
//   SelectedTensor(graph[w].constant, kept.of[Index(w)]);
//
// Values only; thread-compatible. Private to shrink/. Tested by shrink_parts_test.cc.
#ifndef TESSERA_PROPAGATE_SHRINK_KEPT_H_
#define TESSERA_PROPAGATE_SHRINK_KEPT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "tesa/cells.h"
#include "tesa/known.h"
#include "tesa/quant.h"
#include "tesa/tensor.h"

namespace tessera {

// Indices that stay, ascending; nullopt: all of them.
using IndexList = std::optional<std::vector<int64_t>>;
using AxisLists = std::vector<IndexList>;  // one per axis

struct KeptAxes {
  std::vector<AxisLists> of;  // by ValueId

  bool AllOf(ValueId id) const;
  Shape ShapeOf(ValueId id, const Shape& shape) const;
};

bool AllKept(const AxisLists& lists);
Shape SelectedShape(const Shape& shape, const AxisLists& lists);
// `list`, spelled out.
std::vector<int64_t> Spelled(const IndexList& list, int64_t extent);
// What `list` leaves out.
std::vector<int64_t> Complement(const IndexList& list, int64_t extent);

// The elements whose indices all stay.
Tensor SelectedTensor(const Tensor& tensor, const AxisLists& lists);
Attribute SelectedAttribute(const Attribute& attribute, const AxisLists& lists);
Known SelectedKnown(const Known& known, const AxisLists& lists);
// nullopt: these parameters have no such form (blocks that are cut).
std::optional<QuantParams> SelectedQuant(const QuantParams& quant, const AxisLists& lists);

template <typename T>
Cells<T> SelectedCells(const Cells<T>& cells, const AxisLists& lists);
extern template Cells<uint8_t> SelectedCells(const Cells<uint8_t>&, const AxisLists&);
extern template Cells<double> SelectedCells(const Cells<double>&, const AxisLists&);

// Dimensions of a tensor and of a view of it that hold the same part of each element's number: [12, 64] of a view may
// stand for one axis of 768. Dimensions of extent 1 are in no group.
struct ViewGroup {
  std::vector<int> tensor_dims, view_dims;
};
// Both shapes have the same number of elements, not 0.
std::vector<ViewGroup> ViewGroups(const Shape& tensor, const Shape& view);

}  // namespace tessera

#endif  // TESSERA_PROPAGATE_SHRINK_KEPT_H_
