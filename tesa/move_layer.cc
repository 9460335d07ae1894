#include "tesa/move_layer.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "tesa/region.h"

namespace tessera::internal {
namespace {

// A grid of more cells than this share of the elements is no better than a bitmap of them.
constexpr int64_t kFewestElementsPerCell = 4;

// Cells of `block` along an axis that row-major splits into `extents`: their extents there, when they are products.
bool SplitBlock(int64_t block, std::span<const int64_t> extents, std::span<int64_t> blocks) {
  for (size_t d = extents.size(); d-- > 0;) {
    if (block >= extents[d] && (block % extents[d] == 0 || d == 0)) {
      blocks[d] = extents[d];
      block = std::max<int64_t>(1, block / extents[d]);
    } else if (extents[d] % block == 0 || d == 0) {
      blocks[d] = block;
      block = 1;
    } else {
      return false;
    }
  }
  return true;
}

// What a slice makes of one axis: the new extent of its cells, and for each new cell the old one.
struct AxisSlice {
  int64_t block;
  std::vector<int64_t> cells;
};

AxisSlice SliceAxis(int64_t block, int64_t start, int64_t size) {
  // The new cells must end where old ones do; what lies outside the slice does not count.
  const int64_t first_end = block - start % block;
  AxisSlice axis;
  axis.block = first_end >= size ? size : first_end + block >= size ? first_end : std::gcd(first_end, block);
  for (int64_t at = 0; at < size; at += axis.block) axis.cells.push_back((start + at) / block);
  return axis;
}

}  // namespace

Bitmap TransposedBits(const Shape& shape, const Bitmap& bits, std::span<const int> perm) {
  const int rank = shape.rank();
  if (rank == 0 || bits.size() == 0) return bits;
  const std::vector<int64_t> strides = shape.Strides();
  Shape rows = shape;
  for (int d = 0; d < rank; ++d) rows[d] = shape[perm[static_cast<size_t>(d)]];
  const int64_t width = rows[rank - 1], step = strides[static_cast<size_t>(perm[static_cast<size_t>(rank - 1)])];
  rows[rank - 1] = 1;
  Bitmap result(bits.size());
  int64_t out = 0;
  ForEachIndex(rows, [&](const std::vector<int64_t>& index) {
    int64_t in = 0;
    for (size_t d = 0; d < perm.size(); ++d) in += index[d] * strides[static_cast<size_t>(perm[d])];
    for (int64_t j = 0; j < width; ++j, ++out, in += step) {
      if (bits[in]) result.Set(out, true);
    }
  });
  return result;
}

std::optional<TesaLayer> SeenAs(const TesaLayer& layer, const Shape& shape) {
  if (layer.view == shape) return layer;
  if (layer.residual.kind != TesaResidual::Kind::kNone) return std::nullopt;
  TesaLayer result = {.bits = layer.bits, .view = shape, .grids = layer.grids, .residual = {}};
  for (TesaGrid& grid : result.grids) grid.block.assign(static_cast<size_t>(shape.rank()), 1);
  // Each axis of the view must be a stretch of axes of `shape`; axes of one element belong anywhere.
  int d = 0;
  for (int v = 0; v < layer.view.rank(); ++v) {
    const int begin = d;
    int64_t extent = 1;
    while (d < shape.rank() && (extent < layer.view[v] || shape[d] == 1)) extent *= shape[d++];
    if (extent != layer.view[v]) return std::nullopt;
    const size_t from = static_cast<size_t>(begin), count = static_cast<size_t>(d - begin);
    for (size_t g = 0; g < layer.grids.size(); ++g) {
      const int64_t block = std::min(layer.grids[g].block[static_cast<size_t>(v)], extent);
      const std::span<const int64_t> extents = std::span(shape.dims()).subspan(from, count);
      if (block == extent) {
        std::copy(extents.begin(), extents.end(), result.grids[g].block.begin() + begin);
      } else if (!SplitBlock(block, extents, std::span(result.grids[g].block).subspan(from, count))) {
        return std::nullopt;
      }
    }
  }
  return d == shape.rank() ? std::optional(std::move(result)) : std::nullopt;
}

std::optional<TesaLayer> TransposedLayer(const TesaLayer& layer, const Shape& shape, std::span<const int> perm) {
  std::optional<TesaLayer> seen = SeenAs(layer, shape);
  if (!seen || seen->residual.kind != TesaResidual::Kind::kNone) return std::nullopt;
  TesaLayer moved = *seen;
  for (int d = 0; d < shape.rank(); ++d) moved.view[d] = shape[perm[static_cast<size_t>(d)]];
  for (size_t g = 0; g < moved.grids.size(); ++g) {
    const TesaGrid& grid = seen->grids[g];
    for (size_t d = 0; d < perm.size(); ++d) moved.grids[g].block[d] = grid.block[static_cast<size_t>(perm[d])];
    moved.grids[g].cells = TransposedBits(GridShape(shape, grid.block), grid.cells, perm);
  }
  return moved;
}

std::optional<TesaLayer> SlicedLayer(const TesaLayer& layer, const Shape& shape, std::span<const int64_t> start,
                                     std::span<const int64_t> size) {
  std::optional<TesaLayer> seen = SeenAs(layer, shape);
  if (!seen || seen->residual.kind != TesaResidual::Kind::kNone) return std::nullopt;
  const Shape part(std::vector<int64_t>(size.begin(), size.end()));
  TesaLayer moved = {.bits = layer.bits, .view = part, .grids = {}, .residual = {}};
  for (const TesaGrid& grid : seen->grids) {
    const std::vector<int64_t> strides = GridShape(shape, grid.block).Strides();
    TesaGrid cut;
    std::vector<int64_t> sources = {0};
    for (size_t d = 0; d < grid.block.size(); ++d) {
      const AxisSlice axis = SliceAxis(grid.block[d], start[d], size[d]);
      cut.block.push_back(axis.block);
      if (static_cast<int64_t>(sources.size() * axis.cells.size()) > part.num_elements()) return std::nullopt;
      std::vector<int64_t> next;
      next.reserve(sources.size() * axis.cells.size());
      for (int64_t source : sources) {
        for (int64_t cell : axis.cells) next.push_back(source + cell * strides[d]);
      }
      sources = std::move(next);
    }
    const int64_t cells = static_cast<int64_t>(sources.size());
    if (cells > 64 && cells > grid.cells.size() && cells * kFewestElementsPerCell > part.num_elements()) {
      return std::nullopt;
    }
    cut.cells = Bitmap(cells);
    for (int64_t c = 0; c < cells; ++c) {
      if (grid.cells[sources[static_cast<size_t>(c)]]) cut.cells.Set(c, true);
    }
    if (!cut.cells.All()) moved.grids.push_back(std::move(cut));
  }
  return moved;
}

}  // namespace tessera::internal
