#include "tesa/region.h"

#include <algorithm>
#include <array>
#include <bit>

namespace tessera::internal {
namespace {

// C(n, k) for n <= 32, where all fit.
const std::array<std::array<uint64_t, kMaxNmGroup + 1>, kMaxNmGroup + 1>& Binomials() {
  static const auto table = [] {
    std::array<std::array<uint64_t, kMaxNmGroup + 1>, kMaxNmGroup + 1> t{};
    for (int n = 0; n <= kMaxNmGroup; ++n) {
      t[n][0] = 1;
      for (int k = 1; k <= n; ++k) t[n][k] = t[n - 1][k - 1] + (k < n ? t[n - 1][k] : 0);
    }
    return t;
  }();
  return table;
}

// The combinatorial number system: the positions p1 < p2 < … of the set bits give C(p1, 1) + C(p2, 2) + …
uint64_t RankOf(uint32_t positions) {
  uint64_t rank = 0;
  for (int k = 1; positions != 0; ++k, positions &= positions - 1) rank += Binomials()[std::countr_zero(positions)][k];
  return rank;
}

uint32_t PositionsOf(uint64_t rank, int n, int length) {
  uint32_t positions = 0;
  int p = length - 1;
  for (int k = n; k > 0; --k, --p) {
    while (Binomials()[p][k] > rank) --p;
    positions |= uint32_t{1} << p;
    rank -= Binomials()[p][k];
  }
  return positions;
}

// An equal walk over fewer axes: neighbours merge where the inner one is spanned by each cell, or both are single.
void MergeAxes(std::vector<int64_t>& view, std::vector<int64_t>& block) {
  for (size_t d = view.size(); d-- > 1;) {
    const bool spanned = block[d] == view[d];
    const bool single = block[d] == 1 && block[d - 1] == 1;
    if (!spanned && !single) continue;
    block[d - 1] *= block[d];
    view[d - 1] *= view[d];
    block.erase(block.begin() + static_cast<int64_t>(d));
    view.erase(view.begin() + static_cast<int64_t>(d));
  }
}

// The block of the layer's first grid; all of the view where it has none.
std::vector<int64_t> FirstBlock(const TesaLayer& layer) {
  return layer.grids.empty() ? layer.view.dims() : layer.grids[0].block;
}

int64_t Product(const std::vector<int64_t>& extents) {
  int64_t product = 1;
  for (int64_t extent : extents) product *= extent;
  return product;
}

// Calls visit(origin) with the first element's index vector of each set cell of the first grid, in order.
template <typename Visit>
void ForEachSetCell(const TesaLayer& layer, Visit visit) {
  std::vector<int64_t> origin(layer.view.rank(), 0);
  if (layer.grids.empty()) return visit(origin);
  const TesaGrid& grid = layer.grids[0];
  const std::vector<int64_t> strides = GridShape(layer.view, grid.block).Strides();
  for (int64_t cell : grid.cells.Positions()) {
    for (int d = 0; d < layer.view.rank(); ++d) {
      origin[d] = cell / strides[d] * grid.block[d];
      cell %= strides[d];
    }
    visit(origin);
  }
}

// Calls visit(element, bit, count): `count` elements in a row, the first of them row-major number `element` of the view
// and bit `bit` of the residual bitmap.
template <typename Visit>
void ForEachResidualRow(const TesaLayer& layer, Visit visit) {
  const std::vector<int64_t> block = FirstBlock(layer);
  const int rank = layer.view.rank();
  const std::vector<int64_t> strides = layer.view.Strides();
  const int64_t width = rank == 0 ? 1 : block[rank - 1];
  Shape rows = Shape(block);
  if (rank > 0) rows[rank - 1] = 1;
  int64_t bit = 0;
  ForEachSetCell(layer, [&](const std::vector<int64_t>& origin) {
    ForEachIndex(rows, [&](const std::vector<int64_t>& index) {
      int64_t element = 0;
      bool inside = true;
      for (int d = 0; d < rank; ++d) {
        inside &= origin[d] + index[d] < layer.view[d];
        element += (origin[d] + index[d]) * strides[d];
      }
      const int64_t count = rank == 0 ? 1 : std::min(width, layer.view[rank - 1] - origin[rank - 1]);
      if (inside) visit(element, bit, count);
      bit += width;
    });
  });
}

// Calls visit(element, stride, length) for each group of the set cells, in the order of their codes.
template <typename Visit>
void ForEachGroup(const TesaLayer& layer, int axis, int m, Visit visit) {
  const std::vector<int64_t> strides = layer.view.Strides();
  Shape groups = Shape(FirstBlock(layer));
  const int64_t extent = groups[axis];
  groups[axis] = (extent + m - 1) / m;
  ForEachSetCell(layer, [&](const std::vector<int64_t>& origin) {
    ForEachIndex(groups, [&](const std::vector<int64_t>& index) {
      int64_t element = 0;
      for (int d = 0; d < layer.view.rank(); ++d) {
        element += (origin[d] + index[d] * (d == axis ? m : 1)) * strides[d];
      }
      visit(element, strides[axis], static_cast<int>(std::min<int64_t>(m, extent - index[axis] * m)));
    });
  });
}

// False when a code is out of range.
bool DecodeNm(const TesaLayer& layer, Bitmap& kept) {
  const TesaResidual& residual = layer.residual;
  const int width = NmCodeBits(residual.n, residual.m);
  int64_t at = 0;
  bool valid = true;
  ForEachGroup(layer, residual.axis, residual.m, [&](int64_t element, int64_t stride, int length) {
    const uint64_t code = residual.data.Read(at, width);
    at += width;
    const int n = std::min(residual.n, length);
    if (code >= Binomials()[length][n]) {
      valid = false;
      return;
    }
    for (uint32_t p = PositionsOf(code, n, length); p != 0; p &= p - 1) {
      kept.Set(element + std::countr_zero(p) * stride, true);
    }
  });
  return valid;
}

// Where an element lies: its cell of a grid, and whether that cell is set.
int64_t CellOf(const Shape& view, const TesaGrid& grid, const std::vector<int64_t>& index) {
  int64_t cell = 0;
  for (int d = 0; d < view.rank(); ++d) {
    cell = cell * ((view[d] + grid.block[d] - 1) / grid.block[d]) + index[d] / grid.block[d];
  }
  return cell;
}

int64_t CountBelow(const Bitmap& bits, int64_t end) {
  int64_t count = 0;
  for (int64_t w = 0; w < end / 64; ++w) count += std::popcount(bits.words()[w]);
  return count + std::popcount(bits.Read(end / 64 * 64, static_cast<int>(end % 64)));
}

Status CheckResidual(const TesaLayer& layer) {
  const TesaResidual& residual = layer.residual;
  if (residual.kind == TesaResidual::Kind::kNone) {
    if (residual.data.size() == 0) return OkStatus();
    return Error(ErrorCode::kTesaInvalid, "expected no residual data, found ", residual.data.size(), " bits");
  }
  const std::vector<int64_t> block = FirstBlock(layer);
  const int64_t cells = layer.grids.empty() ? 1 : layer.grids[0].cells.Count();
  int64_t per_cell = Product(block);
  if (residual.kind == TesaResidual::Kind::kNm) {
    const int rank = layer.view.rank();
    if (residual.m < 2 || residual.m > kMaxNmGroup || residual.n < 1 || residual.n >= residual.m || residual.axis < 0 ||
        residual.axis >= rank) {
      return Error(ErrorCode::kTesaInvalid, "expected n:m with 0 < n < m <= ", kMaxNmGroup, " along one of ", rank,
                   " axes, found ", residual.n, ":", residual.m, " along axis ", residual.axis);
    }
    for (int d = 0; d < rank; ++d) {
      if (block[d] == layer.view[d] || (block[d] == 1 && d != residual.axis)) continue;
      return Error(ErrorCode::kTesaInvalid, "expected n:m inside whole slices, found cells of ", Shape(block));
    }
    const int64_t extent = block[residual.axis];
    per_cell = per_cell / extent * ((extent + residual.m - 1) / residual.m) * NmCodeBits(residual.n, residual.m);
  }
  int64_t expected = 0;
  if (__builtin_mul_overflow(cells, per_cell, &expected) || expected != residual.data.size()) {
    return Error(ErrorCode::kTesaInvalid, "expected ", per_cell, " residual bits for each of ", cells, " cells, found ",
                 residual.data.size());
  }
  if (residual.kind == TesaResidual::Kind::kNm) {
    Bitmap kept(layer.view.num_elements());
    if (!DecodeNm(layer, kept)) {
      return Error(ErrorCode::kTesaInvalid, "a code of ", residual.n, ":", residual.m, " is out of range");
    }
    return OkStatus();
  }
  int64_t inside = 0;
  ForEachResidualRow(layer, [&](int64_t, int64_t bit, int64_t count) {
    for (int64_t k = 0; k < count; k += 64) {
      inside += std::popcount(residual.data.Read(bit + k, static_cast<int>(std::min<int64_t>(64, count - k))));
    }
  });
  if (inside != residual.data.Count()) {
    return Error(ErrorCode::kTesaInvalid, "the residual bitmap keeps elements beyond the edge of ", layer.view);
  }
  return OkStatus();
}

}  // namespace

Shape GridShape(const Shape& view, const std::vector<int64_t>& block) {
  Shape shape = view;
  for (int d = 0; d < view.rank(); ++d) shape[d] = (view[d] + block[d] - 1) / block[d];
  return shape;
}

Bitmap DecodeGrid(const Shape& view, const TesaGrid& grid) {
  std::vector<int64_t> extents = view.dims(), block = grid.block;
  MergeAxes(extents, block);
  Bitmap kept(view.num_elements());
  if (extents.empty()) {
    kept.Set(0, grid.cells[0]);
    return kept;
  }
  const int64_t width = extents.back(), cell_width = block.back();
  extents.pop_back();
  block.pop_back();
  const std::vector<int64_t> strides = GridShape(Shape(extents), block).Strides();
  const int64_t row_cells = (width + cell_width - 1) / cell_width;
  int64_t element = 0, last_base = -1;
  ForEachIndex(Shape(extents), [&](const std::vector<int64_t>& index) {
    int64_t base = 0;
    for (size_t d = 0; d < index.size(); ++d) base += index[d] / block[d] * strides[d];
    base *= row_cells;
    if (base == last_base) {
      kept.Copy(element, kept, element - width, width);  // the row above lies in the same cells
    } else if (cell_width == 1) {
      kept.Copy(element, grid.cells, base, width);
    } else {
      for (int64_t j = 0; j < row_cells; ++j) {
        if (!grid.cells[base + j]) continue;
        kept.SetRange(element + j * cell_width, element + std::min(width, (j + 1) * cell_width), true);
      }
    }
    last_base = base;
    element += width;
  });
  return kept;
}

int64_t CountGrid(const Shape& view, const TesaGrid& grid) {
  const Shape cells = GridShape(view, grid.block);
  const std::vector<int64_t> strides = cells.Strides();
  int64_t count = 0;
  for (int64_t cell : grid.cells.Positions()) {
    int64_t volume = 1;
    for (int d = 0; d < view.rank(); ++d) {
      const int64_t begin = cell / strides[d] * grid.block[d];
      cell %= strides[d];
      volume *= std::min(grid.block[d], view[d] - begin);
    }
    count += volume;
  }
  return count;
}

Bitmap DecodeRegion(const TesaLayer& layer) {
  Bitmap kept;
  switch (layer.residual.kind) {
    case TesaResidual::Kind::kNone:
      kept = layer.grids.empty() ? Bitmap(layer.view.num_elements(), true) : DecodeGrid(layer.view, layer.grids[0]);
      break;
    case TesaResidual::Kind::kBitmap:
      kept = Bitmap(layer.view.num_elements());
      ForEachResidualRow(layer, [&](int64_t element, int64_t bit, int64_t count) {
        kept.Copy(element, layer.residual.data, bit, count);
      });
      break;
    case TesaResidual::Kind::kNm:
      kept = Bitmap(layer.view.num_elements());
      TES_CHECK(DecodeNm(layer, kept), "codes were checked when the layer was made");
      break;
  }
  for (size_t g = 1; g < layer.grids.size(); ++g) kept &= DecodeGrid(layer.view, layer.grids[g]);
  return kept;
}

int64_t CountRegion(const TesaLayer& layer) {
  if (layer.grids.size() <= 1) {
    if (layer.residual.kind == TesaResidual::Kind::kBitmap) return layer.residual.data.Count();
    if (layer.residual.kind == TesaResidual::Kind::kNone) {
      return layer.grids.empty() ? layer.view.num_elements() : CountGrid(layer.view, layer.grids[0]);
    }
  }
  return DecodeRegion(layer).Count();
}

bool RegionContains(const TesaLayer& layer, int64_t i) {
  const int rank = layer.view.rank();
  std::vector<int64_t> index(rank);
  for (int d = rank - 1; d >= 0; --d) {
    index[d] = i % layer.view[d];
    i /= layer.view[d];
  }
  for (const TesaGrid& grid : layer.grids) {
    if (!grid.cells[CellOf(layer.view, grid, index)]) return false;
  }
  const TesaResidual& residual = layer.residual;
  if (residual.kind == TesaResidual::Kind::kNone) return true;
  const std::vector<int64_t> block = FirstBlock(layer);
  const int64_t cell_rank =
      layer.grids.empty() ? 0 : CountBelow(layer.grids[0].cells, CellOf(layer.view, layer.grids[0], index));
  const bool is_nm = residual.kind == TesaResidual::Kind::kNm;
  int64_t within = 0, per_cell = 1;  // of elements or of groups
  for (int d = 0; d < rank; ++d) {
    const int64_t step = is_nm && d == residual.axis ? residual.m : 1;
    const int64_t extent = (block[d] + step - 1) / step;
    within = within * extent + index[d] % block[d] / step;
    per_cell *= extent;
  }
  if (!is_nm) return residual.data[cell_rank * per_cell + within];
  const int width = NmCodeBits(residual.n, residual.m);
  const uint64_t code = residual.data.Read((cell_rank * per_cell + within) * width, width);
  const int64_t position = index[residual.axis] % residual.m;
  const int64_t left = layer.view[residual.axis] - (index[residual.axis] - position);
  const int length = static_cast<int>(std::min<int64_t>(residual.m, left));
  return PositionsOf(code, std::min(residual.n, length), length) >> position & 1;
}

int64_t RegionBits(const TesaLayer& layer) {
  int64_t bits = layer.residual.data.size();
  for (const TesaGrid& grid : layer.grids) bits += grid.cells.size();
  return bits;
}

Status CheckRegion(const TesaLayer& layer, int64_t count) {
  if (layer.bits < 1 || layer.bits > Attribute::kMaxBits) {
    return Error(ErrorCode::kTesaInvalid, "expected a width of 1…", Attribute::kMaxBits, " bits, found ", layer.bits);
  }
  RETURN_IF_ERROR(CheckShape(DType::kU8, layer.view));
  if (layer.view.num_elements() != count) {
    return Error(ErrorCode::kTesaInvalid, "expected a view of ", count, " elements, found ", layer.view);
  }
  if (count == 0 && (!layer.grids.empty() || layer.residual.kind != TesaResidual::Kind::kNone)) {
    return Error(ErrorCode::kTesaInvalid, "expected no grid and no residual on an empty tensor");
  }
  constexpr size_t kMaxGrids = 32;
  if (layer.grids.size() > kMaxGrids) {
    return Error(ErrorCode::kLimitExceeded, "expected at most ", kMaxGrids, " grids, found ", layer.grids.size());
  }
  for (const TesaGrid& grid : layer.grids) {
    bool fits = static_cast<int>(grid.block.size()) == layer.view.rank();
    for (int d = 0; fits && d < layer.view.rank(); ++d) fits = grid.block[d] >= 1 && grid.block[d] <= layer.view[d];
    if (!fits) {
      return Error(ErrorCode::kTesaInvalid, "expected cells that fit into ", layer.view, ", found ", Shape(grid.block));
    }
    const int64_t cells = GridShape(layer.view, grid.block).num_elements();
    if (grid.cells.size() != cells) {
      return Error(ErrorCode::kTesaInvalid, "expected ", cells, " cells of ", Shape(grid.block), " in ", layer.view,
                   ", found ", grid.cells.size());
    }
  }
  return CheckResidual(layer);
}

void EncodeNm(const Bitmap& kept, int axis, int n, int m, TesaLayer& layer) {
  const int width = NmCodeBits(n, m);
  std::vector<uint64_t> codes;
  ForEachGroup(layer, axis, m, [&](int64_t element, int64_t stride, int length) {
    uint32_t positions = 0;
    for (int p = 0; p < length; ++p) positions |= static_cast<uint32_t>(kept[element + p * stride]) << p;
    codes.push_back(RankOf(positions));
  });
  layer.residual = {.kind = TesaResidual::Kind::kNm, .axis = axis, .n = n, .m = m, .data = {}};
  layer.residual.data = Bitmap(static_cast<int64_t>(codes.size()) * width);
  for (size_t k = 0; k < codes.size(); ++k) {
    layer.residual.data.Write(static_cast<int64_t>(k) * width, width, codes[k]);
  }
}

void EncodeResidualBitmap(const Bitmap& kept, TesaLayer& layer) {
  const int64_t cells = layer.grids.empty() ? 1 : layer.grids[0].cells.Count();
  layer.residual = {.kind = TesaResidual::Kind::kBitmap, .data = Bitmap(cells * Product(FirstBlock(layer)))};
  ForEachResidualRow(
      layer, [&](int64_t element, int64_t bit, int64_t count) { layer.residual.data.Copy(bit, kept, element, count); });
}

}  // namespace tessera::internal

namespace tessera {

int NmCodeBits(int n, int m) { return std::bit_width(internal::Binomials()[m][n] - 1); }

}  // namespace tessera
