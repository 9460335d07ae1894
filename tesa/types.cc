#include "tesa/types.h"

#include <limits>

namespace tessera {
namespace {

constexpr DTypeInfo kTypes[] = {
#define TES_DTYPE(name, text, bits, kind) {text, bits, DTypeKind::k##kind},
#include "tesa/dtypes.def"
#undef TES_DTYPE
};

constexpr int kMaxRank = 16;

}  // namespace

const DTypeInfo& TypeInfo(DType type) { return kTypes[static_cast<int>(type)]; }

std::optional<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < std::size(kTypes); ++i) {
    if (kTypes[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int64_t MinInt(DType type) {
  const DTypeInfo& info = TypeInfo(type);
  if (info.kind != DTypeKind::kSigned) return 0;
  return info.bits == 64 ? std::numeric_limits<int64_t>::min() : -(int64_t{1} << (info.bits - 1));
}

int64_t MaxInt(DType type) {
  const DTypeInfo& info = TypeInfo(type);
  if (info.kind == DTypeKind::kBool) return 1;
  if (info.bits == 64) return std::numeric_limits<int64_t>::max();
  return (int64_t{1} << (info.kind == DTypeKind::kSigned ? info.bits - 1 : info.bits)) - 1;
}

std::ostream& operator<<(std::ostream& out, DType type) { return out << Name(type); }

int64_t Shape::num_elements() const {
  int64_t count = 1;
  for (int64_t dim : dims_) count *= dim;
  return count;
}

std::vector<int64_t> Shape::Strides() const {
  std::vector<int64_t> strides(dims_.size());
  int64_t stride = 1;
  for (int d = rank() - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= dims_[d];
  }
  return strides;
}

std::string Shape::ToString() const {
  std::string text = "[";
  for (size_t i = 0; i < dims_.size(); ++i) {
    if (i > 0) text += ",";
    text += std::to_string(dims_[i]);
  }
  return text + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.ToString(); }

int64_t ByteSize(DType type, int64_t count) { return (count * TypeInfo(type).bits + 7) / 8; }

Status CheckShape(DType type, const Shape& shape, int64_t max_bytes) {
  if (shape.rank() > kMaxRank) {
    return Error(ErrorCode::kLimitExceeded, "expected at most ", kMaxRank, " dimensions, found ", shape.rank());
  }
  int64_t count = 1;
  for (int64_t dim : shape) {
    if (dim < 0) {
      return Error(ErrorCode::kShapeUnknown, "expected extents >= 0, found ", shape,
                   "; bind the unknown extent (--shape=name:…)");
    }
    // The product of the non-zero extents must stay bounded as well, or a later reshape could overflow.
    if (__builtin_mul_overflow(count, dim == 0 ? 1 : dim, &count) || count > max_bytes) {
      return Error(ErrorCode::kLimitExceeded, "a tensor ", type, shape, " is larger than the limit of ", max_bytes,
                   " bytes");
    }
  }
  if (count > max_bytes / 8 && ByteSize(type, count) > max_bytes) {
    return Error(ErrorCode::kLimitExceeded, "a tensor ", type, shape, " is larger than the limit of ", max_bytes,
                 " bytes");
  }
  return OkStatus();
}

std::optional<Shape> BroadcastShapes(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::vector<int64_t> dims(rank);
  for (int i = 0; i < rank; ++i) {
    const int64_t da = i < rank - a.rank() ? 1 : a[i - (rank - a.rank())];
    const int64_t db = i < rank - b.rank() ? 1 : b[i - (rank - b.rank())];
    if (da != db && da != 1 && db != 1) return std::nullopt;
    dims[i] = da == 1 ? db : da;
  }
  return Shape(std::move(dims));
}

std::string TensorType::ToString() const { return std::string(Name(dtype)) + shape.ToString(); }
std::ostream& operator<<(std::ostream& out, const TensorType& type) { return out << type.ToString(); }

}  // namespace tessera
