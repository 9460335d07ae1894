#include "tesa/cells.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "tesa/coarsen.h"

namespace tessera {
namespace {

// result[i0, i1, …] = offsets[0][i0] + offsets[1][i1] + …, row-major; -1 where any of them is.
std::vector<int64_t> OuterSum(const std::vector<std::vector<int64_t>>& offsets) {
  std::vector<int64_t> sums = {0};
  for (const std::vector<int64_t>& axis : offsets) {
    if (axis.size() == 1 && axis[0] == 0) continue;
    std::vector<int64_t> next(sums.size() * axis.size());
    int64_t* out = next.data();
    for (int64_t sum : sums) {
      for (int64_t offset : axis) *out++ = (sum < 0 || offset < 0) ? -1 : sum + offset;
    }
    sums = std::move(next);
  }
  return sums;
}

// Strides of CellShape().
std::vector<int64_t> CellStrides(const CellGrid& grid) { return grid.CellShape().Strides(); }

// For each class of each axis of `axes`, which refine those of `from`: the offset of its class there.
std::vector<std::vector<int64_t>> RefineOffsets(const CellGrid& from, const std::vector<Partition>& axes) {
  TES_CHECK(axes.size() == from.axes.size(), axes.size(), " axes for ", from.shape);
  const std::vector<int64_t> strides = CellStrides(from);
  std::vector<std::vector<int64_t>> offsets(axes.size());
  for (size_t d = 0; d < axes.size(); ++d) {
    TES_CHECK(axes[d].extent() == from.axes[d].extent(), axes[d].extent(), " of ", from.shape);
    offsets[d] = axes[d].Firsts();
    for (int64_t& k : offsets[d]) k = from.axes[d][k] * strides[d];
  }
  return offsets;
}

bool SameBits(const void* a, const void* b, size_t bytes) { return bytes == 0 || std::memcmp(a, b, bytes) == 0; }

// out[…] = values[sum of offsets], row-major, for offsets that are never negative.
template <typename T>
std::vector<T> Gather(const std::vector<T>& values, const std::vector<std::vector<int64_t>>& offsets) {
  if (offsets.empty()) return values;
  int64_t count = 1;
  for (const std::vector<int64_t>& axis : offsets) count *= static_cast<int64_t>(axis.size());
  std::vector<T> result(static_cast<size_t>(count));
  if (count == 0) return result;
  // Row by row along the last axis; a row that comes from where the last one came is that one.
  const std::vector<int64_t>& last = offsets.back();
  const size_t width = last.size();
  bool straight = true;
  for (size_t j = 0; j < width && straight; ++j) straight = last[j] == static_cast<int64_t>(j);
  const std::vector<int64_t> bases = OuterSum({offsets.begin(), offsets.end() - 1});
  T* out = result.data();
  for (size_t r = 0; r < bases.size(); ++r, out += width) {
    if (r > 0 && bases[r] == bases[r - 1]) {
      std::copy_n(out - width, width, out);
      continue;
    }
    const T* row = values.data() + bases[r];
    if (straight) {
      std::copy_n(row, width, out);
    } else {
      for (size_t j = 0; j < width; ++j) out[j] = row[last[j]];
    }
  }
  return result;
}

}  // namespace

CellGrid CellGrid::Whole(const Shape& shape) {
  CellGrid grid{shape, {}};
  for (int64_t extent : shape) grid.axes.push_back(Partition::Whole(extent));
  return grid;
}

CellGrid CellGrid::Elements(const Shape& shape) {
  CellGrid grid{shape, {}};
  for (int64_t extent : shape) grid.axes.push_back(Partition::Identity(extent));
  return grid;
}

int64_t CellGrid::num_cells() const {
  int64_t cells = 1;
  for (const Partition& axis : axes) cells *= axis.num_classes();
  return cells;
}

Shape CellGrid::CellShape() const {
  std::vector<int64_t> extents;
  for (const Partition& axis : axes) extents.push_back(axis.num_classes());
  return Shape(std::move(extents));
}

int64_t CellGrid::CellOf(std::span<const int64_t> index) const {
  int64_t cell = 0;
  for (size_t d = 0; d < axes.size(); ++d) cell = cell * axes[d].num_classes() + axes[d][index[d]];
  return cell;
}

std::vector<int64_t> CellGrid::FirstElements() const {
  const std::vector<int64_t> strides = shape.Strides();
  std::vector<std::vector<int64_t>> offsets;
  for (size_t d = 0; d < axes.size(); ++d) {
    offsets.push_back(axes[d].Firsts());
    for (int64_t& k : offsets.back()) k *= strides[d];
  }
  return OuterSum(offsets);
}

std::vector<int64_t> CellGrid::CellSizes() const {
  std::vector<int64_t> sizes = {1};
  for (const Partition& axis : axes) {
    const std::vector<int64_t> extents = axis.Sizes();
    std::vector<int64_t> next;
    next.reserve(sizes.size() * extents.size());
    for (int64_t size : sizes) {
      for (int64_t extent : extents) next.push_back(size * extent);
    }
    sizes = std::move(next);
  }
  return sizes;
}

CellGrid Refine(const CellGrid& a, const CellGrid& b) {
  TES_CHECK(a.shape == b.shape, a.shape, " and ", b.shape);
  CellGrid grid{a.shape, {}};
  for (size_t d = 0; d < a.axes.size(); ++d) grid.axes.push_back(Refine(a.axes[d], b.axes[d]));
  return grid;
}

CellMap RefineMap(const CellGrid& from, const std::vector<Partition>& axes) {
  return {{from.shape, axes}, OuterSum(RefineOffsets(from, axes))};
}

CellMap TransposeMap(const CellGrid& from, std::span<const int> perm) {
  TES_CHECK(perm.size() == from.axes.size(), perm.size(), " axes for ", from.shape);
  const std::vector<int64_t> strides = CellStrides(from);
  CellMap map{{from.shape, {}}, {}};
  std::vector<std::vector<int64_t>> offsets;
  for (size_t d = 0; d < perm.size(); ++d) {
    const size_t p = static_cast<size_t>(perm[d]);
    map.grid.shape[static_cast<int>(d)] = from.shape[perm[d]];
    map.grid.axes.push_back(from.axes[p]);
    offsets.emplace_back();
    for (int64_t c = 0; c < from.axes[p].num_classes(); ++c) offsets.back().push_back(c * strides[p]);
  }
  map.source = OuterSum(offsets);
  return map;
}

CellMap SliceMap(const CellGrid& from, std::span<const int64_t> start, std::span<const int64_t> size) {
  const std::vector<int64_t> strides = CellStrides(from);
  CellMap map{{from.shape, {}}, {}};
  std::vector<std::vector<int64_t>> offsets;
  for (size_t d = 0; d < from.axes.size(); ++d) {
    const Partition& axis = from.axes[d];
    TES_CHECK(start[d] >= 0 && size[d] >= 0 && start[d] + size[d] <= axis.extent(), "slice of ", from.shape);
    map.grid.shape[static_cast<int>(d)] = size[d];
    std::vector<int64_t> indices;
    if (!axis.is_whole() && !axis.is_identity()) {
      for (int64_t k = 0; k < size[d]; ++k) indices.push_back(start[d] + k);
    }
    map.grid.axes.push_back(axis.is_whole()      ? Partition::Whole(size[d])
                            : axis.is_identity() ? Partition::Identity(size[d])
                                                 : axis.Pulled(indices));
    offsets.push_back(map.grid.axes.back().Firsts());
    for (int64_t& k : offsets.back()) k = axis[start[d] + k] * strides[d];
  }
  map.source = OuterSum(offsets);
  return map;
}

CellMap BroadcastMap(const CellGrid& from, const Shape& shape) {
  const int lead = shape.rank() - from.shape.rank();
  TES_CHECK(lead >= 0, from.shape, " to ", shape);
  const std::vector<int64_t> strides = CellStrides(from);
  CellMap map{{shape, {}}, {}};
  std::vector<std::vector<int64_t>> offsets;
  for (int d = 0; d < shape.rank(); ++d) {
    const int f = d - lead;
    if (f < 0 || from.shape[f] != shape[d]) {
      TES_CHECK(f < 0 || from.shape[f] == 1, from.shape, " to ", shape);
      map.grid.axes.push_back(Partition::Whole(shape[d]));
      offsets.emplace_back(static_cast<size_t>(map.grid.axes.back().num_classes()), 0);
      continue;
    }
    map.grid.axes.push_back(from.axes[static_cast<size_t>(f)]);
    offsets.emplace_back();
    for (int64_t c = 0; c < map.grid.axes.back().num_classes(); ++c) {
      offsets.back().push_back(c * strides[static_cast<size_t>(f)]);
    }
  }
  map.source = OuterSum(offsets);
  return map;
}

// Between two boundaries that both shapes have, row-major cells of the source are a factor of all its cells, and so are
// those of the result: each such stretch is done by itself.
CellMap ReshapeMap(const CellGrid& from, const Shape& shape) {
  TES_CHECK(from.shape.num_elements() == shape.num_elements(), from.shape, " to ", shape);
  CellMap map{{shape, {}}, {}};
  if (shape.num_elements() == 0) {
    map.grid = CellGrid::Whole(shape);
    return map;
  }
  std::vector<std::vector<int64_t>> offsets;
  const int from_rank = from.shape.rank(), rank = shape.rank();
  int64_t stride = from.num_cells();  // of what lies behind the current stretch
  for (int i = 0, j = 0; i < from_rank || j < rank;) {
    const int i_begin = i, j_begin = j;
    int64_t from_count = i < from_rank ? from.shape[i++] : 1, count = j < rank ? shape[j++] : 1;
    while (from_count != count) {
      if (from_count < count) {
        from_count *= from.shape[i++];
      } else {
        count *= shape[j++];
      }
    }
    Partition merged = Partition::Whole(1);
    bool alike = true;
    for (int d = i_begin; d < i; ++d) {
      merged = Product(merged, from.axes[static_cast<size_t>(d)]);
      alike &= from.axes[static_cast<size_t>(d)].is_whole();
    }
    stride /= merged.num_classes();
    const auto add_classes = [&](int64_t classes) {
      offsets.emplace_back(static_cast<size_t>(classes));
      for (int64_t c = 0; c < classes; ++c) offsets.back()[static_cast<size_t>(c)] = c * stride;
    };
    if (alike || merged.is_identity()) {
      for (int d = j_begin; d < j; ++d) {
        map.grid.axes.push_back(alike ? Partition::Whole(shape[d]) : Partition::Identity(shape[d]));
      }
      add_classes(merged.num_classes());
      continue;
    }
    if (j - j_begin == 1) {
      add_classes(merged.num_classes());
      map.grid.axes.push_back(std::move(merged));
      continue;
    }
    std::vector<int64_t> extents(shape.begin() + j_begin, shape.begin() + j);
    std::vector<int32_t> classes(static_cast<size_t>(count));
    for (int64_t k = 0; k < count; ++k) classes[static_cast<size_t>(k)] = static_cast<int32_t>(merged[k]);
    internal::Coarse<int32_t> coarse = internal::Coarsen<int32_t>(Shape(std::move(extents)), classes);
    for (Partition& axis : coarse.axes) map.grid.axes.push_back(std::move(axis));
    offsets.emplace_back();
    for (int32_t c : coarse.unchanged ? classes : coarse.values) offsets.back().push_back(c * stride);
  }
  map.source = OuterSum(offsets);
  return map;
}

template <typename T>
Cells<T> Cells<T>::Uniform(const Shape& shape, T value) {
  CellGrid grid = CellGrid::Whole(shape);
  std::vector<T> values(static_cast<size_t>(grid.num_cells()), value);
  return {std::move(grid), std::move(values)};
}

template <typename T>
Cells<T> Cells<T>::FromElements(const Shape& shape, std::span<const T> elements) {
  internal::Coarse<T> coarse = internal::Coarsen(shape, elements);
  if (coarse.unchanged) coarse.values.assign(elements.begin(), elements.end());
  return {{shape, std::move(coarse.axes)}, std::move(coarse.values)};
}

template <typename T>
std::vector<T> Cells<T>::Elements() const {
  return Gather(values, RefineOffsets(*this, CellGrid::Elements(shape).axes));
}

template <typename T>
bool Cells<T>::IsUniform(T value) const {
  return std::all_of(values.begin(), values.end(), [&](T v) { return v == value; });
}

template <typename T>
Cells<T> Cells<T>::Coarsest() const {
  if (values.size() == 1) return *this;
  internal::Coarse<T> coarse = internal::Coarsen<T>(CellShape(), values);
  if (coarse.unchanged) return *this;
  Cells result;
  result.shape = shape;
  result.values = std::move(coarse.values);
  for (size_t d = 0; d < axes.size(); ++d) {
    const Partition& merged = coarse.axes[d];
    if (values.empty() || merged.is_whole()) {
      result.axes.push_back(Partition::Whole(axes[d].extent()));
    } else if (merged.is_identity()) {
      result.axes.push_back(axes[d]);
    } else {
      std::vector<int64_t> labels(static_cast<size_t>(axes[d].extent()));
      for (size_t i = 0; i < labels.size(); ++i) labels[i] = merged[axes[d][static_cast<int64_t>(i)]];
      result.axes.push_back(Partition::FromLabels(labels));
    }
  }
  return result;
}

template <typename T>
Cells<T> Cells<T>::Mapped(const CellMap& map, T outside) const {
  Cells result;
  static_cast<CellGrid&>(result) = map.grid;
  result.values.resize(map.source.size());
  for (size_t c = 0; c < map.source.size(); ++c) {
    result.values[c] = map.source[c] < 0 ? outside : values[static_cast<size_t>(map.source[c])];
  }
  return result;
}

template <typename T>
Cells<T> Cells<T>::Refined(const std::vector<Partition>& to) const {
  if (to == axes) return *this;
  return {{shape, to}, Gather(values, RefineOffsets(*this, to))};
}

template <typename T>
int64_t Cells<T>::Count(T value) const {
  if (values.empty()) return 0;
  int64_t count = 0;
  if (axes.empty()) return values[0] == value ? 1 : 0;
  const std::vector<int64_t> rows =
      CellGrid{Shape(std::vector<int64_t>(shape.begin(), shape.end() - 1)), {axes.begin(), axes.end() - 1}}.CellSizes();
  const std::vector<int64_t> columns = axes.back().Sizes();
  const T* row = values.data();
  for (size_t r = 0; r < rows.size(); ++r, row += columns.size()) {
    int64_t in_row = 0;
    for (size_t j = 0; j < columns.size(); ++j) in_row += row[j] == value ? columns[j] : 0;
    count += rows[r] * in_row;
  }
  return count;
}

template <typename T>
bool EqualCells(const Cells<T>& a, const Cells<T>& b) {
  if (a.shape != b.shape) return false;
  const auto same = [](const Cells<T>& x, const Cells<T>& y) {
    return x.axes == y.axes && x.values.size() == y.values.size() &&
           SameBits(x.values.data(), y.values.data(), x.values.size() * sizeof(T));
  };
  // The coarsest cells of a function are unique.
  return same(a, b) || same(a.Coarsest(), b.Coarsest());
}

template <typename T>
Cells<T> Concat(std::span<const Cells<T>* const> parts, int axis) {
  TES_CHECK(!parts.empty(), "nothing to join");
  const size_t along = static_cast<size_t>(axis);
  CellGrid grid = *parts[0];
  std::vector<int64_t> labels;
  std::vector<Partition> lines;  // of each part, along `axis`
  int64_t classes = 0;
  for (const Cells<T>* part : parts) {
    lines.push_back(part->axes[along]);
    for (int64_t i = 0; i < lines.back().extent(); ++i) labels.push_back(classes + lines.back()[i]);
    classes += lines.back().num_classes();
    for (size_t d = 0; d < grid.axes.size(); ++d) {
      if (d != along) grid.axes[d] = Refine(grid.axes[d], part->axes[d]);
    }
  }
  grid.shape[axis] = static_cast<int64_t>(labels.size());
  Cells<T> result(grid, {});
  result.axes[along] = Partition::FromLabels(labels);
  result.values.resize(static_cast<size_t>(result.num_cells()));
  // Row-major, what lies behind `axis` is contiguous, and each part fills its own stretch of every row.
  int64_t inner = 1, outer = 1;
  for (size_t d = 0; d < along; ++d) outer *= result.axes[d].num_classes();
  for (size_t d = along + 1; d < result.axes.size(); ++d) inner *= result.axes[d].num_classes();
  int64_t begin = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    std::vector<Partition> axes = grid.axes;
    axes[along] = lines[p];
    const Cells<T> fine = parts[p]->Refined(axes);
    const int64_t stretch = lines[p].num_classes() * inner;
    for (int64_t o = 0; o < outer; ++o) {
      std::copy_n(fine.values.begin() + o * stretch, stretch, result.values.begin() + (o * classes + begin) * inner);
    }
    begin += lines[p].num_classes();
  }
  return result.Coarsest();
}

template struct Cells<uint8_t>;
template struct Cells<double>;
template bool EqualCells(const Cells<uint8_t>&, const Cells<uint8_t>&);
template bool EqualCells(const Cells<double>&, const Cells<double>&);
template Cells<uint8_t> Concat(std::span<const Cells<uint8_t>* const>, int);
template Cells<double> Concat(std::span<const Cells<double>* const>, int);

}  // namespace tessera
