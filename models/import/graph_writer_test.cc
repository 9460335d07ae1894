#include "models/import/graph_writer.h"

#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

Attrs ShapeAttr(std::vector<int64_t> dims) {
  Attrs attrs;
  attrs.Set("shape", std::move(dims));
  return attrs;
}

Attrs Perm(std::vector<int64_t> perm) {
  Attrs attrs;
  attrs.Set("perm", std::move(perm));
  return attrs;
}

TEST(GraphWriterTest, WritesNodesWithInferredTypes) {
  GraphWriter writer("g");
  const ValueId x = writer.AddInput("x", {DType::kF32, {2, 3}});
  ASSERT_OK_AND_ASSIGN(const ValueId y, writer.Emit(Op::kTranspose, "t", {x}, Perm({1, 0})));
  EXPECT_EQ(writer.type(y), (TensorType{DType::kF32, {3, 2}}));
  EXPECT_FALSE(writer.IsConstant(y));
  ASSERT_OK_AND_ASSIGN(const GraphWriter::Finished finished, writer.Finish({{"y", y}}));
  EXPECT_EQ(finished.graph.nodes.size(), 1u);
  EXPECT_EQ(finished.graph[finished.graph.outputs[0]].name, "y");
}

TEST(GraphWriterTest, AnErrorNamesTheNode) {
  GraphWriter writer("g");
  const ValueId x = writer.AddInput("x", {DType::kF32, {2, 3}});
  const ValueId z = writer.AddInput("z", {DType::kF32, {4}});
  const StatusOr<ValueId> sum = writer.Emit(Op::kAdd, "bad_sum", {x, z});
  ASSERT_FALSE(sum.ok());
  EXPECT_NE(sum.status().message().find("bad_sum"), std::string::npos) << sum.status();
}

TEST(GraphWriterTest, FoldsConstantOperands) {
  GraphWriter writer("g");
  const ValueId a = writer.AddConstant("a", Tensor::FromVector<int64_t>({3}, {1, 2, 3}));
  ASSERT_OK_AND_ASSIGN(const ValueId sum, writer.Emit(Op::kAdd, "sum", {a, writer.Scalar(DType::kI64, 10)}));
  ASSERT_TRUE(writer.IsConstant(sum));
  EXPECT_EQ(writer.constant(sum), Tensor::FromVector<int64_t>({3}, {11, 12, 13}));
  ASSERT_OK_AND_ASSIGN(const ValueId kept, writer.Emit(Op::kNeg, "kept", {a}, {}, Fold::kNever));
  EXPECT_FALSE(writer.IsConstant(kept));
}

TEST(GraphWriterTest, DoesNotFoldWhatWouldBeHuge) {
  GraphWriter writer("g");
  const ValueId zero = writer.Scalar(DType::kF32, 0);
  ASSERT_OK_AND_ASSIGN(const ValueId big, writer.Emit(Op::kExpand, "big", {zero}, ShapeAttr({1 << 15, 1 << 15})));
  EXPECT_FALSE(writer.IsConstant(big));
  EXPECT_THAT(writer.Emit(Op::kExpand, "huge", {zero}, ShapeAttr({int64_t{1} << 20, int64_t{1} << 20})),
              StatusIs(ErrorCode::kLimitExceeded));
}

TEST(GraphWriterTest, AMaskFollowsItsConstant) {
  GraphWriter writer("g");
  ConstantOrigin origin = {.name = "w", .type = {DType::kF16, {2, 3}}, .declared = "test"};
  origin.mask = Tensor::FromVector<uint8_t>({2, 3}, {1, 0, 0, 0, 8, 0});
  const ValueId w =
      writer.AddConstant("w", Tensor::FromVector<float>({2, 3}, {5, 0, 0, 0, 7, 0}).Cast(DType::kF16), origin);
  Attrs to;
  to.Set("to", DType::kF32);
  ASSERT_OK_AND_ASSIGN(const ValueId wide, writer.Emit(Op::kCast, "wide", {w}, to));
  ASSERT_OK_AND_ASSIGN(const ValueId turned, writer.Emit(Op::kTranspose, "turned", {wide}, Perm({1, 0})));
  ASSERT_OK_AND_ASSIGN(const ValueId flat, writer.Emit(Op::kReshape, "flat", {turned}, ShapeAttr({6})));
  EXPECT_EQ(writer.origin(flat).name, "w");
  EXPECT_EQ(writer.origin(flat).type.dtype, DType::kF16);
  ASSERT_TRUE(writer.origin(flat).mask.has_value());
  EXPECT_EQ(*writer.origin(flat).mask, Tensor::FromVector<uint8_t>({6}, {1, 0, 0, 8, 0, 0}));
  // An op that does not keep zeros where they are ends it.
  ASSERT_OK_AND_ASSIGN(const ValueId shifted, writer.Emit(Op::kAdd, "shifted", {flat, writer.Scalar(DType::kF32, 1)}));
  EXPECT_FALSE(writer.origin(shifted).mask.has_value());
}

TEST(GraphWriterTest, OutputsHaveTheirOwnNames) {
  GraphWriter writer("g");
  const ValueId x = writer.AddInput("x", {DType::kF32, {2}});
  const ValueId c = writer.AddConstant("c", Tensor(DType::kF32, {2}));
  ASSERT_OK_AND_ASSIGN(const ValueId y, writer.Emit(Op::kNeg, "n", {x}));
  ASSERT_OK_AND_ASSIGN(const GraphWriter::Finished finished,
                       writer.Finish({{"a", y}, {"b", y}, {"copy", x}, {"fixed", c}}));
  const Graph& graph = finished.graph;
  ASSERT_EQ(graph.outputs.size(), 4u);
  EXPECT_EQ(graph[graph.inputs[0]].name, "x");
  EXPECT_EQ(graph[graph.outputs[0]].name, "a");
  EXPECT_EQ(graph[graph.outputs[1]].name, "b");
  EXPECT_EQ(graph[graph.outputs[2]].name, "copy");
  EXPECT_EQ(graph[graph.outputs[2]].kind, ValueKind::kComputed);
  EXPECT_EQ(graph[graph.outputs[3]].name, "fixed");
}

TEST(GraphWriterTest, NamesAreValidAndUnique) {
  GraphWriter writer("g");
  const ValueId x = writer.AddInput("in put", {DType::kF32, {2}});
  ASSERT_OK_AND_ASSIGN(const ValueId a, writer.Emit(Op::kNeg, "same", {x}));
  ASSERT_OK_AND_ASSIGN(const ValueId b, writer.Emit(Op::kNeg, "same", {a}));
  ASSERT_OK_AND_ASSIGN(const ValueId c, writer.Emit(Op::kNeg, "same", {b}));
  ASSERT_OK_AND_ASSIGN(const GraphWriter::Finished finished, writer.Finish({{"same", c}}));
  const Graph& graph = finished.graph;
  EXPECT_EQ(graph[graph.inputs[0]].name, "in_put");
  EXPECT_EQ(graph[graph.outputs[0]].name, "same");
  EXPECT_EQ(graph[graph.nodes[0].outputs[0]].name, "same_1");
  EXPECT_EQ(graph[graph.nodes[1].outputs[0]].name, "same_2");
  EXPECT_EQ(SanitizedName(""), "_");
  EXPECT_EQ(SanitizedName("a b%c/d:e"), "a_b_c/d:e");
}

TEST(GraphWriterTest, DropsWhatNoOutputNeeds) {
  GraphWriter writer("g");
  const ValueId x = writer.AddInput("x", {DType::kF32, {2}});
  ConstantOrigin origin = {.name = "used"};
  writer.AddConstant("unused", Tensor(DType::kF32, {2}));
  const ValueId c = writer.AddConstant("used", Tensor(DType::kF32, {2}), origin);
  ASSERT_OK(writer.Emit(Op::kNeg, "dead", {x}));
  ASSERT_OK_AND_ASSIGN(const ValueId y, writer.Emit(Op::kAdd, "y", {x, c}));
  ASSERT_OK_AND_ASSIGN(const GraphWriter::Finished finished, writer.Finish({{"y", y}}));
  EXPECT_EQ(finished.graph.nodes.size(), 1u);
  ASSERT_EQ(finished.graph.values.size(), 3u);
  ASSERT_EQ(finished.origins.size(), 3u);
  EXPECT_EQ(finished.origins[Index(finished.graph.nodes[0].inputs[1])].name, "used");
}

TEST(MaskFromTensorTest, ReadsMasksAndWidths) {
  ASSERT_OK_AND_ASSIGN(const Tensor plain, MaskFromTensor(Tensor::FromVector<float>({3}, {0, 1, 2.5})));
  EXPECT_EQ(plain, Tensor::FromVector<uint8_t>({3}, {0, kOwnWidth, kOwnWidth}));
  ASSERT_OK_AND_ASSIGN(const Tensor widths, MaskFromTensor(Tensor::FromVector<int32_t>({3}, {0, 8, 1})));
  EXPECT_EQ(widths, Tensor::FromVector<uint8_t>({3}, {0, 8, 1}));
  EXPECT_THAT(MaskFromTensor(Tensor::FromVector<int32_t>({1}, {65})), StatusIs(ErrorCode::kTesaInvalid));
  EXPECT_THAT(MaskFromTensor(Tensor::FromVector<int32_t>({1}, {-1})), StatusIs(ErrorCode::kTesaInvalid));
}

}  // namespace
}  // namespace tessera
