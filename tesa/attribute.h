// Attribute (TeSA, Tensor-with-Sparsity-Attribute): for every element of a tensor its bit width, 0 = pruned.
//
//   Attribute a = Attribute::FromZeros(weights);          // what is zero is pruned
//   a.kept(5);  a.bits(5);  a.density();                  // per element, and in all
//   Attribute b = Meet(a, other);                         // pruned where either is, the lower width where both keep
//
// This is the *declared* attribute, what the user's model says: pruned means absent, it contributes nothing. Elements
// are numbered row-major. It is stored compressed, never element by element: a short list of layers, each a region and
// the bit width of what is in it; the first layer that contains an element gives its width, and what no layer contains
// is pruned. A region is the elements that lie in the set cells of *every* one of its grids, thinned by at most one
// residual:
//
//   whole tensor           no grid
//   rows, columns, …       a grid whose cells span all other axes: an index set along one axis
//   blocks                 a grid of cells of the block's shape
//   anything else          residual bitmap: one bit for each element of the set cells of the first grid
//   n:m                    residual codes: which n of each m along an axis, in ceil(log2(C(m, n))) bits
//
// and may see the tensor under another shape of as many elements (a convolution's weights as a matrix). From* choose
// the smallest of these that is exact; a 4096x4096 tensor in 32x32 blocks takes 2 KiB. Values only; thread-compatible.
// Text form: text.h. Tested by attribute_test.cc.
#ifndef TESSERA_TESA_ATTRIBUTE_H_
#define TESSERA_TESA_ATTRIBUTE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "tesa/bitmap.h"
#include "tesa/tensor.h"
#include "tesa/types.h"

namespace tessera {

// Cells of extent `block` tile the layer's view from its origin; those at the far edges may hang over.
// `cells` has one bit per cell, row-major.
struct TesaGrid {
  std::vector<int64_t> block;
  Bitmap cells;
  friend bool operator==(const TesaGrid&, const TesaGrid&) = default;
};

// What thins the set cells of a layer's first grid (of the whole view, where it has none).
struct TesaResidual {
  enum class Kind : uint8_t { kNone, kBitmap, kNm };
  Kind kind = Kind::kNone;
  // kNm: of each group of m along `axis`, n are kept (of a last, shorter group: all, if it has no more than n).
  int axis = 0;
  int n = 0;
  int m = 0;
  // kBitmap: for each set cell, in order, the bits of its elements, row-major; elements beyond the edge are 0.
  // kNm: for each set cell, in order, for each group of the cell, row-major, its code of NmCodeBits(n, m) bits.
  Bitmap data;
  friend bool operator==(const TesaResidual&, const TesaResidual&) = default;
};

struct TesaLayer {
  int bits = 32;
  Shape view;  // as many elements as the tensor; usually its shape
  std::vector<TesaGrid> grids;
  TesaResidual residual;
  friend bool operator==(const TesaLayer&, const TesaLayer&) = default;
};

// ceil(log2(C(m, n))), for 0 < n < m <= kMaxNmGroup.
int NmCodeBits(int n, int m);
inline constexpr int kMaxNmGroup = 32;

class Attribute {
 public:
  static constexpr int kMaxBits = 64;
  static constexpr int kMaxLayers = 256;

  // A scalar of 32 bits.
  Attribute() : Attribute(Dense(Shape(), 32)) {}
  static Attribute Dense(const Shape& shape, int bits);
  // bits[i] <= kMaxBits is the width of element i.
  static Attribute FromBits(const Shape& shape, std::span<const uint8_t> bits);
  // kept[i] != 0: element i is kept, at `bits`.
  static Attribute FromKept(const Shape& shape, std::span<const uint8_t> kept, int bits);
  static Attribute FromKept(const Shape& shape, const Bitmap& kept, int bits);
  // The sparsity that is found in a tensor: exact zeros are pruned (-0 too; NaN is kept), the rest has the type's
  // width.
  static Attribute FromZeros(const Tensor& tensor);
  // The elements of the set cells of one grid, without expanding it. One extent of `block` per axis of `shape`.
  static Attribute FromGrid(const Shape& shape, std::vector<int64_t> block, Bitmap cells, int bits);
  // For layers from outside (files, text): everything that TesaLayer and its parts promise is checked.
  static StatusOr<Attribute> FromLayers(const Shape& shape, std::vector<TesaLayer> layers);

  const Shape& shape() const { return shape_; }
  std::span<const TesaLayer> layers() const { return layers_; }
  int64_t num_elements() const { return shape_.num_elements(); }

  // Of element i, row-major. Each call walks the layers: for loops take Bits() or KeptBitmap().
  int bits(int64_t i) const;
  bool kept(int64_t i) const { return bits(i) != 0; }
  std::vector<uint8_t> Bits() const;
  Bitmap KeptBitmap() const;
  // The elements of exactly this width; 0: the pruned ones.
  Bitmap BitmapOf(int bits) const;

  int64_t num_kept() const { return num_kept_; }
  // num_kept / num_elements; 1 for an empty tensor.
  double density() const;
  // The widths that occur among kept elements, ascending.
  std::vector<int> Widths() const;
  // Nothing is pruned.
  bool keeps_all() const { return num_kept_ == num_elements(); }
  // Bytes of the compressed form.
  int64_t byte_size() const;

  // The same elements under another shape with as many.
  Attribute Reshaped(const Shape& shape) const;
  // Result axis d is axis perm[d] of this.
  Attribute Transposed(std::span<const int> perm) const;
  // The elements start[d] … start[d] + size[d] - 1 of each axis d.
  Attribute Sliced(std::span<const int64_t> start, std::span<const int64_t> size) const;

  // `tensor` (of this shape) with +0 wherever it is pruned.
  Tensor ApplyTo(const Tensor& tensor) const;

  // Equal shape and equal width of every element, however stored.
  friend bool operator==(const Attribute& a, const Attribute& b);
  // Pruned where either is pruned, else the lower width: what holds of a value that both describe.
  friend Attribute Meet(const Attribute& a, const Attribute& b);
  // Pruned where both are, else the larger width: what serves two readers.
  friend Attribute Join(const Attribute& a, const Attribute& b);

 private:
  Attribute(Shape shape, std::vector<TesaLayer> layers);
  static Attribute Combine(const Attribute& a, const Attribute& b, bool join);

  Shape shape_;
  std::vector<TesaLayer> layers_;
  int64_t num_kept_ = 0;
};

Attribute Meet(const Attribute& a, const Attribute& b);
Attribute Join(const Attribute& a, const Attribute& b);

// Where `tensor` is not zero: bit i is set when element i != 0 (NaN counts as not zero).
Bitmap NonZeros(const Tensor& tensor);

}  // namespace tessera

#endif  // TESSERA_TESA_ATTRIBUTE_H_
