#include "runtime/tensor_map.h"

#include "base/status.h"

namespace tessera {
namespace {

constexpr size_t kMaxRank = 5;
constexpr int64_t kMaxDim = int64_t{1} << 32, kMaxStride = int64_t{1} << 40, kMaxBox = 256, kPiece = 16;
// The shared memory of a block (program.h).
constexpr int64_t kMaxBoxBytes = 227 << 10;

std::string Join(const std::vector<int64_t>& numbers) {
  std::string text;
  for (int64_t number : numbers) text += (text.empty() ? "" : "x") + std::to_string(number);
  return text;
}

}  // namespace

int64_t TensorMap::box_bytes() const {
  int64_t bytes = TypeInfo(type).bits / 8;
  for (int64_t extent : box) bytes *= extent;
  return bytes;
}

std::string TensorMapError(const TensorMap& map, int64_t bytes, int64_t align) {
  using internal::Join;
  const size_t rank = map.dims.size();
  if (rank < 1 || rank > kMaxRank) return Join("expected 1 to ", kMaxRank, " dimensions, found ", rank);
  if (map.strides.size() != rank - 1 || map.box.size() != rank) {
    return Join("expected ", rank - 1, " strides and a box of ", rank, " extents, found ", map.strides.size(), " and ",
                map.box.size());
  }
  if (TypeInfo(map.type).bits < 8) return Join("expected a type of whole bytes, found ", Name(map.type));
  const int64_t element = TypeInfo(map.type).bits / 8;
  if (align % kPiece != 0) return Join("expected a start at a multiple of ", kPiece, " bytes, found one of ", align);
  int64_t last = element - 1;  // the offset of the last byte
  for (size_t d = 0; d < rank; ++d) {
    const int64_t stride = d == 0 ? element : map.strides[d - 1];
    if (map.dims[d] < 1 || map.dims[d] > kMaxDim) {
      return Join("expected 1 to ", kMaxDim, " elements along dimension ", d, ", found ", map.dims[d]);
    }
    if (d > 0 && (stride < kPiece || stride >= kMaxStride || stride % kPiece != 0)) {
      return Join("expected a stride that is a multiple of ", kPiece, " below ", kMaxStride, ", found ", stride);
    }
    if (map.box[d] < 1 || map.box[d] > kMaxBox) {
      return Join("expected a box of 1 to ", kMaxBox, " elements along dimension ", d, ", found ", map.box[d]);
    }
    const auto reach = static_cast<__int128>(map.dims[d] - 1) * stride;
    if (reach > bytes - 1 - last) {
      return Join("its elements end outside of the argument's ", bytes, " bytes");
    }
    last += static_cast<int64_t>(reach);
  }
  const int64_t row = map.box[0] * element;
  if (row % kPiece != 0) return Join("expected rows of a box of a multiple of ", kPiece, " bytes, found ", row);
  if (map.swizzle != 0 && map.swizzle != 32 && map.swizzle != 64 && map.swizzle != 128) {
    return Join("expected a swizzle of 0, 32, 64 or 128 bytes, found ", map.swizzle);
  }
  if (map.swizzle != 0 && row > map.swizzle) {
    return Join("expected rows of a box of at most the swizzle's ", map.swizzle, " bytes, found ", row);
  }
  if (map.box_bytes() > kMaxBoxBytes) return Join("a box has ", map.box_bytes(), " bytes, more than shared memory");
  return "";
}

std::string ToString(const TensorMap& map) {
  return internal::Join(map.arg, " ", Name(map.type), " ", Join(map.dims), map.strides.empty() ? "" : " strides ",
                        Join(map.strides), " box ", Join(map.box), " swizzle ", map.swizzle);
}

}  // namespace tessera
