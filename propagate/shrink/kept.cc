#include "propagate/shrink/kept.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace tessera {

bool AllKept(const AxisLists& lists) {
  return std::none_of(lists.begin(), lists.end(), [](const IndexList& list) { return list.has_value(); });
}

bool KeptAxes::AllOf(ValueId id) const { return AllKept(of[static_cast<size_t>(Index(id))]); }

Shape KeptAxes::ShapeOf(ValueId id, const Shape& shape) const {
  return SelectedShape(shape, of[static_cast<size_t>(Index(id))]);
}

Shape SelectedShape(const Shape& shape, const AxisLists& lists) {
  Shape selected = shape;
  for (int d = 0; d < shape.rank(); ++d) {
    if (const IndexList& list = lists[static_cast<size_t>(d)]) selected[d] = static_cast<int64_t>(list->size());
  }
  return selected;
}

std::vector<int64_t> Spelled(const IndexList& list, int64_t extent) {
  if (list) return *list;
  std::vector<int64_t> all(static_cast<size_t>(extent));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<int64_t> Complement(const IndexList& list, int64_t extent) {
  std::vector<int64_t> rest;
  if (!list) return rest;
  size_t at = 0;
  for (int64_t i = 0; i < extent; ++i) {
    if (at < list->size() && (*list)[at] == i) {
      ++at;
    } else {
      rest.push_back(i);
    }
  }
  return rest;
}

namespace {

// Copies the elements `list` of a row of elements of type T, which may be any type of that size.
template <typename T>
void CopyPicked(const std::byte* from, std::span<const int64_t> list, std::byte* to) {
  const T* source = reinterpret_cast<const T*>(from);
  T* target = reinterpret_cast<T*>(to);
  for (size_t k = 0; k < list.size(); ++k) target[k] = source[list[k]];
}

}  // namespace

Tensor SelectedTensor(const Tensor& tensor, const AxisLists& lists) {
  if (AllKept(lists)) return tensor;
  const Shape shape = SelectedShape(tensor.shape(), lists);
  Tensor selected(tensor.dtype(), shape);
  const int bits = TypeInfo(tensor.dtype()).bits;
  const std::vector<int64_t> strides = tensor.shape().Strides();
  // Trailing axes that stay whole are copied as one run, and so is what is picked of the last axis before them.
  int inner = shape.rank();
  while (!lists[static_cast<size_t>(inner - 1)]) --inner;
  int64_t run = 1;
  for (int d = inner; d < shape.rank(); ++d) run *= shape[d];
  const std::vector<int64_t>& last = *lists[static_cast<size_t>(inner - 1)];
  const Shape outer(std::vector<int64_t>(shape.begin(), shape.begin() + inner - 1));
  const std::byte* from = tensor.bytes().data();
  std::byte* to = selected.mutable_bytes().data();
  int64_t k = 0;
  ForEachIndex(outer, [&](const std::vector<int64_t>& index) {
    int64_t row = 0;
    for (size_t d = 0; d < index.size(); ++d) {
      row += (lists[d] ? (*lists[d])[static_cast<size_t>(index[d])] : index[d]) * strides[d];
    }
    if (run == 1 && bits == 32) {
      CopyPicked<uint32_t>(from + row * 4, last, to + k * 4);
      k += static_cast<int64_t>(last.size());
      return;
    }
    if (run == 1 && bits == 8) {
      CopyPicked<uint8_t>(from + row, last, to + k);
      k += static_cast<int64_t>(last.size());
      return;
    }
    for (int64_t i : last) {
      const int64_t position = row + i * run;
      if (bits >= 8) {
        std::memcpy(to + k * bits / 8, from + position * bits / 8, static_cast<size_t>(run * bits / 8));
      } else {
        for (int64_t j = 0; j < run; ++j) selected.SetInt(k + j, tensor.GetInt(position + j));
      }
      k += run;
    }
  });
  return selected;
}

template <typename T>
Cells<T> SelectedCells(const Cells<T>& cells, const AxisLists& lists) {
  if (AllKept(lists)) return cells;
  CellMap map;
  map.grid.shape = SelectedShape(cells.shape, lists);
  const int rank = cells.shape.rank();
  const Shape old_classes = cells.CellShape();
  const std::vector<int64_t> strides = old_classes.Strides();
  std::vector<std::vector<int64_t>> source(static_cast<size_t>(rank));  // per axis: new class -> old class * stride
  for (int d = 0; d < rank; ++d) {
    const Partition& axis = cells.axes[static_cast<size_t>(d)];
    const IndexList& list = lists[static_cast<size_t>(d)];
    map.grid.axes.push_back(list ? axis.Pulled(*list) : axis);
    const int64_t stride = strides[static_cast<size_t>(d)];
    for (int64_t first : map.grid.axes.back().Firsts()) {
      source[static_cast<size_t>(d)].push_back(axis[list ? (*list)[static_cast<size_t>(first)] : first] * stride);
    }
  }
  ForEachIndex(map.grid.CellShape(), [&](const std::vector<int64_t>& index) {
    int64_t position = 0;
    for (size_t d = 0; d < index.size(); ++d) position += source[d][static_cast<size_t>(index[d])];
    map.source.push_back(position);
  });
  return cells.Mapped(map);
}

template Cells<uint8_t> SelectedCells(const Cells<uint8_t>&, const AxisLists&);
template Cells<double> SelectedCells(const Cells<double>&, const AxisLists&);

Attribute SelectedAttribute(const Attribute& attribute, const AxisLists& lists) {
  if (AllKept(lists)) return attribute;
  return AttributeOf(SelectedCells(BitCells(attribute), lists));
}

Known SelectedKnown(const Known& known, const AxisLists& lists) {
  if (AllKept(lists)) return known;
  const TensorType type = {known.type.dtype, SelectedShape(known.type.shape, lists)};
  if (known.data) {
    Known selected = Known::OfConstant(SelectedTensor(*known.data, lists));
    selected.range = known.range;
    return selected;
  }
  Known selected;
  selected.type = type;
  selected.range = known.range;
  selected.kind = SelectedCells(known.kind, lists);
  if (known.values.empty()) return selected;
  selected.values = SelectedCells(Cells<double>(known.kind, known.values), lists).values;
  return selected;
}

std::optional<QuantParams> SelectedQuant(const QuantParams& quant, const AxisLists& lists) {
  if (AllKept(lists)) return quant;
  if (quant.block_size > 0) return std::nullopt;
  if (quant.axis < 0 || !lists[static_cast<size_t>(quant.axis)]) return quant;
  QuantParams selected = {.axis = quant.axis};
  for (int64_t i : *lists[static_cast<size_t>(quant.axis)]) {
    selected.scales.push_back(quant.scales[static_cast<size_t>(i)]);
    if (!quant.zero_points.empty()) selected.zero_points.push_back(quant.zero_points[static_cast<size_t>(i)]);
  }
  return selected;
}

std::vector<ViewGroup> ViewGroups(const Shape& tensor, const Shape& view) {
  std::vector<ViewGroup> groups;
  int t = 0, v = 0;
  const auto skip_ones = [](const Shape& shape, int& d) {
    while (d < shape.rank() && shape[d] == 1) ++d;
  };
  for (skip_ones(tensor, t), skip_ones(view, v); t < tensor.rank() && v < view.rank();
       skip_ones(tensor, t), skip_ones(view, v)) {
    ViewGroup group = {{t}, {v}};
    int64_t of_tensor = tensor[t++], of_view = view[v++];
    while (of_tensor != of_view) {
      if (of_tensor < of_view) {
        if (tensor[t] != 1) group.tensor_dims.push_back(t);
        of_tensor *= tensor[t++];
      } else {
        if (view[v] != 1) group.view_dims.push_back(v);
        of_view *= view[v++];
      }
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace tessera
