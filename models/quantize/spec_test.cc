#include "models/quantize/spec.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

QuantizeSpec Parsed(std::string_view text) {
  StatusOr<QuantizeSpec> spec = ParseQuantizeSpec(text);
  EXPECT_TRUE(spec.ok()) << text << ": " << spec.status();
  return spec.ok() ? *spec : QuantizeSpec();
}

TEST(QuantizeSpecTest, Schemes) {
  EXPECT_EQ(Parsed("none").scheme, QuantizeScheme::kNone);
  const QuantizeSpec i8 = Parsed("i8");
  EXPECT_EQ(i8.scheme, QuantizeScheme::kIntegers);
  EXPECT_EQ(i8.weights, DType::kI8);
  EXPECT_EQ(i8.activations, DType::kU8);
  EXPECT_TRUE(i8.needs_calibration());
  EXPECT_EQ(Parsed("w8").group, 0);
  EXPECT_EQ(Parsed("w8g64").group, 64);
  EXPECT_EQ(Parsed("w4g32").weights, DType::kI4);
  EXPECT_EQ(Parsed("u4g32").weights, DType::kU4);
  EXPECT_FALSE(Parsed("u4g32").needs_calibration());
  EXPECT_EQ(Parsed("bf16").weights, DType::kBF16);
  EXPECT_EQ(Parsed("f32").scheme, QuantizeScheme::kFloats);
}

TEST(QuantizeSpecTest, Options) {
  const QuantizeSpec spec = Parsed("i8+range=percentile:99.5+weights=mse+act=i8+outliers=2.5%+float=fc*,head.weight");
  EXPECT_EQ(spec.range, RangeMethod::kPercentile);
  EXPECT_EQ(spec.percentile, 99.5);
  EXPECT_EQ(spec.weight_range, RangeMethod::kMse);
  EXPECT_EQ(spec.activations, DType::kI8);
  EXPECT_DOUBLE_EQ(spec.outliers, 0.025);
  EXPECT_TRUE(spec.KeepsFloat("fc12", "w"));
  EXPECT_TRUE(spec.KeepsFloat("n", "head.weight"));
  EXPECT_FALSE(spec.KeepsFloat("conv", "head"));
  EXPECT_EQ(Parsed("i8+range=mse").range, RangeMethod::kMse);
  EXPECT_EQ(Parsed("w4g32+weights=mse").weight_range, RangeMethod::kMse);
}

TEST(QuantizeSpecTest, Globs) {
  EXPECT_TRUE(MatchesGlob("*", ""));
  EXPECT_TRUE(MatchesGlob("a*b*c", "a-b-b-c"));
  EXPECT_FALSE(MatchesGlob("a*b*c", "a-b-b-cd"));
  EXPECT_TRUE(MatchesGlob("**x", "yx"));
  EXPECT_FALSE(MatchesGlob("", "x"));
  // Each star starts over once: no blow-up.
  EXPECT_FALSE(MatchesGlob("*a*a*a*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}

TEST(QuantizeSpecTest, WhatIsWrongIsNamed) {
  for (const auto& [text, what] : {std::pair{"", "found ''"},
                                   {"int8", "found 'int8'"},
                                   {"w4g", "g32"},
                                   {"w4g1", "2 to"},
                                   {"w4x32", "g32"},
                                   {"w4g99999999999999999999", "g32"},
                                   {"i8+", "an option"},
                                   {"i8+range=", "range=minmax"},
                                   {"i8+range=percentile:", "percentile above 50"},
                                   {"i8+range=percentile:nan", "percentile above 50"},
                                   {"i8+range=percentiles", "range=minmax"},
                                   {"i8+outliers=6%", "from 0 to 5"},
                                   {"i8+outliers=1", "outliers=P%"},
                                   {"w8+outliers=1%", "of i8 only"},
                                   {"bf16+float=a", "no options"},
                                   {"i8+float=a,,b", "float=NAME"},
                                   {"i8+act=f32", "act=u8"}}) {
    const StatusOr<QuantizeSpec> spec = ParseQuantizeSpec(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_EQ(spec.status().code(), ErrorCode::kUsageInvalid);
    EXPECT_NE(spec.status().ToString().find(what), std::string::npos) << spec.status();
  }
}

}  // namespace
}  // namespace tessera
