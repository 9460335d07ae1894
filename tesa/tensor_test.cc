// Tests Tensor: sharing and views, and every conversion of the small types against formulae of their own or the
// compiler's.
#include "tesa/tensor.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// The value of a pattern of bits, from the definition of each format: sign, exponent, fraction.
double Meaning(DType dtype, uint32_t bits) {
  int exponent_bits = 0, fraction_bits = 0;
  switch (dtype) {
    case DType::kF16: exponent_bits = 5, fraction_bits = 10; break;
    case DType::kBF16: exponent_bits = 8, fraction_bits = 7; break;
    case DType::kF8E4M3: exponent_bits = 4, fraction_bits = 3; break;
    default: exponent_bits = 5, fraction_bits = 2; break;
  }
  const int fraction = static_cast<int>(bits % (1u << fraction_bits));
  const int exponent = static_cast<int>(bits >> fraction_bits) % (1 << exponent_bits);
  const int top = (1 << exponent_bits) - 1;
  const double sign = bits >> (exponent_bits + fraction_bits) ? -1 : 1;
  const double share = static_cast<double>(fraction) / static_cast<double>(1 << fraction_bits);
  const int bias = top / 2;
  if (dtype == DType::kF8E4M3) {
    if (exponent == top && fraction == 7) return std::nan("");
  } else if (exponent == top) {
    return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  }
  if (exponent == 0) return sign * share * std::pow(2.0, 1 - bias);
  return sign * (1 + share) * std::pow(2.0, exponent - bias);
}

constexpr DType kSmallFloats[] = {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2};

Tensor OneOf(DType dtype, uint32_t bits) {
  Tensor tensor(dtype, Shape());
  std::memcpy(tensor.mutable_bytes().data(), &bits, TypeInfo(dtype).bits / 8);
  return tensor;
}

uint32_t BitsOf(const Tensor& tensor) {
  uint32_t bits = 0;
  std::memcpy(&bits, tensor.bytes().data(), tensor.byte_size());
  return bits;
}

TEST(SmallFloats, EveryPatternHasItsMeaningAndComesBack) {
  for (DType dtype : kSmallFloats) {
    for (uint32_t bits = 0; bits < 1u << TypeInfo(dtype).bits; ++bits) {
      const Tensor tensor = OneOf(dtype, bits);
      const double expected = Meaning(dtype, bits), value = tensor.Get(0);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(value)) << dtype << " " << bits;
        continue;
      }
      ASSERT_EQ(value, expected) << dtype << " " << bits;
      ASSERT_EQ(std::signbit(value), std::signbit(expected)) << dtype << " " << bits;
      Tensor again(dtype, Shape());
      again.Set(0, value);
      ASSERT_EQ(BitsOf(again), bits) << dtype << " " << value;
    }
  }
}

// Between each two neighbours: just below the middle, the middle (to the even one), just above it.
TEST(SmallFloats, RoundToNearestEven) {
  for (DType dtype : kSmallFloats) {
    const uint32_t half = 1u << (TypeInfo(dtype).bits - 1);
    for (uint32_t bits = 0; bits + 1 < half; ++bits) {
      const double low = Meaning(dtype, bits), high = Meaning(dtype, bits + 1);
      if (!std::isfinite(low) || !std::isfinite(high)) continue;
      const double middle = (low + high) / 2;  // exact: one bit more
      const double even = bits % 2 == 0 ? low : high;
      for (double sign : {1.0, -1.0}) {
        ASSERT_EQ(RoundToFloat(dtype, sign * middle), sign * even) << dtype << " " << middle;
        ASSERT_EQ(RoundToFloat(dtype, sign * std::nextafter(middle, 0)), sign * low) << dtype << " " << middle;
        ASSERT_EQ(RoundToFloat(dtype, sign * std::nextafter(middle, HUGE_VAL)), sign * high) << dtype << " " << middle;
      }
    }
  }
}

TEST(SmallFloats, Overflow) {
  EXPECT_EQ(RoundToFloat(DType::kF16, 65519.9), 65504);
  EXPECT_EQ(RoundToFloat(DType::kF16, 65520), HUGE_VAL);
  EXPECT_EQ(RoundToFloat(DType::kF16, -1e300), -HUGE_VAL);
  EXPECT_EQ(RoundToFloat(DType::kF8E5M2, 61440), HUGE_VAL);
  EXPECT_EQ(RoundToFloat(DType::kF8E5M2, 57344), 57344);
  EXPECT_EQ(RoundToFloat(DType::kF8E4M3, 1e9), 448);
  EXPECT_EQ(RoundToFloat(DType::kF8E4M3, -HUGE_VAL), -448);
  EXPECT_EQ(RoundToFloat(DType::kBF16, 3.4e38), HUGE_VAL);
  for (DType dtype : kSmallFloats) {
    EXPECT_TRUE(std::isnan(RoundToFloat(dtype, NAN))) << dtype;
    EXPECT_EQ(RoundToFloat(dtype, 1e-300), 0);
    EXPECT_TRUE(std::signbit(RoundToFloat(dtype, -1e-300)));
  }
}

#ifdef __FLT16_MANT_DIG__
TEST(SmallFloats, HalfIsTheCompilersHalf) {
  Random random(1);
  for (int k = 0; k < 2000000; ++k) {
    // Any float, with exponents mostly where halves live.
    const double value = std::ldexp(random.Uniform(-2, 2), static_cast<int>(random.Int(-30, 18)));
    const _Float16 half = static_cast<_Float16>(value);
    ASSERT_EQ(RoundToFloat(DType::kF16, value), static_cast<double>(half)) << value;
  }
}
#endif

TEST(Tensor, IntegersSaturateOrWrap) {
  Tensor tensor(DType::kI8, {1});
  tensor.Set(0, 300.7);
  EXPECT_EQ(tensor.GetInt(0), 127);
  tensor.Set(0, -1e30);
  EXPECT_EQ(tensor.GetInt(0), -128);
  tensor.Set(0, -2.9);
  EXPECT_EQ(tensor.GetInt(0), -2);
  tensor.Set(0, NAN);
  EXPECT_EQ(tensor.GetInt(0), 0);
  tensor.SetInt(0, 130);
  EXPECT_EQ(tensor.GetInt(0), -126);
  Tensor wide(DType::kU64, {1});
  wide.Set(0, 1e30);
  EXPECT_EQ(wide.Get(0), 18446744073709551616.0);
  EXPECT_EQ(wide.GetInt(0), -1);
  wide.Set(0, -5);
  EXPECT_EQ(wide.GetInt(0), 0);
  Tensor flag(DType::kBool, {2});
  flag.Set(1, 0.5);
  EXPECT_EQ(flag.Get(0), 0);
  EXPECT_EQ(flag.Get(1), 1);
}

TEST(Tensor, NibblesDoNotDisturbTheirNeighbours) {
  for (DType dtype : {DType::kI4, DType::kU4}) {
    Random random(2);
    Tensor tensor(dtype, {5});
    std::vector<int64_t> plain(5, 0);
    EXPECT_EQ(tensor.byte_size(), 3);
    for (int k = 0; k < 200; ++k) {
      const int64_t at = random.Int(0, 4), value = random.Int(MinInt(dtype), MaxInt(dtype));
      tensor.SetInt(at, value);
      plain[at] = value;
      for (int64_t i = 0; i < 5; ++i) ASSERT_EQ(tensor.GetInt(i), plain[i]);
    }
  }
  Tensor tensor(DType::kU4, {2});
  tensor.SetInt(0, 1);
  tensor.SetInt(1, 2);
  EXPECT_EQ(std::to_integer<int>(tensor.bytes()[0]), 0x21);  // low half first
}

TEST(Tensor, EveryTypeHoldsItsExtremes) {
  for (int k = 0; k <= static_cast<int>(DType::kBool); ++k) {
    const DType dtype = static_cast<DType>(k);
    if (IsFloat(dtype)) continue;
    Tensor tensor(dtype, {3});
    tensor.SetInt(0, MinInt(dtype));
    tensor.SetInt(1, MaxInt(dtype));
    EXPECT_EQ(tensor.GetInt(0), MinInt(dtype)) << dtype;
    EXPECT_EQ(tensor.GetInt(1), MaxInt(dtype)) << dtype;
    EXPECT_EQ(tensor.GetInt(2), 0) << dtype;
  }
}

TEST(Tensor, CopiesShareUntilWritten) {
  const Tensor a = Tensor::FromVector<float>({2, 2}, {1, 2, 3, 4});
  Tensor b = a;
  EXPECT_EQ(a.bytes().data(), b.bytes().data());
  b.Set(0, 9);
  EXPECT_EQ(a.Get(0), 1);
  EXPECT_EQ(b.Get(0), 9);
  EXPECT_FALSE(a == b);
  EXPECT_TRUE(a == Tensor::FromVector<float>({2, 2}, {1, 2, 3, 4}));
  EXPECT_FALSE(a == a.Reshaped({4}));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.bytes().data()) % 64, 0u);
}

TEST(Tensor, ViewsKeepTheirOwnerAndAreNotWrittenThrough) {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3});
  std::weak_ptr<std::vector<float>> watch = owner;
  const auto bytes = std::as_bytes(std::span<const float>(*owner));
  Tensor view = Tensor::View(DType::kF32, {3}, bytes, owner);
  float* original = owner->data();
  owner.reset();
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(view.Get(1), 2);
  Tensor copy = view;
  copy.Set(1, 7);
  EXPECT_EQ(original[1], 2);
  EXPECT_EQ(view.Get(1), 2);
  view = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, CastsByTheRulesOfGetAndSet) {
  const Tensor floats = Tensor::FromVector<float>({4}, {1.5, -300, 70000, NAN});
  const Tensor bytes = floats.Cast(DType::kI8);
  EXPECT_EQ(bytes.GetInt(0), 1);
  EXPECT_EQ(bytes.GetInt(1), -128);
  EXPECT_EQ(bytes.GetInt(2), 127);
  EXPECT_EQ(bytes.GetInt(3), 0);
  EXPECT_EQ(floats.Cast(DType::kF16).Get(2), HUGE_VAL);
  const Tensor wide = Tensor::FromVector<int64_t>({1}, {(int64_t{1} << 60) + 1});
  EXPECT_EQ(wide.Cast(DType::kU64).GetInt(0), (int64_t{1} << 60) + 1);
  EXPECT_EQ(wide.Cast(DType::kI8).GetInt(0), 1);
}

}  // namespace
}  // namespace tessera
