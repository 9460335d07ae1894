#include "models/import/op_emitter.h"

#include "graph/interpreter.h"
#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

class OpEmitterTest : public testing::Test {
 protected:
  GraphWriter writer_{"g"};
  OpEmitter emitter_{writer_, "source", "Kind"};
  // 0, 1, 2, … as a constant, so that everything folds and can be looked at.
  ValueId Counting(Shape shape) {
    Tensor tensor(DType::kF32, shape);
    for (int64_t i = 0; i < tensor.num_elements(); ++i) tensor.Set(i, static_cast<double>(i));
    return writer_.AddConstant("counting", std::move(tensor));
  }
  std::vector<float> Values(ValueId id) {
    const Tensor tensor = writer_.constant(id);
    return {tensor.data<float>().begin(), tensor.data<float>().end()};
  }
};

TEST_F(OpEmitterTest, WhatChangesNothingIsNotWritten) {
  const ValueId x = writer_.AddInput("x", {DType::kF32, {2, 3}});
  EXPECT_EQ(*emitter_.Reshape(x, {2, 3}), x);
  EXPECT_EQ(*emitter_.Transpose(x, {0, 1}), x);
  EXPECT_EQ(*emitter_.Cast(x, DType::kF32), x);
  EXPECT_EQ(*emitter_.Expand(x, {2, 3}), x);
  EXPECT_EQ(*emitter_.SliceAxis(x, 1, 0, 3), x);
  EXPECT_TRUE(writer_.graph().nodes.empty());
}

TEST_F(OpEmitterTest, AddsAlongAnAxis) {
  const ValueId bias = writer_.AddConstant("bias", Tensor::FromVector<float>({2}, {10, 20}));
  ASSERT_OK_AND_ASSIGN(const ValueId rows, emitter_.AddAlong(Counting({2, 3}), bias, 0));
  EXPECT_EQ(Values(rows), (std::vector<float>{10, 11, 12, 23, 24, 25}));
  EXPECT_THAT(emitter_.AddAlong(Counting({2, 3}), bias, 1),
              StatusIs(ErrorCode::kShapeMismatch, HasSubstr("node 'source' (Kind)")));
}

TEST_F(OpEmitterTest, MovesBlocksBetweenDepthAndSpace) {
  // ONNX's definition: DCR takes the block from the first part of the channels, CRD from the last.
  ASSERT_OK_AND_ASSIGN(const ValueId dcr, emitter_.DepthToSpace(Counting({1, 8, 1, 1}), 2, true));
  EXPECT_EQ(writer_.shape(dcr), (Shape{1, 2, 2, 2}));
  EXPECT_EQ(Values(dcr), (std::vector<float>{0, 2, 4, 6, 1, 3, 5, 7}));
  ASSERT_OK_AND_ASSIGN(const ValueId crd, emitter_.DepthToSpace(Counting({1, 8, 1, 1}), 2, false));
  EXPECT_EQ(Values(crd), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
  ASSERT_OK_AND_ASSIGN(const ValueId back, emitter_.SpaceToDepth(dcr, 2));
  EXPECT_EQ(Values(back), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_THAT(emitter_.DepthToSpace(Counting({1, 6, 1, 1}), 2, true), StatusIs(ErrorCode::kShapeMismatch));
  EXPECT_THAT(emitter_.SpaceToDepth(Counting({1, 1, 3, 2}), 2), StatusIs(ErrorCode::kShapeMismatch));
  EXPECT_THAT(emitter_.SpaceToDepth(Counting({1, 1, 2, 2}), 0), StatusIs(ErrorCode::kShapeMismatch));
}

TEST_F(OpEmitterTest, ChecksAxes) {
  EXPECT_EQ(*emitter_.Axis(-1, 3), 2);
  EXPECT_THAT(emitter_.Axis(3, 3), StatusIs(ErrorCode::kAttributeInvalid));
  EXPECT_THAT(emitter_.Axis(0, 0), StatusIs(ErrorCode::kAttributeInvalid));
  EXPECT_EQ(*emitter_.Axes({-1, 0}, 3), (std::vector<int64_t>{0, 2}));
  EXPECT_THAT(emitter_.Axes({1, -2}, 3), StatusIs(ErrorCode::kAttributeInvalid));
}

TEST_F(OpEmitterTest, ResolvesPadding) {
  // 5 wide, kernel 2, stride 2: three windows reach one beyond; UPPER pads the end, LOWER the begin.
  ASSERT_OK_AND_ASSIGN(const SpatialWindow upper,
                       emitter_.ResolveWindow({5}, {.kernel = {2}, .strides = {2}}, AutoPad::kSameUpper));
  EXPECT_EQ(upper.pads, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(upper.dilations, (std::vector<int64_t>{1}));
  ASSERT_OK_AND_ASSIGN(const SpatialWindow lower,
                       emitter_.ResolveWindow({5}, {.kernel = {2}, .strides = {2}}, AutoPad::kSameLower));
  EXPECT_EQ(lower.pads, (std::vector<int64_t>{1, 0}));
  // Dilation widens the reach: 3 taps 2 apart cover 5.
  ASSERT_OK_AND_ASSIGN(const SpatialWindow wide,
                       emitter_.ResolveWindow({6}, {.kernel = {3}, .dilations = {2}}, AutoPad::kSameUpper));
  EXPECT_EQ(wide.pads, (std::vector<int64_t>{2, 2}));
  ASSERT_OK_AND_ASSIGN(const SpatialWindow valid,
                       emitter_.ResolveWindow({5}, {.kernel = {2}, .pads = {7, 7}}, AutoPad::kValid));
  EXPECT_EQ(valid.pads, (std::vector<int64_t>{0, 0}));
}

TEST_F(OpEmitterTest, RefusesBrokenWindows) {
  for (const SpatialWindow& window :
       {SpatialWindow{.kernel = {0}}, SpatialWindow{.kernel = {2, 2}}, SpatialWindow{.kernel = {2}, .strides = {0}},
        SpatialWindow{.kernel = {2}, .strides = {-1}}, SpatialWindow{.kernel = {2}, .dilations = {0}},
        SpatialWindow{.kernel = {2}, .pads = {1}}, SpatialWindow{.kernel = {2}, .pads = {-1, 0}},
        SpatialWindow{.kernel = {INT64_MAX}}, SpatialWindow{.kernel = {2}, .strides = {INT64_MAX}}}) {
    EXPECT_THAT(emitter_.ResolveWindow({5}, window, AutoPad::kExplicit), StatusIs(ErrorCode::kAttributeInvalid));
  }
}

}  // namespace
}  // namespace tessera
