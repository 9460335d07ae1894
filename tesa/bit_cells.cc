// Attribute <-> cells: part of cells.h.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/status.h"
#include "tesa/cells.h"

namespace tessera {
namespace {

// A layer that takes no more than this share of a plain bitmap is small enough to stop looking, as in encode.cc; of
// tensors that are costly to expand, more will do.
constexpr int64_t kSmallShare = 1024;
constexpr int64_t kCostly = int64_t{1} << 22;

int64_t SmallSize(int64_t elements) { return elements < kCostly ? elements / kSmallShare + 64 : elements / 16; }

// One byte of 0 or 1 for each bit, eight at a time.
std::vector<uint8_t> BytesOf(const Bitmap& bits) {
  std::vector<uint8_t> bytes(static_cast<size_t>(Bitmap::WordsFor(bits.size()) * 64));
  uint8_t* out = bytes.data();
  for (uint64_t word : bits.words()) {
    for (int k = 0; k < 64; k += 8, out += 8) {
      // Bit i of each of eight copies moves to bit 7 of byte i, and from there to bit 0.
      uint64_t eight = (word >> k & 0xff) * 0x0101010101010101 & 0x8040201008040201;
      eight = (eight + 0x7f7f7f7f7f7f7f7f) >> 7 & 0x0101010101010101;
      std::memcpy(out, &eight, 8);
    }
  }
  bytes.resize(static_cast<size_t>(bits.size()));
  return bytes;
}

// 1 in the set cells of a grid.
Cells<uint8_t> GridCells(const Shape& view, const TesaGrid& grid) {
  Cells<uint8_t> cells;
  cells.shape = view;
  for (int d = 0; d < view.rank(); ++d) cells.axes.push_back(Partition::Blocks(view[d], grid.block[d]));
  cells.values = BytesOf(grid.cells);
  return cells.Coarsest();
}

// 1 in the region of a layer, under the layer's view.
Cells<uint8_t> RegionCells(const TesaLayer& layer) {
  if (layer.residual.kind != TesaResidual::Kind::kNone) {
    StatusOr<Attribute> region = Attribute::FromLayers(layer.view, {layer});
    TES_CHECK(region.ok(), region.status());
    return CellsOf(layer.view, region->KeptBitmap());
  }
  if (layer.grids.empty()) return Cells<uint8_t>::Uniform(layer.view, 1);
  Cells<uint8_t> cells = GridCells(layer.view, layer.grids[0]);
  for (size_t g = 1; g < layer.grids.size(); ++g) {
    cells =
        Combine(cells, GridCells(layer.view, layer.grids[g]), [](uint8_t a, uint8_t b) -> uint8_t { return a & b; });
  }
  return cells;
}

// The classes of axis d in which anything is kept.
std::vector<bool> KeptClasses(const Cells<uint8_t>& kept, int d) {
  const Shape cells = kept.CellShape();
  const int64_t inner = cells.Strides()[static_cast<size_t>(d)], extent = cells[d];
  std::vector<bool> any(static_cast<size_t>(extent), false);
  for (size_t i = 0; i < kept.values.size(); ++i) {
    if (kept.values[i] != 0) any[i / static_cast<size_t>(inner) % static_cast<size_t>(extent)] = true;
  }
  return any;
}

// Index sets along the axes, when `kept` is their product.
std::optional<TesaLayer> AsSets(const Cells<uint8_t>& kept, int bits) {
  TesaLayer layer = {.bits = bits, .view = kept.shape, .grids = {}, .residual = {}};
  int64_t product = 1;
  for (int d = 0; d < kept.shape.rank(); ++d) {
    const Partition& axis = kept.axes[static_cast<size_t>(d)];
    const std::vector<bool> any = KeptClasses(kept, d);
    std::vector<int64_t> block = kept.shape.dims();
    block[static_cast<size_t>(d)] = 1;
    TesaGrid grid = {std::move(block), Bitmap(axis.extent())};
    for (int64_t i = 0; i < axis.extent(); ++i) grid.cells.Set(i, any[static_cast<size_t>(axis[i])]);
    product *= grid.cells.Count();
    if (!grid.cells.All()) layer.grids.push_back(std::move(grid));
  }
  if (product != kept.Count(1)) return std::nullopt;
  return layer;
}

// One grid of the largest cells in which `kept` is constant.
std::optional<TesaLayer> AsGrid(const Cells<uint8_t>& kept, int bits) {
  std::vector<int64_t> block;
  std::vector<Partition> axes;
  int64_t cells = 1;
  for (const Partition& axis : kept.axes) {
    // As wide as divides each index at which neighbours differ.
    int64_t extent = 0;
    for (int64_t i = 1; i < axis.extent() && extent != 1 && !axis.is_whole(); ++i) {
      if (axis[i] != axis[i - 1]) extent = std::gcd(extent, i);
    }
    block.push_back(extent == 0 ? axis.extent() : extent);
    axes.push_back(Partition::Blocks(axis.extent(), block.back()));
    cells *= axes.back().num_classes();
  }
  if (cells > SmallSize(kept.shape.num_elements())) return std::nullopt;
  TesaLayer layer = {.bits = bits, .view = kept.shape, .grids = {}, .residual = {}};
  layer.grids.push_back({std::move(block), Bitmap::FromBytes(kept.Refined(axes).values)});
  return layer;
}

// The region where `kept` is 1, if it has a form that is small against the elements.
std::optional<TesaLayer> SmallLayer(const Cells<uint8_t>& kept, int bits) {
  if (kept.IsUniform(1)) return TesaLayer{.bits = bits, .view = kept.shape, .grids = {}, .residual = {}};
  std::optional<TesaLayer> sets = AsSets(kept, bits), grid = AsGrid(kept, bits);
  const auto size = [](const std::optional<TesaLayer>& layer) {
    int64_t cells = 0;
    for (const TesaGrid& g : layer->grids) cells += g.cells.size();
    return cells;
  };
  const int64_t small = SmallSize(kept.shape.num_elements());
  if (sets && size(sets) > small) sets.reset();
  if (sets && grid) return size(sets) < size(grid) ? sets : grid;
  return sets ? sets : grid;
}

}  // namespace

Cells<uint8_t> CellsOf(const Shape& shape, const Bitmap& set) {
  TES_CHECK(set.size() == shape.num_elements(), set.size(), " bits for ", shape);
  const std::vector<uint8_t> bytes = BytesOf(set);
  return Cells<uint8_t>::FromElements(shape, bytes);
}

Cells<uint8_t> BitCells(const Attribute& attribute) {
  Cells<uint8_t> bits = Cells<uint8_t>::Uniform(attribute.shape(), 0);
  if (attribute.num_elements() == 0) return bits;
  const std::span<const TesaLayer> layers = attribute.layers();
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    const uint8_t width = static_cast<uint8_t>(layer->bits);
    Cells<uint8_t> region = RegionCells(*layer);
    if (layer->view != bits.shape) region = region.Reshaped(bits.shape);
    if (layer == layers.rbegin()) {
      for (uint8_t& value : region.values) value = value != 0 ? width : 0;
      bits = std::move(region);
      continue;
    }
    bits = Combine(region, bits, [width](uint8_t in, uint8_t before) { return in != 0 ? width : before; });
  }
  return bits;
}

Attribute AttributeOf(const Cells<uint8_t>& bits) {
  if (bits.shape.num_elements() == 0) return Attribute::Dense(bits.shape, 0);
  bool occurs[256] = {};
  for (uint8_t width : bits.values) occurs[width] = true;
  std::vector<TesaLayer> layers;
  for (int width = 1; width <= 255; ++width) {
    if (!occurs[width]) continue;
    TES_CHECK(width <= Attribute::kMaxBits, "width ", width);
    Cells<uint8_t> kept = bits;
    for (uint8_t& value : kept.values) value = value == width;
    std::optional<TesaLayer> layer = SmallLayer(kept.Coarsest(), width);
    if (!layer) return Attribute::FromBits(bits.shape, bits.Elements());
    layers.push_back(*std::move(layer));
  }
  StatusOr<Attribute> attribute = Attribute::FromLayers(bits.shape, std::move(layers));
  TES_CHECK(attribute.ok(), attribute.status());
  return *std::move(attribute);
}

}  // namespace tessera
