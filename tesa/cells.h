// Cells<T>: a function on the elements of a tensor, stored once for each cell of alike elements.
//
//   Cells<uint8_t> live = Cells<uint8_t>::FromElements({2, 3}, {1, 0, 1, 1, 0, 1});   // column 1 is dead
//   live.axes[0].num_classes() == 1;  live.axes[1].num_classes() == 2;  live.values == {1, 0};
//
// Each axis carries a Partition into classes; a cell is a product of classes, one of each axis, and has one value. So a
// tensor about which one thing is said takes one value, one with pruned channels two, one in blocks as many as blocks
// differ, and a scattered one as many as elements. All operations work cell by cell: their cost is that of the cells,
// never of the elements, except where Elements() says so. Values only; thread-compatible. T is uint8_t or double.
// Tested by cells_test.cc.
#ifndef TESSERA_TESA_CELLS_H_
#define TESSERA_TESA_CELLS_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tesa/attribute.h"
#include "tesa/bitmap.h"
#include "tesa/partition.h"
#include "tesa/types.h"

namespace tessera {

// The cells of a tensor without their values.
struct CellGrid {
  Shape shape;
  std::vector<Partition> axes;  // one per axis, of its extent

  static CellGrid Whole(const Shape& shape);     // one cell
  static CellGrid Elements(const Shape& shape);  // a cell for each element
  int64_t num_cells() const;
  // Classes per axis, as a shape whose row-major order is that of Cells::values.
  Shape CellShape() const;
  // The cell of an element.
  int64_t CellOf(std::span<const int64_t> index) const;
  // The row-major number of the first element of each cell.
  std::vector<int64_t> FirstElements() const;
  // Elements in each cell.
  std::vector<int64_t> CellSizes() const;
  friend bool operator==(const CellGrid&, const CellGrid&) = default;
};

// The coarsest grid that refines both; equal shapes.
CellGrid Refine(const CellGrid& a, const CellGrid& b);

// How the cells of a result come from those of a source: result cell c has the value of source cell `source[c]`
// (-1: outside of the source). What every structural operation is, whatever the type of the values.
struct CellMap {
  CellGrid grid;
  std::vector<int64_t> source;
};
CellMap RefineMap(const CellGrid& from, const std::vector<Partition>& axes);  // axes refine from.axes
// The same elements, row-major, under another shape with as many. Axes that split or merge keep their classes; only
// where the extents of both shapes share no boundary are the axes between two boundaries treated as one.
CellMap ReshapeMap(const CellGrid& from, const Shape& shape);
CellMap TransposeMap(const CellGrid& from, std::span<const int> perm);  // result axis d is axis perm[d]
CellMap SliceMap(const CellGrid& from, std::span<const int64_t> start, std::span<const int64_t> size);
CellMap BroadcastMap(const CellGrid& from, const Shape& shape);  // NumPy

template <typename T>
struct Cells;
template <typename T>
bool EqualCells(const Cells<T>& a, const Cells<T>& b);

template <typename T>
struct Cells : CellGrid {
  std::vector<T> values;  // one per cell, row-major over CellShape()

  Cells() = default;
  Cells(CellGrid grid, std::vector<T> values) : CellGrid(std::move(grid)), values(std::move(values)) {}
  static Cells Uniform(const Shape& shape, T value);
  // The coarsest cells that tell `elements` (row-major) apart. Doubles are told apart by their bits.
  static Cells FromElements(const Shape& shape, std::span<const T> elements);

  T at(std::span<const int64_t> index) const { return values[CellOf(index)]; }
  // All elements, row-major.
  std::vector<T> Elements() const;
  // Is the value the same everywhere, and that?
  bool IsUniform(T value) const;
  // The coarsest cells of the same function.
  Cells Coarsest() const;
  Cells Mapped(const CellMap& map, T outside = T()) const;
  Cells Refined(const std::vector<Partition>& to) const;
  Cells Reshaped(const Shape& to) const { return Mapped(ReshapeMap(*this, to)).Coarsest(); }
  Cells Transposed(std::span<const int> perm) const { return Mapped(TransposeMap(*this, perm)); }
  Cells Sliced(std::span<const int64_t> start, std::span<const int64_t> size) const {
    return Mapped(SliceMap(*this, start, size)).Coarsest();
  }
  Cells BroadcastTo(const Shape& to) const { return Mapped(BroadcastMap(*this, to)); }
  // Number of elements whose value is `value`.
  int64_t Count(T value) const;

  // Equal functions, however stored.
  friend bool operator==(const Cells& a, const Cells& b) { return EqualCells(a, b); }
};

// Along `axis`; equal extents of all others.
template <typename T>
Cells<T> Concat(std::span<const Cells<T>* const> parts, int axis);
// f(a, b) on the common refinement, coarsest form.
template <typename T, typename F>
Cells<T> Combine(const Cells<T>& a, const Cells<T>& b, F f) {
  CellGrid grid = Refine(static_cast<const CellGrid&>(a), static_cast<const CellGrid&>(b));
  Cells<T> x = a.Refined(grid.axes);
  const Cells<T> y = b.Refined(grid.axes);
  for (size_t i = 0; i < x.values.size(); ++i) x.values[i] = f(x.values[i], y.values[i]);
  return x.Coarsest();
}

extern template struct Cells<uint8_t>;
extern template struct Cells<double>;

// The bit widths of an attribute, 0 = pruned: from its compressed form, without expanding grids; and back, in the
// smallest exact form.
Cells<uint8_t> BitCells(const Attribute& attribute);
Attribute AttributeOf(const Cells<uint8_t>& bits);
// Cells of 0 and 1.
Cells<uint8_t> CellsOf(const Shape& shape, const Bitmap& set);

}  // namespace tessera

#endif  // TESSERA_TESA_CELLS_H_
