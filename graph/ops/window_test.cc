// Known values and rejections of the pools and of resize; conv's are in contraction_test.cc.
#include <cmath>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "graph/op.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tensor F32(Shape shape, const std::vector<float>& values) {
  return Tensor::FromVector<float>(std::move(shape), values);
}

Attrs PoolAttrs(const std::vector<int64_t>& kernel, int64_t stride, int64_t dilation, const std::vector<int64_t>& pads,
                const std::string& layout = "nchw") {
  return MakeAttrs({{"kernel", kernel},
                    {"strides", std::vector<int64_t>(kernel.size(), stride)},
                    {"dilations", std::vector<int64_t>(kernel.size(), dilation)},
                    {"pads", pads},
                    {"layout", layout}});
}

std::string Rejection(Op op, const Attrs& attrs, const Tensor& x) {
  const auto result = RunOp(op, attrs, {x});
  return result.ok() ? "accepted" : result.status().message();
}

TEST(MaxPoolTest, PaddingNeverWins) {
  const auto y = RunOp(Op::kMaxPool, PoolAttrs({3}, 2, 1, {1, 1}), {F32({1, 1, 4}, {-5, -7, -2, -9})});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_THAT(y->at(0).f, ElementsAre(-5, -2));
  const auto i =
      RunOp(Op::kMaxPool, PoolAttrs({2}, 1, 1, {1, 0}), {Tensor::FromVector<int64_t>({1, 1, 1}, {INT64_MIN})});
  EXPECT_THAT(i->at(0).i, ElementsAre(INT64_MIN));
}

TEST(MaxPoolTest, PassesNanOn) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto y = RunOp(Op::kMaxPool, PoolAttrs({2}, 1, 1, {0, 0}), {F32({1, 1, 3}, {nan, 1, 2})});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_TRUE(std::isnan(y->at(0).f[0]));
  EXPECT_EQ(y->at(0).f[1], 2);
}

TEST(MaxPoolTest, ChannelsLast) {
  // Two channels of a 1 x 3 image.
  const auto y =
      RunOp(Op::kMaxPool, PoolAttrs({1, 2}, 1, 1, {0, 0, 0, 0}, "nhwc"), {F32({1, 1, 3, 2}, {1, 60, 2, 50, 3, 40})});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_THAT(y->at(0).f, ElementsAre(2, 60, 3, 50));
}

TEST(MaxPoolTest, RejectsWindowsWithoutElements) {
  const Tensor x = F32({1, 1, 3}, {1, 2, 3});
  EXPECT_EQ(Rejection(Op::kMaxPool, PoolAttrs({2}, 1, 1, {1, 1}), x), "accepted");
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({2}, 1, 1, {2, 0}), x), HasSubstr("window 0 of 4"));
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({2}, 1, 1, {0, 2}), x), HasSubstr("window 3 of 4"));
  // Taps at -1 and 1 step over the only element.
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({2}, 1, 2, {2, 2}), F32({1, 1, 1}, {1})), HasSubstr("window 1 of 3"));
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({2}, 1, 1, {1, 1}), F32({1, 1, 0}, {})), HasSubstr("window 0"));
}

TEST(MaxPoolTest, RejectsParametersOutOfBounds) {
  const Tensor x = F32({1, 1, 3}, {1, 2, 3});
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({0}, 1, 1, {0, 0}), x), HasSubstr("found 0"));
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({4}, 1, 1, {0, 0}), x), HasSubstr("it spans 4"));
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({2}, 1, int64_t{1} << 62, {0, 0}), x), HasSubstr("'dilations'"));
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({1, 1}, 1, 1, {0, 0, 0, 0}), x), HasSubstr("1 spatial axes"));
  EXPECT_THAT(Rejection(Op::kMaxPool, PoolAttrs({}, 1, 1, {}), F32({1, 1}, {1})), HasSubstr("at least one spatial"));
}

TEST(AvgPoolTest, DividesByTheElementsOrByDeclaredPaddingToo) {
  const Tensor x = F32({1, 1, 4}, {6, 12, 18, 24});
  Attrs attrs = PoolAttrs({3}, 2, 1, {1, 1});
  EXPECT_THAT(RunOp(Op::kAvgPool, attrs, {x})->at(0).f, ElementsAre(9, 18));
  attrs.Set("count_include_pad", int64_t{1});
  EXPECT_THAT(RunOp(Op::kAvgPool, attrs, {x})->at(0).f, ElementsAre(6, 18));
}

TEST(AvgPoolTest, WhatHangsOverTheEndNeverDivides) {
  const Tensor x = F32({1, 1, 4}, {6, 12, 18, 24});
  Attrs attrs = PoolAttrs({3}, 2, 1, {0, 0});
  EXPECT_THAT(RunOp(Op::kAvgPool, attrs, {x})->at(0).f, ElementsAre(12));
  attrs.Set("out_shape_ceil", int64_t{1});
  EXPECT_THAT(RunOp(Op::kAvgPool, attrs, {x})->at(0).f, ElementsAre(12, 21));
  attrs.Set("count_include_pad", int64_t{1});
  EXPECT_THAT(RunOp(Op::kAvgPool, attrs, {x})->at(0).f, ElementsAre(12, 21));
  // A window that would begin behind x is not made: 2 windows of stride 3 over 4 elements, not 3 over 4 + 2.
  Attrs strided = PoolAttrs({1}, 3, 1, {0, 2});
  strided.Set("out_shape_ceil", int64_t{1});
  EXPECT_THAT(RunOp(Op::kAvgPool, strided, {x})->at(0).f, ElementsAre(6, 24));
}

Attrs ResizeAttrs(const std::vector<int64_t>& sizes, const std::vector<double>& scales, const std::string& mode,
                  const std::string& coordinate) {
  return MakeAttrs({{"sizes", sizes}, {"scales", scales}, {"mode", mode}, {"coordinate", coordinate}});
}

TEST(ResizeTest, NearestRepeatsByWholeFactorsWithoutATable) {
  const Tensor x = F32({1, 2}, {1, 2});
  const auto y = RunOp(Op::kResize, ResizeAttrs({2, 6}, {2, 3}, "nearest", "asymmetric"), {x});
  ASSERT_TRUE(y.ok()) << y.status();
  Attrs attrs = ResizeAttrs({2, 6}, {2, 3}, "nearest", "asymmetric");
  attrs.Set("nearest", "floor");
  const auto z = RunOp(Op::kResize, attrs, {x});
  EXPECT_THAT(z->at(0).f, ElementsAre(1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2));
  const OpContext context = {.attrs = attrs, .inputs = {x.type()}, .outputs = {{DType::kF32, {2, 6}}}};
  EXPECT_TRUE(GetOp(Op::kResize).compute(context).tables.empty());
}

TEST(ResizeTest, NearestBreaksTiesAsAsked) {
  // Positions 0.5, 2.5 of four elements.
  const Tensor x = F32({4}, {10, 11, 12, 13});
  const auto with = [&](const std::string& rounding) {
    Attrs attrs = ResizeAttrs({2}, {0.5}, "nearest", "half_pixel");
    attrs.Set("nearest", rounding);
    return RunOp(Op::kResize, attrs, {x})->at(0).f;
  };
  EXPECT_THAT(with("round_prefer_floor"), ElementsAre(10, 12));
  EXPECT_THAT(with("round_prefer_ceil"), ElementsAre(11, 13));
  EXPECT_THAT(with("floor"), ElementsAre(10, 12));
  EXPECT_THAT(with("ceil"), ElementsAre(11, 13));
}

// The expectations of ONNX's operator document.
TEST(ResizeTest, LinearByTheFormulasOfOnnx) {
  const Tensor x = F32({1, 4}, {1, 2, 3, 4});
  const auto row = [&](int64_t size, double scale, const std::string& coordinate) {
    const auto y = RunOp(Op::kResize, ResizeAttrs({1, size}, {1, scale}, "linear", coordinate), {x});
    EXPECT_TRUE(y.ok()) << y.status();
    return y->at(0).f;
  };
  const auto near = [](std::initializer_list<double> values) {
    return testing::Pointwise(testing::DoubleNear(1e-6), values);
  };
  EXPECT_THAT(row(8, 2, "half_pixel"), near({1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4}));
  EXPECT_THAT(row(8, 2, "asymmetric"), near({1, 1.5, 2, 2.5, 3, 3.5, 4, 4}));
  EXPECT_THAT(row(7, 1.75, "align_corners"), near({1, 1.5, 2, 2.5, 3, 3.5, 4}));
  EXPECT_THAT(row(2, 0.6, "align_corners"), near({1, 1 + 3 / 1.4}));
  EXPECT_THAT(row(1, 0.25, "half_pixel"), near({2.5}));
  EXPECT_THAT(row(1, 0.25, "pytorch_half_pixel"), near({1}));
  EXPECT_THAT(row(2, 0.6, "half_pixel_symmetric"), near({1.6666667, 3.3333333}));
}

TEST(ResizeTest, CropsARegion) {
  Attrs attrs = ResizeAttrs({3}, {0.75}, "linear", "tf_crop_and_resize");
  attrs.Set("roi", std::vector<double>{0.5, 1.5});
  attrs.Set("extrapolation", -1.0);
  const auto y = RunOp(Op::kResize, attrs, {F32({4}, {1, 2, 3, 4})});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_THAT(y->at(0).f, ElementsAre(2.5, 4, -1));
}

TEST(ResizeTest, RejectsWhatHasNoPositions) {
  const Tensor x = F32({2}, {1, 2});
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2}, {0}, "nearest", "asymmetric"), x), HasSubstr("scale"));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2}, {NAN}, "nearest", "asymmetric"), x), HasSubstr("scale"));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({-2}, {1}, "nearest", "asymmetric"), x), HasSubstr("found -2"));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2}, {1}, "nearest", "asymmetric"), F32({0}, {})),
              HasSubstr("found 2"));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2}, {1}, "cubic", "asymmetric"), x), HasSubstr("\"cubic\""));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2}, {1}, "nearest", "centre"), x), HasSubstr("\"centre\""));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2}, {1}, "nearest", "tf_crop_and_resize"), x), HasSubstr("roi"));
  EXPECT_THAT(Rejection(Op::kResize, ResizeAttrs({2, 2}, {1}, "nearest", "asymmetric"), x), HasSubstr("found 2 and 1"));
}

}  // namespace
}  // namespace tessera
