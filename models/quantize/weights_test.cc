#include "models/quantize/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tesa/random.h"

namespace tessera {
namespace {

QuantizedWeight Quantized(const Tensor& w, const WeightOptions& options, const std::optional<Attribute>& tesa = {}) {
  StatusOr<QuantizedWeight> q = QuantizeWeight(w, tesa, options);
  TES_CHECK(q.ok(), q.status());
  return *std::move(q);
}

// The scale of an element, found the slow way.
double ScaleOf(const QuantizedWeight& q, const WeightOptions& options, const std::vector<int64_t>& index) {
  if (options.group == 0) return q.scales.Get(index[options.axis]);
  int64_t at = 0;
  for (int d = 0; d < q.scales.shape().rank(); ++d) {
    at = at * q.scales.shape()[d] + (d == options.group_axis ? index[d] / options.group : index[d]);
  }
  return q.scales.Get(at);
}

TEST(WeightsTest, ErrorIsWithinHalfAStepOnOddShapes) {
  Random random(1);
  for (const Shape& shape : {Shape{1, 1}, {7, 13}, {33, 5}, {3, 5, 3, 3}, {5, 1, 3, 3}, {2, 67, 1, 1}}) {
    for (DType type : {DType::kI8, DType::kI4, DType::kU4}) {
      for (int64_t group : {0, 3, 32}) {
        for (int axis : {0, 1}) {
          const WeightOptions options{.type = type, .axis = axis, .group = group, .group_axis = axis};
          const Tensor w = RandomTensor(random, {DType::kF32, shape}, 0.3);
          const QuantizedWeight q = Quantized(w, options);
          ASSERT_EQ(q.integers.type(), (TensorType{type, shape}));
          const Tensor back = Dequantized(q, options);
          int64_t k = 0;
          ForEachIndex(shape, [&](const std::vector<int64_t>& index) {
            // A zero point is rounded, too: u4 may be off by a whole step at the ends.
            const double steps = type == DType::kU4 ? 1.01 : 0.501;
            EXPECT_NEAR(back.Get(k), w.Get(k), steps * ScaleOf(q, options, index)) << shape << type << group;
            ++k;
          });
        }
      }
    }
  }
}

TEST(WeightsTest, SymmetricIntegersReachTheLargestOfEachChannel) {
  Random random(2);
  const Tensor w = RandomTensor(random, {DType::kF32, {9, 31}});
  const QuantizedWeight q = Quantized(w, {.type = DType::kI8, .axis = 0});
  for (int64_t row = 0; row < 9; ++row) {
    int64_t largest = 0;
    for (int64_t k = 0; k < 31; ++k) largest = std::max(largest, std::abs(q.integers.GetInt(row * 31 + k)));
    EXPECT_EQ(largest, 127);
  }
  EXPECT_GT(q.signal_to_noise, 38);
}

TEST(WeightsTest, ConstantAndZeroChannels) {
  Tensor w(DType::kF32, {3, 4});
  for (int64_t k = 0; k < 4; ++k) w.Set(4 + k, -0.75);  // rows: zeros, all the same, one in a thousandth
  w.Set(8, 1e-3);
  for (DType type : {DType::kI8, DType::kI4, DType::kU4}) {
    const WeightOptions options{.type = type, .axis = 0};
    const QuantizedWeight q = Quantized(w, options);
    const Tensor back = Dequantized(q, options);
    for (int64_t k = 0; k < 4; ++k) {
      EXPECT_EQ(back.Get(k), 0);
      EXPECT_NEAR(back.Get(4 + k), -0.75, 1e-6);
    }
    EXPECT_NEAR(back.Get(8), 1e-3, 1e-9);
    EXPECT_EQ(q.scales.Get(0), 1);
  }
  const QuantizedWeight floored = Quantized(w, {.type = DType::kI8, .axis = 0, .least_scales = {0.5, 0.5, 0}});
  EXPECT_EQ(floored.scales.Get(0), 0.5);
  EXPECT_EQ(floored.scales.Get(1), 0.5);
  EXPECT_LT(floored.scales.Get(2), 1e-4);
}

TEST(WeightsTest, SparseStaysSparseAndDeclared) {
  Random random(3);
  for (const Pattern& pattern : {Pattern::Scattered(), Pattern::Block(1, 4), Pattern::Slices(0)}) {
    const Shape shape = {37, 53};
    const Attribute tesa = RandomAttribute(random, shape, pattern, 0.2, 32);
    const Tensor w = tesa.ApplyTo(RandomTensor(random, {DType::kF32, shape}));
    for (DType type : {DType::kI8, DType::kI4, DType::kU4}) {
      const WeightOptions options{.type = type, .axis = 0};
      const QuantizedWeight q = Quantized(w, options, tesa);
      // Pruned elements are 0 in the data, which a zero point would make something else.
      EXPECT_EQ(q.integers.dtype(), type == DType::kU4 ? DType::kI4 : type);
      EXPECT_FALSE(q.zero_points.has_value());
      ASSERT_TRUE(q.tesa.has_value());
      EXPECT_EQ(q.tesa->KeptBitmap(), tesa.KeptBitmap());
      EXPECT_EQ(q.tesa->Widths(), std::vector<int>{TypeInfo(q.integers.dtype()).bits});
      EXPECT_EQ(q.tesa->ApplyTo(q.integers), q.integers);
    }
  }
}

TEST(WeightsTest, LeastErrorIsNotWorseThanMinMax) {
  Random random(4);
  Tensor w = RandomTensor(random, {DType::kF32, {8, 256}});
  w.Set(5, 9);
  for (DType type : {DType::kI8, DType::kI4}) {
    for (int64_t group : {0, 32}) {
      WeightOptions options{.type = type, .axis = 0, .group = group};
      const double plain = Quantized(w, options).signal_to_noise;
      options.range = RangeMethod::kMse;
      EXPECT_GE(Quantized(w, options).signal_to_noise, plain);
    }
  }
}

TEST(WeightsTest, OutliersBuyPrecision) {
  Random random(5);
  Tensor w = RandomTensor(random, {DType::kF32, {64, 128}}, 0.02);
  for (int64_t k = 0; k < 40; ++k) w.Set(random.Int(0, 64 * 128 - 1), random.Uniform(-3, 3));
  double before = Quantized(w, {}).signal_to_noise;
  for (double share : {0.01, 0.05}) {
    const QuantizedWeight q = Quantized(w, {.outliers = share});
    EXPECT_GT(q.num_outliers, 0);
    EXPECT_LE(q.num_outliers, share * 64 * 128);
    ASSERT_TRUE(q.tesa && q.outlier_tesa);
    // Each element is in exactly one part.
    int64_t both = 0;
    for (int64_t k = 0; k < 64 * 128; ++k) {
      EXPECT_NE(q.tesa->kept(k), q.outlier_tesa->kept(k));
      both += q.outlier_tesa->kept(k);
      if (q.outlier_tesa->kept(k)) {
        EXPECT_EQ(q.outliers.Get(k), w.Get(k));
        EXPECT_EQ(q.integers.GetInt(k), 0);
      }
    }
    EXPECT_EQ(both, q.num_outliers);
    EXPECT_EQ(q.outlier_tesa->Widths(), std::vector<int>{32});
    EXPECT_GT(q.signal_to_noise, before + 1);
    before = q.signal_to_noise;
  }
}

TEST(WeightsTest, OutliersNeedAReason) {
  // Nobody stands out: giving one up wins nothing.
  const Tensor w = Tensor::Full(DType::kF32, {16, 16}, 0.5);
  EXPECT_EQ(Quantized(w, {.outliers = 0.05}).num_outliers, 0);
}

TEST(WeightsTest, DeclaredWidthsSayWhichStayFloat) {
  Random random(6);
  const Shape shape = {16, 24};
  std::vector<uint8_t> bits(16 * 24);
  for (uint8_t& b : bits) b = random.Chance(0.5) ? 0 : random.Chance(0.1) ? 32 : random.Chance(0.5) ? 4 : 8;
  const Attribute tesa = Attribute::FromBits(shape, bits);
  const Tensor w = tesa.ApplyTo(RandomTensor(random, {DType::kF32, shape}));
  const QuantizedWeight q = Quantized(w, {.axis = 0}, tesa);
  for (int64_t k = 0; k < w.num_elements(); ++k) {
    const int width = bits[static_cast<size_t>(k)];
    EXPECT_EQ(q.outlier_tesa->bits(k), width == 32 ? 32 : 0);
    EXPECT_EQ(q.tesa->bits(k), width == 32 ? 0 : width);
  }
}

TEST(WeightsTest, WhatIsNoNumberIsRefused) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Tensor w(DType::kF32, {2, 3});
    w.Set(4, bad);
    const StatusOr<QuantizedWeight> q = QuantizeWeight(w, {}, {});
    ASSERT_FALSE(q.ok());
    EXPECT_EQ(q.status().code(), ErrorCode::kValueInvalid);
    EXPECT_NE(q.status().ToString().find("element 4"), std::string::npos);
  }
  // Denormal and huge weights are numbers.
  Tensor w(DType::kF32, {2, 1});
  w.Set(0, 1e-45);
  w.Set(1, 3e38);
  const Tensor back = Dequantized(Quantized(w, {}), {});
  EXPECT_NEAR(back.Get(0), 0, 1e-20);
  EXPECT_NEAR(back.Get(1) / 3e38, 1, 1e-6);
}

}  // namespace
}  // namespace tessera
