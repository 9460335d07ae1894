// DType and Shape: what an element is and how many there are.
//
//   Shape shape = {1, 3, 224, 224};  shape.num_elements() == 150528;
//   DType type = *ParseDType("f32");  TypeInfo(type).bits == 32;
//
// dtypes.def is the one list of element types. Values only, safe to share between threads once made.
// Tested by types_test.cc.
#ifndef TESSERA_TESA_TYPES_H_
#define TESSERA_TESA_TYPES_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace tessera {

// The types of dtypes.def: kF64, kF32, kF16, kBF16, kF8E4M3, kF8E5M2, kI64 … kU4, kBool.
enum class DType : uint8_t {
#define TES_DTYPE(name, text, bits, kind) k##name,
#include "tesa/dtypes.def"
#undef TES_DTYPE
};

enum class DTypeKind : uint8_t { kFloat, kSigned, kUnsigned, kBool };

struct DTypeInfo {
  std::string_view name;  // "f32"
  int bits;               // storage bits of one element; 4-bit types pack two to a byte, low half first
  DTypeKind kind;
};

const DTypeInfo& TypeInfo(DType type);
std::optional<DType> ParseDType(std::string_view name);
inline std::string_view Name(DType type) { return TypeInfo(type).name; }
inline bool IsFloat(DType type) { return TypeInfo(type).kind == DTypeKind::kFloat; }
inline bool IsBool(DType type) { return TypeInfo(type).kind == DTypeKind::kBool; }
// Signed or unsigned integers; not bool.
inline bool IsInteger(DType type) { return !IsFloat(type) && !IsBool(type); }
inline bool IsUnsigned(DType type) { return TypeInfo(type).kind == DTypeKind::kUnsigned; }
// Smallest and largest value of an integer type, as int64 (u64's largest is given as int64's largest).
int64_t MinInt(DType type);
int64_t MaxInt(DType type);
std::ostream& operator<<(std::ostream& out, DType type);

// Extents of a dense row-major tensor, outermost first; rank 0 is a scalar. Extents are >= 0.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(std::vector<int64_t> dims) : dims_(std::move(dims)) {}

  int rank() const { return static_cast<int>(dims_.size()); }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t& operator[](int i) { return dims_[i]; }
  const std::vector<int64_t>& dims() const { return dims_; }
  auto begin() const { return dims_.begin(); }
  auto end() const { return dims_.end(); }
  // Product of the extents; 1 for a scalar. The caller knows that it fits (CheckShape says so for foreign shapes).
  int64_t num_elements() const;
  // Row-major strides in elements.
  std::vector<int64_t> Strides() const;
  // "[1,3,224,224]".
  std::string ToString() const;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::vector<int64_t> dims_;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

// Bytes of `count` packed elements of `type`.
int64_t ByteSize(DType type, int64_t count);
// For shapes from outside: rank <= 16, no negative extent, element count and bytes below `max_bytes`, without overflow.
Status CheckShape(DType type, const Shape& shape, int64_t max_bytes = int64_t{1} << 40);
// NumPy broadcasting of two shapes, or nothing when they do not match.
std::optional<Shape> BroadcastShapes(const Shape& a, const Shape& b);

// The type of a value: element type and shape. "f32[1,1024]".
struct TensorType {
  DType dtype = DType::kF32;
  Shape shape;
  std::string ToString() const;
  friend bool operator==(const TensorType&, const TensorType&) = default;
};
std::ostream& operator<<(std::ostream& out, const TensorType& type);

// Calls `visit(index)` for each index vector of `shape` in row-major order; `index` is reused between calls.
template <typename Visit>
void ForEachIndex(const Shape& shape, Visit visit) {
  std::vector<int64_t> index(shape.rank(), 0);
  const int64_t count = shape.num_elements();
  for (int64_t n = 0; n < count; ++n) {
    visit(index);
    for (int d = shape.rank() - 1; d >= 0; --d) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
}

}  // namespace tessera

#endif  // TESSERA_TESA_TYPES_H_
