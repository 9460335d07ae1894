// Merging of axes. What stages compute is tested for every op by tests/conformance/ops_test.cc.
#include "codegen/emit/stage.h"

#include <gtest/gtest.h>

#include "codegen/emit/stage_axes.h"
#include "codegen/target.h"

namespace tessera {
namespace {

Body AddBody() {
  BodyBuilder b;
  const Scalar x = b.Input(DType::kF32), y = b.Input(DType::kF32);
  return b.Finish(x + y);
}

TEST(CollapseAxesTest, ElementwiseBecomesOneAxis) {
  const Shape shape = {2, 3, 4};
  const Stage stage =
      MapStage("add", shape, {Elementwise({BufferKind::kInput, 0}, shape), Elementwise({BufferKind::kInput, 1}, shape)},
               AddBody(), {BufferKind::kOutput, 0});
  const Stage collapsed = CollapseAxes(stage);
  EXPECT_EQ(collapsed.extents, (std::vector<int64_t>{24}));
  EXPECT_EQ(collapsed.write.index[0], Axis(0));
}

TEST(CollapseAxesTest, BroadcastKeepsTheAxisItNeeds) {
  const Shape shape = {2, 3, 4};
  const Stage stage = MapStage(
      "bias", shape, {Elementwise({BufferKind::kInput, 0}, shape), Broadcast({BufferKind::kInput, 1}, {4}, shape)},
      AddBody(), {BufferKind::kOutput, 0});
  const Stage collapsed = CollapseAxes(stage);
  EXPECT_EQ(collapsed.extents, (std::vector<int64_t>{6, 4}));
  EXPECT_EQ(collapsed.reads[1].index[0], Axis(1));
}

TEST(CollapseAxesTest, UnitAxesGoAndTransposesStay) {
  const Shape out = {1, 4, 3};
  Access read = {.buffer = {BufferKind::kInput, 0}, .view = {3, 4}, .index = {Axis(2), Axis(1)}};
  const Stage stage = MapStage("transpose", out, {read}, IdentityBody(DType::kF32), {BufferKind::kOutput, 0});
  const Stage collapsed = CollapseAxes(stage);
  EXPECT_EQ(collapsed.extents, (std::vector<int64_t>{4, 3}));
  EXPECT_EQ(collapsed.reads[0].index[0].terms.size(), 2u);
}

TEST(CollapseAxesTest, ReducedAndParallelAxesDoNotMix) {
  // sum over the last two of [2,3,4]
  Stage stage;
  stage.name = "sum";
  stage.extents = {2, 3, 4};
  stage.parallel_rank = 1;
  stage.reads = {Elementwise({BufferKind::kInput, 0}, {2, 3, 4})};
  stage.body = IdentityBody(DType::kF32);
  stage.combiner = Combiner::kAdd;
  stage.write = {.buffer = {BufferKind::kOutput, 0}, .view = {2}, .index = {Axis(0)}};
  const Stage collapsed = CollapseAxes(stage);
  EXPECT_EQ(collapsed.extents, (std::vector<int64_t>{2, 12}));
  EXPECT_EQ(collapsed.parallel_rank, 1);
}

TEST(CollapseAxesTest, BodiesThatUseAnIndexKeepTheirAxes) {
  const Shape shape = {3, 4};
  BodyBuilder b;
  const Body body = b.Finish(b.Cast(b.Index(1), DType::kF32));
  const Stage stage = MapStage("iota", shape, {}, body, {BufferKind::kOutput, 0});
  EXPECT_EQ(CollapseAxes(stage).extents, (std::vector<int64_t>{3, 4}));
}

TEST(CollapseAxesTest, GuardedAxesStay) {
  const Shape out = {5, 6};
  Access read = {.buffer = {BufferKind::kInput, 0}, .view = {3, 4}, .index = {Axis(0, 1, -1), Axis(1, 1, -1)}};
  read.guarded = true;
  const Stage stage = MapStage("pad", out, {read}, IdentityBody(DType::kF32), {BufferKind::kOutput, 0});
  EXPECT_EQ(CollapseAxes(stage).extents, (std::vector<int64_t>{5, 6}));
}

TEST(PlanStageTest, CountsOperationsAndNoneForMovements) {
  StatusOr<Target> target = MakeTarget("host:x86-64");
  ASSERT_TRUE(target.ok());
  Compute compute;
  compute.inputs = {{DType::kF32, {8, 3}}, {DType::kI32, {5}}};
  compute.outputs = {{DType::kF32, {5, 3}}};
  const auto buffer = [](BufferRef ref) { return StepArg{.buffer = ref.kind == BufferKind::kOutput ? 9 : ref.index}; };
  // Rows by index: the body only passes its second read on.
  Access index = {.buffer = {BufferKind::kInput, 1}, .view = {5}, .index = {Axis(0)}};
  Access row = {.buffer = {BufferKind::kInput, 0}, .view = {8, 3}, .index = {FixedIndex(0), Axis(1)}, .guarded = true};
  row.index[0].read = 0;
  BodyBuilder b;
  b.Input(DType::kI32);
  const Body second = b.Finish(b.Input(DType::kF32));
  Stage gather = MapStage("gather", {5, 3}, {index, row}, second, {BufferKind::kOutput, 0});
  gather.body.num_inputs = 2;
  EXPECT_EQ(PlanStage(compute, gather, *target, buffer).flops, 0);

  Compute sum;
  sum.inputs = {{DType::kF32, {4, 6}}};
  sum.outputs = {{DType::kF32, {4}}};
  Stage stage;
  stage.name = "sum";
  stage.extents = {4, 6};
  stage.parallel_rank = 1;
  stage.reads = {Elementwise({BufferKind::kInput, 0}, {4, 6})};
  stage.body = IdentityBody(DType::kF32);
  stage.combiner = Combiner::kAdd;
  stage.write = {.buffer = {BufferKind::kOutput, 0}, .view = {4}, .index = {Axis(0)}};
  const PlanStep step = PlanStage(sum, stage, *target, buffer);
  EXPECT_EQ(step.flops, 24);
  EXPECT_EQ(step.bytes, (24 + 4) * 4);
}

}  // namespace
}  // namespace tessera
