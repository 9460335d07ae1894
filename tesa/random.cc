#include "tesa/random.h"

#include <algorithm>
#include <cmath>

namespace tessera {
namespace {

constexpr int64_t kLargestInt = 1000;

// Keeps a random n of the elements first, first + stride, … (length of them).
void KeepSome(Random& random, int64_t first, int64_t stride, int length, int n, Bitmap& mask) {
  for (int p = 0; p < length && n > 0; ++p) {
    // Selection sampling (Knuth, TAOCP 2, 3.4.2 S): each subset of n is equally likely.
    if (random.Int(0, length - p - 1) >= n) continue;
    mask.Set(first + p * stride, true);
    --n;
  }
}

}  // namespace

int64_t Random::Int(int64_t low, int64_t high) {
  const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1;
  const uint64_t draw = Next();
  if (span == 0) return static_cast<int64_t>(draw);
  const uint64_t scaled = static_cast<uint64_t>(static_cast<unsigned __int128>(draw) * span >> 64);
  return static_cast<int64_t>(static_cast<uint64_t>(low) + scaled);
}

double Random::Normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  double x, y, square;
  do {
    x = Uniform(-1, 1);
    y = Uniform(-1, 1);
    square = x * x + y * y;
  } while (square >= 1 || square == 0);
  const double factor = std::sqrt(-2 * std::log(square) / square);
  spare_ = y * factor;
  has_spare_ = true;
  return x * factor;
}

Tensor RandomTensor(Random& random, const TensorType& type, double stddev) {
  if (!IsFloat(type.dtype)) {
    const int64_t low = std::max(MinInt(type.dtype), -kLargestInt), high = std::min(MaxInt(type.dtype), kLargestInt);
    Tensor tensor(type.dtype, type.shape);
    for (int64_t i = 0; i < tensor.num_elements(); ++i) tensor.SetInt(i, random.Int(low, high));
    return tensor;
  }
  Tensor tensor(type.dtype, type.shape);
  if (type.dtype == DType::kF32) {
    for (float& value : tensor.mutable_data<float>()) value = static_cast<float>(stddev * random.Normal());
    return tensor;
  }
  for (int64_t i = 0; i < tensor.num_elements(); ++i) tensor.Set(i, stddev * random.Normal());
  return tensor;
}

Tensor RandomTensorIn(Random& random, const TensorType& type, double low, double high) {
  Tensor tensor(type.dtype, type.shape);
  for (int64_t i = 0; i < tensor.num_elements(); ++i) {
    const double value = random.Uniform(low, high);
    tensor.Set(i, IsFloat(type.dtype) ? value : std::nearbyint(value));
  }
  return tensor;
}

Bitmap RandomMask(Random& random, const Shape& shape, const Pattern& pattern, double kept) {
  const int64_t count = shape.num_elements();
  const auto [rows, columns] = MatrixView(shape);
  Bitmap mask(count);
  switch (pattern.kind) {
    case PatternKind::kDense: mask = Bitmap(count, true); break;
    case PatternKind::kScattered:
      for (int64_t i = 0; i < count; ++i) mask.Set(i, random.Chance(kept));
      break;
    case PatternKind::kBlock:
      for (int64_t r = 0; r < rows; r += pattern.block[0]) {
        for (int64_t c = 0; c < columns; c += pattern.block[1]) {
          if (!random.Chance(kept)) continue;
          for (int64_t k = r; k < std::min(rows, r + pattern.block[0]); ++k) {
            mask.SetRange(k * columns + c, k * columns + std::min(columns, c + pattern.block[1]), true);
          }
        }
      }
      break;
    case PatternKind::kSlices: {
      mask = Bitmap(count, true);
      for (int axis : {pattern.axis, pattern.other_axis}) {
        if (axis < 0) continue;
        TES_CHECK(axis < shape.rank(), "axis ", axis, " of ", shape);
        Bitmap slices(shape[axis]);
        for (int64_t k = 0; k < shape[axis]; ++k) slices.Set(k, random.Chance(kept));
        const int64_t stride = shape.Strides()[axis];
        for (int64_t i = 0; i < count; i += stride) {
          if (!slices[i / stride % shape[axis]]) mask.SetRange(i, i + stride, false);
        }
      }
      break;
    }
    case PatternKind::kNm: {
      TES_CHECK(pattern.axis < shape.rank(), "axis ", pattern.axis, " of ", shape);
      const int64_t extent = shape[pattern.axis], stride = shape.Strides()[pattern.axis];
      for (int64_t i = 0; i < count; ++i) {
        const int64_t index = i / stride % extent;
        if (index % pattern.m != 0) continue;
        const int length = static_cast<int>(std::min<int64_t>(pattern.m, extent - index));
        KeepSome(random, i, stride, length, std::min(pattern.n, length), mask);
      }
      break;
    }
  }
  return mask;
}

Attribute RandomAttribute(Random& random, const Shape& shape, const Pattern& pattern, double kept, int bits) {
  return Attribute::FromKept(shape, RandomMask(random, shape, pattern, kept), bits);
}

}  // namespace tessera
