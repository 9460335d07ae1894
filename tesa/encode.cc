#include "tesa/encode.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <optional>

#include "tesa/region.h"

namespace tessera::internal {
namespace {

constexpr int kGroups[] = {4, 2, 8, 16, 32};
constexpr int64_t kBlocks[][2] = {{64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4},  {32, 1}, {16, 1},
                                  {8, 1},   {4, 1},   {1, 4},   {1, 8}, {1, 16}, {1, 32}};

// Is any of the bits [begin, end) of a row of words set?
bool AnyBits(const uint64_t* words, int64_t begin, int64_t end) {
  while (begin < end) {
    const int64_t offset = begin % 64, count = std::min(64 - offset, end - begin);
    const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << offset;
    if (words[begin / 64] & mask) return true;
    begin += count;
  }
  return false;
}

// One view of the elements, as rows of its last axis.
class Encoder {
 public:
  Encoder(const Shape& view, const Bitmap& kept, int bits)
      : view_(view),
        kept_(kept),
        bits_(bits),
        count_(kept.Count()),
        width_(view.rank() == 0 ? 1 : view[view.rank() - 1]),
        matrix_(kept, kept.size() / width_, width_) {}

  TesaLayer Encode() {
    if (count_ == view_.num_elements()) return Layer();
    FindSets();
    TryExactGrid();
    TrySets();
    // A thousandth of the plain bitmap is small enough to stop looking.
    if (RegionBits(*best_) <= view_.num_elements() / 1024 + 64) return *std::move(best_);
    TryBlocks();
    TryResidualInSlices();
    TryNm();
    return *std::move(best_);
  }

 private:
  TesaLayer Layer() const { return {.bits = bits_, .view = view_, .grids = {}, .residual = {}}; }
  void Offer(TesaLayer layer) {
    if (!best_ || RegionBits(layer) < RegionBits(*best_)) best_ = std::move(layer);
  }
  bool Improves(int64_t bits) const { return !best_ || bits < RegionBits(*best_); }
  // Elements of the view per index of axis d.
  int64_t SliceSize(int d) const { return view_.num_elements() / view_[d]; }
  TesaGrid SetGrid(int d) const {
    std::vector<int64_t> block = view_.dims();
    block[d] = 1;
    return {std::move(block), sets_[d]};
  }

  // sets_[d]: the indices of axis d at which anything is kept; partial_: the axes where that is not all.
  void FindSets() {
    const int rank = view_.rank();
    for (int d = 0; d < rank; ++d) sets_.emplace_back(view_[d]);
    std::vector<uint64_t> columns(matrix_.pitch(), 0);
    std::vector<int64_t> index(rank, 0);
    for (int64_t r = 0; r < matrix_.rows(); ++r) {
      uint64_t any = 0;
      for (int64_t w = 0; w < matrix_.pitch(); ++w) {
        any |= matrix_.row(r)[w];
        columns[w] |= matrix_.row(r)[w];
      }
      if (any != 0) {
        for (int d = 0; d + 1 < rank; ++d) sets_[d].Set(index[d], true);
      }
      for (int d = rank - 2; d >= 0; --d) {
        if (++index[d] < view_[d]) break;
        index[d] = 0;
      }
    }
    if (rank > 0) sets_[rank - 1] = Bitmap::FromWords(width_, std::move(columns));
    for (int d = 0; d < rank; ++d) {
      if (!sets_[d].All()) partial_.push_back(d);
    }
  }

  // `kept` is constant along axis d within cells of extent b just when b divides every index at which two neighbouring
  // slices differ; so the coarsest exact cell has the gcd of those indices, and the axes do not depend on each other.
  int64_t ExactExtent(int d) const {
    if (d == view_.rank() - 1) {
      std::vector<uint64_t> changes(matrix_.pitch(), 0);
      for (int64_t r = 0; r < matrix_.rows(); ++r) {
        uint64_t carry = 0;
        for (int64_t w = 0; w < matrix_.pitch(); ++w) {
          const uint64_t word = matrix_.row(r)[w];
          changes[w] |= word ^ (word << 1 | carry);
          carry = word >> 63;
        }
      }
      changes[0] &= ~uint64_t{1};  // the first element has no neighbour
      int64_t extent = 0;
      for (int64_t k : Bitmap::FromWords(width_, std::move(changes)).Positions()) extent = std::gcd(extent, k);
      return extent == 0 ? view_[d] : extent;
    }
    int64_t inner = 1, outer = 1;
    for (int k = d + 1; k + 1 < view_.rank(); ++k) inner *= view_[k];
    for (int k = 0; k < d; ++k) outer *= view_[k];
    const int64_t words = inner * matrix_.pitch();
    int64_t extent = 0;
    for (int64_t o = 0; o < outer && extent != 1; ++o) {
      for (int64_t k = 1; k < view_[d] && extent != 1; ++k) {
        const uint64_t* slice = matrix_.row((o * view_[d] + k) * inner);
        if (!std::equal(slice, slice + words, slice - words)) extent = std::gcd(extent, k);
      }
    }
    return extent == 0 ? view_[d] : extent;
  }

  void TryExactGrid() {
    std::vector<int64_t> block(view_.rank());
    for (int d = 0; d < view_.rank(); ++d) block[d] = ExactExtent(d);
    TesaLayer layer = Layer();
    layer.grids.push_back(AnyGrid(std::move(block)));
    Offer(std::move(layer));
  }

  // The grid whose set cells hold at least one kept element.
  TesaGrid AnyGrid(std::vector<int64_t> block) const {
    const int rank = view_.rank();
    const Shape cells = GridShape(view_, block);
    TesaGrid grid = {std::move(block), Bitmap(cells.num_elements())};
    if (rank == 0) {
      grid.cells.Set(0, count_ > 0);
      return grid;
    }
    const std::vector<int64_t> strides = cells.Strides();
    const int64_t cell_width = grid.block[rank - 1], row_cells = cells[rank - 1];
    std::vector<uint64_t> any(matrix_.pitch(), 0);
    std::vector<int64_t> index(rank, 0);
    int64_t open_base = 0;
    const auto flush = [&] {
      for (int64_t j = 0; j < row_cells; ++j) {
        if (cell_width == 1 && j % 64 == 0 && any[j / 64] == 0) {
          j += 63;
          continue;
        }
        if (AnyBits(any.data(), j * cell_width, std::min(width_, (j + 1) * cell_width))) {
          grid.cells.Set(open_base + j, true);
        }
      }
      std::fill(any.begin(), any.end(), 0);
    };
    for (int64_t r = 0; r < matrix_.rows(); ++r) {
      int64_t base = 0;
      for (int d = 0; d + 1 < rank; ++d) base += index[d] / grid.block[d] * strides[d];
      if (base != open_base) {
        flush();
        open_base = base;
      }
      for (int64_t w = 0; w < matrix_.pitch(); ++w) any[w] |= matrix_.row(r)[w];
      for (int d = rank - 2; d >= 0; --d) {
        if (++index[d] < view_[d]) break;
        index[d] = 0;
      }
    }
    flush();
    return grid;
  }

  // The product of the index sets, where that is all there is.
  void TrySets() {
    int64_t product = 1;
    for (const Bitmap& set : sets_) product *= set.Count();
    if (product != count_ || partial_.empty()) return;
    TesaLayer layer = Layer();
    for (int d : partial_) layer.grids.push_back(SetGrid(d));
    Offer(std::move(layer));
  }

  // Blocks of a matrix: thinned by index sets of rows and columns, or by a residual bitmap.
  void TryBlocks() {
    if (view_.rank() != 2) return;
    for (const auto& [height, width] : kBlocks) {
      if (height > view_[0] || width > view_[1]) continue;
      TesaGrid grid = AnyGrid({height, width});
      const int64_t set_cells = grid.cells.Count();
      const int64_t residual_bits = grid.cells.size() + set_cells * height * width;
      if (!partial_.empty() && CountInSets(grid) == count_) {
        TesaLayer layer = Layer();
        layer.grids.push_back(grid);
        for (int d : partial_) layer.grids.push_back(SetGrid(d));
        Offer(std::move(layer));
      }
      // Inside cells of few elements a bitmap costs more than it spares.
      if (height * width >= 64 && Improves(residual_bits)) {
        TesaLayer layer = Layer();
        layer.grids.push_back(std::move(grid));
        EncodeResidualBitmap(kept_, layer);
        Offer(std::move(layer));
      }
    }
  }

  // How many elements lie in set cells of `grid`, in a kept row and in a kept column.
  int64_t CountInSets(const TesaGrid& grid) const {
    const auto count_ranges = [](const Bitmap& set, int64_t step) {
      std::vector<int64_t> counts((set.size() + step - 1) / step, 0);
      for (int64_t k : set.Positions()) ++counts[k / step];
      return counts;
    };
    const std::vector<int64_t> rows = count_ranges(sets_[0], grid.block[0]);
    const std::vector<int64_t> columns = count_ranges(sets_[1], grid.block[1]);
    const int64_t pitch = static_cast<int64_t>(columns.size());
    int64_t count = 0;
    for (int64_t cell : grid.cells.Positions()) count += rows[cell / pitch] * columns[cell % pitch];
    return count;
  }

  void TryResidualInSlices() {
    for (int d : partial_) {
      if (!Improves(view_[d] + sets_[d].Count() * SliceSize(d))) continue;
      TesaLayer layer = Layer();
      layer.grids.push_back(SetGrid(d));
      EncodeResidualBitmap(kept_, layer);
      Offer(std::move(layer));
    }
  }

  struct Nm {
    int n = 0;
    int64_t live_groups = 0;
  };

  // If each group of m along `axis` keeps nothing or n (a shorter last one: min(n, length)), that n and how many groups
  // keep something.
  std::optional<Nm> FindNm(int axis, int m) const {
    Nm found;
    if (axis == view_.rank() - 1) {
      for (int64_t r = 0; r < matrix_.rows(); ++r) {
        for (int64_t c = 0; c < width_; c += m) {
          const int length = static_cast<int>(std::min<int64_t>(m, width_ - c));
          const int n = std::popcount(kept_.Read(r * width_ + c, length));
          if (n != 0 && !Accept(n, length, m, found)) return std::nullopt;
        }
      }
      return found;
    }
    int64_t inner = 1;
    for (int k = axis + 1; k < view_.rank(); ++k) inner *= view_[k];
    const int64_t outer = view_.num_elements() / inner / view_[axis];
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t first = 0; first < view_[axis]; first += m) {
        const int length = static_cast<int>(std::min<int64_t>(m, view_[axis] - first));
        const int64_t base = (o * view_[axis] + first) * inner;
        for (int64_t k = 0; k < inner; k += 64) {
          // Lane by lane the count of `length` bits, in six bit planes.
          uint64_t planes[6] = {};
          for (int p = 0; p < length; ++p) {
            uint64_t carry = kept_.Read(base + p * inner + k, static_cast<int>(std::min<int64_t>(64, inner - k)));
            for (uint64_t& plane : planes) {
              const uint64_t next = plane & carry;
              plane ^= carry;
              carry = next;
              if (carry == 0) break;
            }
          }
          uint64_t live = 0;
          for (uint64_t plane : planes) live |= plane;
          if (live == 0) continue;
          const int lane = std::countr_zero(live);
          int n = 0;
          for (int b = 0; b < 6; ++b) n |= static_cast<int>(planes[b] >> lane & 1) << b;
          for (int b = 0; b < 6; ++b) {
            if (((n >> b & 1) != 0 ? live : 0) != planes[b]) return std::nullopt;
          }
          found.live_groups += std::popcount(live) - 1;
          if (!Accept(n, length, m, found)) return std::nullopt;
        }
      }
    }
    return found;
  }

  // One more group of `length` that keeps n > 0.
  static bool Accept(int n, int length, int m, Nm& found) {
    ++found.live_groups;
    if (found.n == 0) {
      // A short first group says nothing of the whole ones; such axes are not worth a code.
      if (length < m || n == m) return false;
      found.n = n;
    }
    return n == std::min(found.n, length);
  }

  void TryNm() {
    for (int axis = 0; axis < view_.rank(); ++axis) {
      for (int m : kGroups) {
        if (view_[axis] < m) continue;
        const std::optional<Nm> nm = FindNm(axis, m);
        if (!nm || nm->n == 0) continue;
        const int64_t groups_per_line = (view_[axis] + m - 1) / m;
        const int64_t bits = nm->live_groups * NmCodeBits(nm->n, m);
        const auto offer = [&](TesaLayer layer) {
          EncodeNm(kept_, axis, nm->n, m, layer);
          Offer(std::move(layer));
        };
        if (nm->live_groups == view_.num_elements() / view_[axis] * groups_per_line) {
          if (Improves(bits)) offer(Layer());
          continue;
        }
        for (int d : partial_) {
          if (d == axis) continue;
          const int64_t groups = sets_[d].Count() * (SliceSize(d) / view_[axis]) * groups_per_line;
          if (nm->live_groups != groups || !Improves(bits + view_[d])) continue;
          TesaLayer layer = Layer();
          layer.grids.push_back(SetGrid(d));
          offer(std::move(layer));
        }
      }
    }
  }

  const Shape view_;
  const Bitmap& kept_;
  const int bits_;
  const int64_t count_;
  const int64_t width_;
  const BitMatrix matrix_;
  std::vector<Bitmap> sets_;
  std::vector<int> partial_;
  std::optional<TesaLayer> best_;
};

}  // namespace

TesaLayer EncodeRegion(const Shape& shape, const Bitmap& kept, int bits) {
  Shape view = shape;
  if (shape.rank() > 2) {
    std::vector<int64_t> extents;
    for (int64_t extent : shape) {
      if (extent != 1) extents.push_back(extent);
    }
    if (static_cast<int>(extents.size()) < shape.rank()) view = Shape(std::move(extents));
  }
  if (kept.All()) return {.bits = bits, .view = shape, .grids = {}, .residual = {}};
  TesaLayer best = Encoder(view, kept, bits).Encode();
  if (view.rank() > 2) {
    TesaLayer matrix = Encoder({view[0], view.num_elements() / view[0]}, kept, bits).Encode();
    if (RegionBits(matrix) < RegionBits(best)) return matrix;
  }
  return best;
}

}  // namespace tessera::internal
