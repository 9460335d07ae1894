#include "tesa/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

namespace tessera {
namespace {

constexpr size_t kAlignment = 64;

std::shared_ptr<std::byte> Allocate(int64_t size) {
  // One spare vector keeps whole-vector reads of the tail inside the allocation.
  const size_t rounded = (static_cast<size_t>(size) + 2 * kAlignment - 1) / kAlignment * kAlignment;
  auto* bytes = static_cast<std::byte*>(::operator new(rounded, std::align_val_t(kAlignment)));
  std::memset(bytes, 0, rounded);
  return std::shared_ptr<std::byte>(bytes, [](std::byte* p) { ::operator delete(p, std::align_val_t(kAlignment)); });
}

// A small binary float format: sign, `exponent_bits`, `mantissa_bits`.
struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
  bool finite_only;  // f8e4m3 (the "fn" variant): no infinity, and only the all-ones pattern is NaN
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

FloatFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF16: return {5, 10, false};
    case DType::kBF16: return {8, 7, false};
    case DType::kF8E4M3: return {4, 3, true};
    default: return {5, 2, false};  // f8e5m2
  }
}

double DecodeSmallFloat(FloatFormat format, uint32_t bits) {
  const int total = 1 + format.exponent_bits + format.mantissa_bits;
  const double sign = (bits >> (total - 1)) & 1 ? -1.0 : 1.0;
  const uint32_t exponent_mask = (1u << format.exponent_bits) - 1;
  const uint32_t exponent = (bits >> format.mantissa_bits) & exponent_mask;
  const uint32_t mantissa_mask = (1u << format.mantissa_bits) - 1;
  const uint32_t mantissa = bits & mantissa_mask;
  if (exponent == exponent_mask) {
    if (format.finite_only) {
      if (mantissa == mantissa_mask) return std::numeric_limits<double>::quiet_NaN();
    } else {
      return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    }
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - format.bias() - format.mantissa_bits);
  return sign *
         std::ldexp(mantissa + mantissa_mask + 1, static_cast<int>(exponent) - format.bias() - format.mantissa_bits);
}

uint32_t EncodeSmallFloat(FloatFormat format, double value) {
  const int total = 1 + format.exponent_bits + format.mantissa_bits;
  const uint32_t sign = std::signbit(value) ? 1u << (total - 1) : 0;
  const uint32_t exponent_mask = (1u << format.exponent_bits) - 1;
  const uint32_t mantissa_mask = (1u << format.mantissa_bits) - 1;
  const uint32_t infinity = exponent_mask << format.mantissa_bits;
  if (std::isnan(value)) {
    return sign | infinity | (format.finite_only ? mantissa_mask : 1u << (format.mantissa_bits - 1));
  }
  const uint32_t overflow = format.finite_only ? infinity | (mantissa_mask - 1) : infinity;
  if (std::isinf(value)) return sign | overflow;
  value = std::fabs(value);
  if (value == 0) return sign;
  int exponent = 0;
  std::frexp(value, &exponent);  // value = m * 2^exponent, 0.5 <= m < 1
  const int min_exponent = 1 - format.bias();
  const int unit = std::max(exponent - 1, min_exponent) - format.mantissa_bits;
  // Units in the last place, rounded half to even; may carry into the exponent, which the addition below absorbs.
  const double units = std::nearbyint(std::ldexp(value, -unit));
  const uint32_t implicit = 1u << format.mantissa_bits;
  if (units < implicit) return sign | static_cast<uint32_t>(units);  // subnormal
  const uint32_t biased = static_cast<uint32_t>(unit + format.mantissa_bits + format.bias());
  const double magnitude = (static_cast<double>(biased) - 1) * implicit + units;
  if (magnitude > overflow) return sign | overflow;
  return sign | static_cast<uint32_t>(magnitude);
}

template <typename T>
T Load(const std::byte* data, int64_t i) {
  T value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void Store(std::byte* data, int64_t i, T value) {
  std::memcpy(data + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

int LoadNibble(const std::byte* data, int64_t i) { return (std::to_integer<int>(data[i / 2]) >> (i % 2 * 4)) & 15; }

void StoreNibble(std::byte* data, int64_t i, int value) {
  const int shift = i % 2 * 4;
  data[i / 2] = static_cast<std::byte>((std::to_integer<int>(data[i / 2]) & ~(15 << shift)) | ((value & 15) << shift));
}

int64_t SaturateToInt(DType dtype, double value) {
  if (std::isnan(value)) return 0;
  value = std::trunc(value);
  if (dtype == DType::kU64) {
    if (value <= 0) return 0;
    return value >= 18446744073709551615.0 ? -1 : static_cast<int64_t>(static_cast<uint64_t>(value));
  }
  if (value <= static_cast<double>(MinInt(dtype))) return MinInt(dtype);
  if (value >= static_cast<double>(MaxInt(dtype))) return MaxInt(dtype);
  return static_cast<int64_t>(value);
}

}  // namespace

Tensor::Tensor() : Tensor(DType::kF32, Shape()) {}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), num_elements_(shape_.num_elements()), owned_(true) {
  data_ = Allocate(byte_size());
}

Tensor Tensor::View(DType dtype, Shape shape, std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.shape_ = std::move(shape);
  tensor.num_elements_ = tensor.shape_.num_elements();
  TES_CHECK(static_cast<int64_t>(bytes.size()) >= tensor.byte_size(), "view of ", bytes.size(), " bytes");
  tensor.data_ = std::shared_ptr<const std::byte>(std::move(owner), bytes.data());
  tensor.owned_ = false;
  return tensor;
}

Tensor Tensor::Full(DType dtype, Shape shape, double value) {
  Tensor tensor(dtype, std::move(shape));
  for (int64_t i = 0; i < tensor.num_elements(); ++i) tensor.Set(i, value);
  return tensor;
}

std::span<std::byte> Tensor::mutable_bytes() {
  if (!owned_ || data_.use_count() > 1) {
    std::shared_ptr<std::byte> copy = Allocate(byte_size());
    std::memcpy(copy.get(), data_.get(), byte_size());
    data_ = std::move(copy);
    owned_ = true;
  }
  return {const_cast<std::byte*>(data_.get()), static_cast<size_t>(byte_size())};
}

double Tensor::Get(int64_t i) const {
  const std::byte* p = data_.get();
  switch (dtype_) {
    case DType::kF64: return Load<double>(p, i);
    case DType::kF32: return Load<float>(p, i);
    case DType::kF16:
    case DType::kBF16: return DecodeSmallFloat(FormatOf(dtype_), Load<uint16_t>(p, i));
    case DType::kF8E4M3:
    case DType::kF8E5M2: return DecodeSmallFloat(FormatOf(dtype_), Load<uint8_t>(p, i));
    case DType::kU64: return static_cast<double>(Load<uint64_t>(p, i));
    default: return static_cast<double>(GetInt(i));
  }
}

int64_t Tensor::GetInt(int64_t i) const {
  const std::byte* p = data_.get();
  switch (dtype_) {
    case DType::kI64:
    case DType::kU64: return Load<int64_t>(p, i);
    case DType::kI32: return Load<int32_t>(p, i);
    case DType::kI16: return Load<int16_t>(p, i);
    case DType::kI8: return Load<int8_t>(p, i);
    case DType::kI4: return (LoadNibble(p, i) ^ 8) - 8;
    case DType::kU32: return Load<uint32_t>(p, i);
    case DType::kU16: return Load<uint16_t>(p, i);
    case DType::kU8: return Load<uint8_t>(p, i);
    case DType::kU4: return LoadNibble(p, i);
    case DType::kBool: return Load<uint8_t>(p, i) != 0;
    default: return SaturateToInt(DType::kI64, Get(i));
  }
}

void Tensor::Set(int64_t i, double value) {
  std::byte* p = mutable_bytes().data();
  switch (dtype_) {
    case DType::kF64: return Store<double>(p, i, value);
    case DType::kF32: return Store<float>(p, i, static_cast<float>(value));
    case DType::kF16:
    case DType::kBF16: return Store<uint16_t>(p, i, EncodeSmallFloat(FormatOf(dtype_), value));
    case DType::kF8E4M3:
    case DType::kF8E5M2: return Store<uint8_t>(p, i, EncodeSmallFloat(FormatOf(dtype_), value));
    case DType::kBool: return Store<uint8_t>(p, i, value != 0);
    default: return SetInt(i, SaturateToInt(dtype_, value));
  }
}

void Tensor::SetInt(int64_t i, int64_t value) {
  std::byte* p = mutable_bytes().data();
  switch (dtype_) {
    case DType::kI64:
    case DType::kU64: return Store<int64_t>(p, i, value);
    case DType::kI32:
    case DType::kU32: return Store<uint32_t>(p, i, static_cast<uint32_t>(value));
    case DType::kI16:
    case DType::kU16: return Store<uint16_t>(p, i, static_cast<uint16_t>(value));
    case DType::kI8:
    case DType::kU8: return Store<uint8_t>(p, i, static_cast<uint8_t>(value));
    case DType::kI4:
    case DType::kU4: return StoreNibble(p, i, static_cast<int>(value & 15));
    case DType::kBool: return Store<uint8_t>(p, i, value != 0);
    default: return Set(i, static_cast<double>(value));
  }
}

Tensor Tensor::Reshaped(Shape shape) const {
  TES_CHECK(shape.num_elements() == num_elements_, shape_, " to ", shape);
  Tensor tensor = *this;
  tensor.shape_ = std::move(shape);
  return tensor;
}

Tensor Tensor::Cast(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor tensor(dtype, shape_);
  const bool integers = !IsFloat(dtype) && !IsFloat(dtype_);
  for (int64_t i = 0; i < num_elements_; ++i) {
    if (integers) {
      tensor.SetInt(i, GetInt(i));
    } else {
      tensor.Set(i, Get(i));
    }
  }
  return tensor;
}

bool operator==(const Tensor& a, const Tensor& b) {
  if (a.dtype_ != b.dtype_ || a.shape_ != b.shape_) return false;
  return a.data_ == b.data_ || std::memcmp(a.data_.get(), b.data_.get(), a.byte_size()) == 0;
}

double RoundToFloat(DType dtype, double value) {
  switch (dtype) {
    case DType::kF64: return value;
    case DType::kF32: return static_cast<float>(value);
    default: return DecodeSmallFloat(FormatOf(dtype), EncodeSmallFloat(FormatOf(dtype), value));
  }
}

}  // namespace tessera
