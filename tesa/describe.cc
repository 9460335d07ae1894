#include "tesa/describe.h"

#include <sstream>
#include <vector>

namespace tessera {

std::string DescribeIndices(std::span<const int64_t> indices, int most) {
  std::ostringstream out;
  out << '{';
  int runs = 0;
  for (size_t i = 0; i < indices.size();) {
    if (runs == most) {
      out << ", … (" << indices.size() << " in all)";
      break;
    }
    size_t end = i + 1;
    while (end < indices.size() && indices[end] == indices[end - 1] + 1) ++end;
    out << (runs++ == 0 ? "" : ", ") << indices[i];
    if (end - i == 2) out << ", " << indices[i + 1];
    if (end - i > 2) out << '-' << indices[end - 1];
    i = end;
  }
  out << '}';
  return out.str();
}

std::string DescribeSet(const Cells<uint8_t>& set) {
  const Cells<uint8_t> cells = set.Coarsest();
  if (cells.IsUniform(1)) return "all";
  if (cells.IsUniform(0)) return "none";
  int split = 0, axis = 0;
  for (int d = 0; d < cells.shape.rank(); ++d) {
    if (cells.axes[static_cast<size_t>(d)].is_whole()) continue;
    ++split;
    axis = d;
  }
  std::ostringstream out;
  if (split == 1) {
    // All other axes are one class, so that a class of this one is a cell.
    const Partition& line = cells.axes[static_cast<size_t>(axis)];
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < line.extent(); ++i) {
      if (cells.values[static_cast<size_t>(line[i])] != 0) indices.push_back(i);
    }
    if (cells.shape.rank() == 2) {
      out << (axis == 0 ? "rows " : "columns ");
    } else if (cells.shape.rank() > 2) {
      out << "axis " << axis << ' ';
    }
    out << DescribeIndices(indices);
  } else {
    out << cells.Count(1) << " of " << cells.shape.num_elements() << " elements";
  }
  return out.str();
}

}  // namespace tessera
