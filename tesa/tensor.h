// Tensor: a dense, row-major host tensor, a value with shared immutable storage.
//
//   Tensor t = Tensor::FromVector<float>({2, 3}, {1, 2, 3, 4, 5, 6});
//   t.Get(4) == 5.0;                         // any type, as double
//   std::span<const float> values = t.data<float>();
//
// Copies share bytes; mutable_data() first makes the bytes this tensor's own. Storage is 64-byte aligned, or a view
// into memory that `owner` keeps alive (a mapped model file). Thread-compatible. Tested by tensor_test.cc.
#ifndef TESSERA_TESA_TENSOR_H_
#define TESSERA_TESA_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tesa/types.h"

namespace tessera {

// The DType of a C++ element type; defined for the types that have one (float16 and smaller go through Get/Set).
template <typename T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<double>() {
  return DType::kF64;
}
template <>
constexpr DType DTypeOf<float>() {
  return DType::kF32;
}
template <>
constexpr DType DTypeOf<int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType DTypeOf<int16_t>() {
  return DType::kI16;
}
template <>
constexpr DType DTypeOf<int8_t>() {
  return DType::kI8;
}
template <>
constexpr DType DTypeOf<uint64_t>() {
  return DType::kU64;
}
template <>
constexpr DType DTypeOf<uint32_t>() {
  return DType::kU32;
}
template <>
constexpr DType DTypeOf<uint16_t>() {
  return DType::kU16;
}
template <>
constexpr DType DTypeOf<uint8_t>() {
  return DType::kU8;
}
template <>
constexpr DType DTypeOf<bool>() {
  return DType::kBool;
}

class Tensor {
 public:
  // An f32 scalar 0.
  Tensor();
  // Zero-filled.
  Tensor(DType dtype, Shape shape);
  // A view of `bytes`, which live as long as `owner`. bytes.size() >= ByteSize(dtype, elements).
  static Tensor View(DType dtype, Shape shape, std::span<const std::byte> bytes, std::shared_ptr<const void> owner);
  template <typename T>
  static Tensor FromVector(Shape shape, const std::vector<T>& values);
  // Every element = value, converted as Set does.
  static Tensor Full(DType dtype, Shape shape, double value);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  TensorType type() const { return {dtype_, shape_}; }
  int64_t num_elements() const { return num_elements_; }
  int64_t byte_size() const { return ByteSize(dtype_, num_elements_); }

  std::span<const std::byte> bytes() const { return {data_.get(), static_cast<size_t>(byte_size())}; }
  std::span<std::byte> mutable_bytes();
  template <typename T>
  std::span<const T> data() const {
    TES_CHECK(DTypeOf<T>() == dtype_, "tensor holds ", dtype_);
    return {reinterpret_cast<const T*>(data_.get()), static_cast<size_t>(num_elements_)};
  }
  template <typename T>
  std::span<T> mutable_data() {
    TES_CHECK(DTypeOf<T>() == dtype_, "tensor holds ", dtype_);
    return {reinterpret_cast<T*>(mutable_bytes().data()), static_cast<size_t>(num_elements_)};
  }

  // Element `i` in row-major order, of any type. 64-bit integers lose low bits beyond 2^53; GetInt does not.
  double Get(int64_t i) const;
  int64_t GetInt(int64_t i) const;  // floats are truncated toward zero
  // Floats round to nearest even; integers saturate (SetInt wraps); bool is value != 0.
  void Set(int64_t i, double value);
  void SetInt(int64_t i, int64_t value);

  // The same bytes under another shape with as many elements.
  Tensor Reshaped(Shape shape) const;
  // Element-wise conversion with the rules of Get and Set.
  Tensor Cast(DType dtype) const;

  // Same type, shape and bytes.
  friend bool operator==(const Tensor& a, const Tensor& b);

 private:
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t num_elements_ = 1;
  std::shared_ptr<const std::byte> data_;
  bool owned_ = false;  // data_ was allocated by a Tensor and is writable when it is not shared
};

// Rounds `value` to what `dtype` (a float type) can hold; round to nearest even, overflow to infinity
// (f8e4m3, which has none, saturates to 448).
double RoundToFloat(DType dtype, double value);

template <typename T>
Tensor Tensor::FromVector(Shape shape, const std::vector<T>& values) {
  Tensor tensor(DTypeOf<T>(), std::move(shape));
  TES_CHECK(static_cast<int64_t>(values.size()) == tensor.num_elements(), "values ", values.size());
  auto out = tensor.mutable_data<T>();
  for (size_t i = 0; i < out.size(); ++i) out[i] = values[i];
  return tensor;
}

}  // namespace tessera

#endif  // TESSERA_TESA_TENSOR_H_
