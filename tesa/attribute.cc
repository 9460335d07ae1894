#include "tesa/attribute.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "tesa/encode.h"
#include "tesa/move_layer.h"
#include "tesa/region.h"

namespace tessera {
namespace {

// Above this an attribute is only ever made from a file's own claims; its expanded bitmap would take half a gigabyte.
constexpr int64_t kMaxElements = int64_t{1} << 32;
// Below this expanding an attribute is cheaper than reasoning about its layers.
constexpr int64_t kSmall = int64_t{1} << 16;
// More layers than this after a Meet or Join are encoded afresh.
constexpr size_t kManyLayers = 8;

// The kept elements `kept` at `bits`, before anything that earlier layers hold.
void AppendRegion(const Shape& shape, const Bitmap& kept, int bits, std::vector<TesaLayer>& layers) {
  if (kept.Any()) layers.push_back(internal::EncodeRegion(shape, kept, bits));
}

// The bits of a slice, a row at a time.
Bitmap SlicedBits(const Shape& from, const Bitmap& bits, std::span<const int64_t> start, const Shape& shape) {
  const std::vector<int64_t> strides = from.Strides();
  Bitmap part(shape.num_elements());
  const int rank = shape.rank();
  const int64_t width = rank == 0 ? 1 : shape[rank - 1];
  Shape rows = shape;
  if (rank > 0) rows[rank - 1] = 1;
  int64_t out = 0;
  ForEachIndex(rows, [&](const std::vector<int64_t>& index) {
    int64_t in = 0;
    for (int d = 0; d < rank; ++d) in += (start[d] + index[d]) * strides[d];
    part.Copy(out, bits, in, width);
    out += width;
  });
  return part;
}

// One layer for each width. A layer may also hold what earlier layers hold, which can make it simpler ("the rest").
std::vector<TesaLayer> EncodeWidths(const Shape& shape, std::vector<std::pair<int, Bitmap>> widths) {
  std::sort(widths.begin(), widths.end(), [](const auto& a, const auto& b) {
    const int64_t count_a = a.second.Count(), count_b = b.second.Count();
    return count_a != count_b ? count_a < count_b : a.first < b.first;
  });
  std::vector<TesaLayer> layers;
  Bitmap covered(shape.num_elements());
  for (const auto& [bits, kept] : widths) {
    AppendRegion(shape, kept, bits, layers);
    const bool first = !covered.Any();
    covered |= kept;
    if (first) continue;
    TesaLayer with_covered = internal::EncodeRegion(shape, covered, bits);
    if (internal::RegionBits(with_covered) < internal::RegionBits(layers.back())) {
      layers.back() = std::move(with_covered);
    }
  }
  return layers;
}

// The elements that lie in both regions. Grids over one view simply stand side by side; two residuals are expanded.
TesaLayer Intersect(const Shape& shape, const TesaLayer& a, const TesaLayer& b, int bits) {
  const bool a_thinned = a.residual.kind != TesaResidual::Kind::kNone;
  const bool b_thinned = b.residual.kind != TesaResidual::Kind::kNone;
  const bool a_whole = a.grids.empty() && !a_thinned, b_whole = b.grids.empty() && !b_thinned;
  TesaLayer result = a_whole ? b : a;
  result.bits = bits;
  if (a_whole || b_whole) return result;
  if (a.view == b.view && !(a_thinned && b_thinned)) {
    if (b_thinned) {
      result = b;
      result.bits = bits;
    }
    // A residual without a grid thins the whole view, and stays first only if there still is no grid in front of it.
    const TesaLayer& other = b_thinned ? a : b;
    if (result.residual.kind != TesaResidual::Kind::kNone && result.grids.empty()) {
      result.grids.push_back({result.view.dims(), Bitmap(1, true)});
    }
    for (const TesaGrid& grid : other.grids) {
      const size_t first = result.residual.kind == TesaResidual::Kind::kNone ? 0 : 1;
      auto same = std::find_if(result.grids.begin() + static_cast<int64_t>(std::min(first, result.grids.size())),
                               result.grids.end(), [&](const TesaGrid& g) { return g.block == grid.block; });
      if (same == result.grids.end()) {
        result.grids.push_back(grid);
      } else {
        same->cells &= grid.cells;
      }
    }
    return result;
  }
  Bitmap kept = internal::DecodeRegion(a);
  kept &= internal::DecodeRegion(b);
  return internal::EncodeRegion(shape, kept, bits);
}

}  // namespace

Attribute::Attribute(Shape shape, std::vector<TesaLayer> layers)
    : shape_(std::move(shape)), layers_(std::move(layers)) {
  if (layers_.size() == 1) {
    num_kept_ = internal::CountRegion(layers_[0]);
  } else if (!layers_.empty()) {
    num_kept_ = KeptBitmap().Count();
  }
}

Attribute Attribute::Dense(const Shape& shape, int bits) {
  TES_CHECK(bits >= 0 && bits <= kMaxBits, bits);
  if (bits == 0 || shape.num_elements() == 0) return Attribute(shape, {});
  return Attribute(shape, {{.bits = bits, .view = shape, .grids = {}, .residual = {}}});
}

Attribute Attribute::FromBits(const Shape& shape, std::span<const uint8_t> bits) {
  TES_CHECK(static_cast<int64_t>(bits.size()) == shape.num_elements(), bits.size(), " widths for ", shape);
  std::array<bool, kMaxBits + 1> occurs{};
  for (uint8_t b : bits) {
    TES_CHECK(b <= kMaxBits, "width ", static_cast<int>(b));
    occurs[b] = true;
  }
  std::vector<std::pair<int, Bitmap>> widths;
  std::vector<uint8_t> equal(bits.size());
  for (int width = 1; width <= kMaxBits; ++width) {
    if (!occurs[width]) continue;
    for (size_t i = 0; i < bits.size(); ++i) equal[i] = bits[i] == width;
    widths.emplace_back(width, Bitmap::FromBytes(equal));
  }
  return Attribute(shape, EncodeWidths(shape, std::move(widths)));
}

Attribute Attribute::FromKept(const Shape& shape, std::span<const uint8_t> kept, int bits) {
  return FromKept(shape, Bitmap::FromBytes(kept), bits);
}

Attribute Attribute::FromKept(const Shape& shape, const Bitmap& kept, int bits) {
  TES_CHECK(kept.size() == shape.num_elements() && bits >= 0 && bits <= kMaxBits, kept.size(), " bits for ", shape);
  std::vector<TesaLayer> layers;
  if (bits != 0) AppendRegion(shape, kept, bits, layers);
  return Attribute(shape, std::move(layers));
}

Attribute Attribute::FromZeros(const Tensor& tensor) {
  return FromKept(tensor.shape(), NonZeros(tensor), TypeInfo(tensor.dtype()).bits);
}

Attribute Attribute::FromGrid(const Shape& shape, std::vector<int64_t> block, Bitmap cells, int bits) {
  if (!cells.Any()) return Dense(shape, 0);
  TesaLayer layer = {.bits = bits, .view = shape, .grids = {{std::move(block), std::move(cells)}}, .residual = {}};
  const Status status = internal::CheckRegion(layer, shape.num_elements());
  TES_CHECK(status.ok(), status);
  if (layer.grids[0].cells.All()) layer.grids.clear();
  return Attribute(shape, {std::move(layer)});
}

StatusOr<Attribute> Attribute::FromLayers(const Shape& shape, std::vector<TesaLayer> layers) {
  RETURN_IF_ERROR(CheckShape(DType::kU8, shape, kMaxElements).WithContext("attribute"));
  if (layers.size() > kMaxLayers) {
    return Error(ErrorCode::kLimitExceeded, "attribute: expected at most ", kMaxLayers, " layers, found ",
                 layers.size());
  }
  for (const TesaLayer& layer : layers) {
    RETURN_IF_ERROR(internal::CheckRegion(layer, shape.num_elements()).WithContext("attribute"));
  }
  return Attribute(shape, std::move(layers));
}

int Attribute::bits(int64_t i) const {
  for (const TesaLayer& layer : layers_) {
    if (internal::RegionContains(layer, i)) return layer.bits;
  }
  return 0;
}

std::vector<uint8_t> Attribute::Bits() const {
  std::vector<uint8_t> bits(num_elements(), 0);
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) {
    const Bitmap kept = internal::DecodeRegion(*layer);
    for (int64_t i = 0; i < kept.size(); ++i) {
      if (i % 64 == 0 && kept.words()[i / 64] == 0) {
        i += 63;
      } else if (kept[i]) {
        bits[i] = static_cast<uint8_t>(layer->bits);
      }
    }
  }
  return bits;
}

Bitmap Attribute::KeptBitmap() const {
  if (layers_.empty()) return Bitmap(num_elements());
  Bitmap kept = internal::DecodeRegion(layers_[0]);
  for (size_t k = 1; k < layers_.size(); ++k) kept |= internal::DecodeRegion(layers_[k]);
  return kept;
}

Bitmap Attribute::BitmapOf(int bits) const {
  if (bits == 0) return Bitmap(num_elements(), true).Remove(KeptBitmap());
  Bitmap result(num_elements());
  // From the last layer to the first, each overrides what came before.
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) {
    const Bitmap region = internal::DecodeRegion(*layer);
    if (layer->bits == bits) {
      result |= region;
    } else {
      result.Remove(region);
    }
  }
  return result;
}

double Attribute::density() const {
  const int64_t count = num_elements();
  return count == 0 ? 1 : static_cast<double>(num_kept_) / static_cast<double>(count);
}

std::vector<int> Attribute::Widths() const {
  std::vector<int> widths;
  Bitmap covered(num_elements());
  for (const TesaLayer& layer : layers_) {
    Bitmap region = internal::DecodeRegion(layer);
    if (region.Remove(covered).Any()) widths.push_back(layer.bits);
    covered |= region;
  }
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  return widths;
}

int64_t Attribute::byte_size() const {
  int64_t bytes = 0;
  for (const TesaLayer& layer : layers_) {
    constexpr int64_t kPerGrid = 48;  // what the structures themselves take, roughly
    bytes += (internal::RegionBits(layer) + 7) / 8 + kPerGrid * static_cast<int64_t>(layer.grids.size() + 1);
  }
  return bytes;
}

Attribute Attribute::Reshaped(const Shape& shape) const {
  TES_CHECK(shape.num_elements() == num_elements(), shape_, " to ", shape);
  Attribute result = *this;
  result.shape_ = shape;
  return result;
}

Attribute Attribute::Transposed(std::span<const int> perm) const {
  TES_CHECK(static_cast<int>(perm.size()) == shape_.rank(), perm.size(), " axes for ", shape_);
  Shape shape = shape_;
  for (int d = 0; d < shape.rank(); ++d) shape[d] = shape_[perm[d]];
  std::vector<TesaLayer> layers;
  for (const TesaLayer& layer : layers_) {
    std::optional<TesaLayer> moved = internal::TransposedLayer(layer, shape_, perm);
    if (!moved) {
      const Bitmap kept = internal::TransposedBits(shape_, internal::DecodeRegion(layer), perm);
      moved = internal::EncodeRegion(shape, kept, layer.bits);
    }
    layers.push_back(*std::move(moved));
  }
  return Attribute(std::move(shape), std::move(layers));
}

Attribute Attribute::Sliced(std::span<const int64_t> start, std::span<const int64_t> size) const {
  const int rank = shape_.rank();
  TES_CHECK(static_cast<int>(start.size()) == rank && static_cast<int>(size.size()) == rank, "slice of ", shape_);
  const Shape shape(std::vector<int64_t>(size.begin(), size.end()));
  for (int d = 0; d < rank; ++d) TES_CHECK(start[d] >= 0 && size[d] >= 0 && start[d] + size[d] <= shape_[d], shape);
  if (shape.num_elements() == 0) return Dense(shape, 0);
  std::vector<TesaLayer> layers;
  for (const TesaLayer& layer : layers_) {
    std::optional<TesaLayer> part = internal::SlicedLayer(layer, shape_, start, size);
    if (part) {
      if (internal::CountRegion(*part) > 0) layers.push_back(*std::move(part));
    } else {
      AppendRegion(shape, SlicedBits(shape_, internal::DecodeRegion(layer), start, shape), layer.bits, layers);
    }
  }
  return Attribute(shape, std::move(layers));
}

Tensor Attribute::ApplyTo(const Tensor& tensor) const {
  TES_CHECK(tensor.shape() == shape_, "attribute of ", shape_, " on ", tensor.shape());
  if (keeps_all()) return tensor;
  Tensor result = tensor;
  const Bitmap kept = KeptBitmap();
  std::span<std::byte> bytes = result.mutable_bytes();
  const int bits = TypeInfo(tensor.dtype()).bits;
  for (int64_t i = 0; i < kept.size(); ++i) {
    if (kept[i]) continue;
    if (bits >= 8) {
      std::memset(bytes.data() + i * (bits / 8), 0, bits / 8);
    } else {
      result.SetInt(i, 0);
    }
  }
  return result;
}

bool operator==(const Attribute& a, const Attribute& b) {
  if (a.shape_ != b.shape_ || a.num_kept_ != b.num_kept_) return false;
  return a.layers_ == b.layers_ || a.Bits() == b.Bits();
}

// A pair of layers holds what lies in both; in the order of a, then b, the first pair that contains an element is that
// of its own layers. For a Join what only one side keeps follows behind all pairs.
Attribute Attribute::Combine(const Attribute& a, const Attribute& b, bool join) {
  TES_CHECK(a.shape_ == b.shape_, a.shape_, " with ", b.shape_);
  if (a.layers_ == b.layers_) return a;
  std::vector<TesaLayer> layers;
  if (a.num_elements() > kSmall && a.layers_.size() * b.layers_.size() <= kManyLayers) {
    for (const TesaLayer& la : a.layers_) {
      for (const TesaLayer& lb : b.layers_) {
        const int bits = join ? std::max(la.bits, lb.bits) : std::min(la.bits, lb.bits);
        TesaLayer both = Intersect(a.shape_, la, lb, bits);
        const bool any = both.grids.empty() || internal::CountRegion(both) > 0;
        if (any) layers.push_back(std::move(both));
      }
    }
    if (join) {
      layers.insert(layers.end(), a.layers_.begin(), a.layers_.end());
      layers.insert(layers.end(), b.layers_.begin(), b.layers_.end());
    }
    if (layers.size() <= kManyLayers) return Attribute(a.shape_, std::move(layers));
  }
  std::vector<uint8_t> bits = a.Bits();
  const std::vector<uint8_t> other = b.Bits();
  for (size_t i = 0; i < bits.size(); ++i) {
    bits[i] = join ? std::max(bits[i], other[i]) : std::min(bits[i], other[i]);
  }
  return FromBits(a.shape_, bits);
}

Attribute Meet(const Attribute& a, const Attribute& b) { return Attribute::Combine(a, b, false); }
Attribute Join(const Attribute& a, const Attribute& b) { return Attribute::Combine(a, b, true); }

Bitmap NonZeros(const Tensor& tensor) {
  const int64_t count = tensor.num_elements();
  Bitmap kept(count);
  // A word of results at a time, first as bytes, which the compiler compares in vectors; the float test `x != 0` is
  // true of NaN and false of -0, as it should be.
  const auto fill = [&](auto is_kept) {
    std::span<uint64_t> words = kept.mutable_words();
    for (int64_t i = 0; i < count; i += 64) {
      uint8_t bytes[64] = {};
      if (i + 64 <= count) {
        for (int64_t k = 0; k < 64; ++k) bytes[k] = is_kept(i + k);
      } else {
        for (int64_t k = 0; i + k < count; ++k) bytes[k] = is_kept(i + k);
      }
      uint64_t word = 0;
      for (int k = 0; k < 64; k += 8) {
        uint64_t eight;
        std::memcpy(&eight, bytes + k, 8);
        word |= (eight * 0x0102040810204080 >> 56) << k;  // bitmap.cc says how
      }
      words[i / 64] = word;
    }
  };
  if (tensor.dtype() == DType::kF32) {
    const float* values = tensor.data<float>().data();
    fill([&](int64_t i) { return values[i] != 0; });
  } else if (tensor.dtype() == DType::kI8) {
    const int8_t* values = tensor.data<int8_t>().data();
    fill([&](int64_t i) { return values[i] != 0; });
  } else if (IsFloat(tensor.dtype())) {
    fill([&](int64_t i) { return tensor.Get(i) != 0; });
  } else {
    fill([&](int64_t i) { return tensor.GetInt(i) != 0; });
  }
  return kept;
}

}  // namespace tessera
