#include "graph/builder.h"

#include <set>

#include "gmock/gmock.h"
#include "graph/interpreter.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(GraphBuilderTest, MakesAGraphInOrder) {
  GraphBuilder b("net");
  const ValueId x = b.Input("x", DType::kF32, {1, 4});
  const ValueId w = b.Constant("w", Tensor(DType::kF32, {3, 4}));
  const ValueId h = b.Named("fc").Matmul(x, w, false, true);
  EXPECT_EQ(b.ShapeOf(h), (Shape{1, 3}));
  b.Output(b.Relu(h));
  b.SetMetadata("source", "test");
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->name, "net");
  ASSERT_EQ(graph->nodes.size(), 2u);
  EXPECT_EQ(graph->nodes[0].name, "fc");
  EXPECT_EQ(graph->nodes[0].attrs.Int("transpose_b"), 1);
  EXPECT_FALSE(graph->nodes[0].attrs.Has("transpose_a"));
  EXPECT_EQ((*graph)[graph->outputs[0]].name, "relu");
  EXPECT_EQ(graph->metadata["source"], "test");
}

TEST(GraphBuilderTest, NamesAreUnique) {
  GraphBuilder b("names");
  ValueId x = b.Input("relu_1", DType::kF32, {2});
  for (int n = 0; n < 4; ++n) x = b.Relu(x);
  x = b.Named("relu").Relu(x);
  b.Output(b.Add(b.Add(x, b.Number(1)), b.Number(1)));
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::set<std::string> names;
  for (const Value& value : graph->values) EXPECT_TRUE(names.insert(value.name).second) << value.name;
  for (const Node& node : graph->nodes) EXPECT_EQ(node.name, (*graph)[node.outputs[0]].name);
}

TEST(GraphBuilderTest, TheFirstErrorIsTheOneThatCounts) {
  GraphBuilder b("bad");
  const ValueId x = b.Input("x", DType::kF32, {2, 3});
  const ValueId y = b.Named("first").Matmul(x, x);
  EXPECT_EQ(y, ValueId::kNone);
  EXPECT_EQ(b.Named("second").Softmax(y, 5), ValueId::kNone);
  EXPECT_EQ(b.TypeOf(y), TensorType());
  b.Output(y);
  const Status status = std::move(b).Build().status();
  EXPECT_EQ(status.code(), ErrorCode::kShapeMismatch);
  EXPECT_THAT(status.message(), HasSubstr("node 'first' (matmul)"));
}

TEST(GraphBuilderTest, RejectsWhatNoGraphHas) {
  GraphBuilder no_output("none");
  no_output.Input("x", DType::kF32, {1});
  EXPECT_THAT(std::move(no_output).Build().status().message(), HasSubstr("at least one output"));
  GraphBuilder foreign("foreign");
  EXPECT_EQ(foreign.Relu(static_cast<ValueId>(3)), ValueId::kNone);
  EXPECT_THAT(foreign.status().message(), HasSubstr("found id 3"));
  GraphBuilder huge("huge");
  EXPECT_EQ(huge.Input("x", DType::kF32, {-1}), ValueId::kNone);
  EXPECT_THAT(huge.status().message(), HasSubstr("input 'x'"));
}

TEST(GraphBuilderTest, TheGraphIsVerified) {
  GraphBuilder b("tesa");
  const ValueId w = b.Constant("w", Tensor(DType::kF32, {2, 3}));
  b.SetTesa(w, Attribute::Dense({3, 2}, 32));
  b.Output(b.Relu(w));
  EXPECT_THAT(std::move(b).Build().status().message(), HasSubstr("w"));
}

TEST(GraphBuilderTest, AnEpilogueGoesToTheLatestNode) {
  const auto body = [](DType dtype) {
    BodyBuilder b;
    return b.Finish(Max(b.Input(dtype), 0.0));
  };
  GraphBuilder b("epilogue");
  const ValueId x = b.Input("x", DType::kF32, {2});
  const ValueId y = b.WithEpilogue(b.Neg(x), body(DType::kF32), {}, DType::kF16);
  EXPECT_EQ(b.TypeOf(y), (TensorType{DType::kF16, {2}}));
  EXPECT_EQ(b.WithEpilogue(y, body(DType::kF32), {}, DType::kF16), ValueId::kNone);  // has one
  GraphBuilder wrong("wrong");
  const ValueId z = wrong.Neg(wrong.Input("x", DType::kI32, {2}));
  EXPECT_EQ(wrong.WithEpilogue(z, body(DType::kF32), {}, DType::kF32), ValueId::kNone);
  EXPECT_EQ(wrong.status().code(), ErrorCode::kTypeMismatch);
}

// One call of each convenience that sets parameters: names and kinds are those of the ops' rows, or the types would not
// infer. The shapes tell that the parameters arrived.
TEST(GraphBuilderTest, EveryOpWithParametersCanBeBuilt) {
  GraphBuilder b("all");
  const ValueId x = b.Input("x", DType::kF32, {1, 4, 6, 6}), m = b.Input("m", DType::kF32, {4, 6});
  const ValueId v = b.Input("v", DType::kF32, {4}), i = b.Input("i", DType::kI64, {3});
  const ValueId scale = b.Number(0.1);
  const auto shape = [&](ValueId id) {
    EXPECT_TRUE(b.status().ok()) << b.status();
    if (id != ValueId::kNone) b.Output(id);
    return b.ShapeOf(id).dims();
  };
  for (ValueId y : {b.LeakyRelu(m), b.Elu(m), b.HardSigmoid(m), b.Gelu(m), b.Gelu(m, true), b.Selu(m), b.Softplus(m),
                    b.Clip(m, 0, 6), b.Clip(m, {}, 1), b.IsInf(m), b.Cast(m, DType::kI8), b.Mod(m, m, true),
                    b.Where(b.Less(m, m), m, m), b.Softmax(m, 1), b.LogSoftmax(m, 0), b.Prelu(m, scale),
                    b.LayerNorm(m, ValueId::kNone, ValueId::kNone, 1)}) {
    EXPECT_THAT(shape(y), ElementsAre(4, 6));
  }
  const ValueId q = b.Quantize(m, scale, ValueId::kNone, DType::kI8);
  EXPECT_EQ(b.TypeOf(q), (TensorType{DType::kI8, {4, 6}}));
  EXPECT_THAT(shape(b.Dequantize(q, v, ValueId::kNone, 0)), ElementsAre(4, 6));
  EXPECT_THAT(shape(b.Conv(x, b.Constant("w", Tensor(DType::kF32, {8, 1, 3, 3})),
                           {.strides = {2, 2}, .pads = {1, 1, 1, 1}}, 4)),
              ElementsAre(1, 8, 3, 3));
  EXPECT_THAT(shape(b.Attention(x, x, x, 0.5)), ElementsAre(1, 4, 6, 6));
  EXPECT_THAT(shape(b.MaxPool(x, {2, 3})), ElementsAre(1, 4, 5, 4));
  EXPECT_THAT(shape(b.AvgPool(x, {3, 3}, {.strides = {2, 2}}, true, true)), ElementsAre(1, 4, 3, 3));
  EXPECT_THAT(shape(b.Resize(x, {1, 4, 12, 3}, "linear", "half_pixel")), ElementsAre(1, 4, 12, 3));
  EXPECT_THAT(shape(b.Reduce(Op::kReduceMean, x, {2, 3}, false)), ElementsAre(1, 4));
  EXPECT_THAT(shape(b.ArgMax(m, 1)), ElementsAre(4, 1));
  EXPECT_THAT(shape(b.ArgMin(m, 0, false)), ElementsAre(6));
  EXPECT_THAT(shape(b.BatchNorm(x, v, v, v, v)), ElementsAre(1, 4, 6, 6));
  EXPECT_THAT(shape(b.Reshape(m, {24})), ElementsAre(24));
  EXPECT_THAT(shape(b.Transpose(m, {1, 0})), ElementsAre(6, 4));
  EXPECT_THAT(shape(b.Expand(m, {2, 4, 6})), ElementsAre(2, 4, 6));
  EXPECT_THAT(shape(b.Tile(m, {2, 1})), ElementsAre(8, 6));
  EXPECT_THAT(shape(b.Slice(m, {1, 0}, {2, 3}, {1, 2})), ElementsAre(2, 3));
  EXPECT_THAT(shape(b.Slice(m, {1, 0}, {2, 3})), ElementsAre(2, 3));
  EXPECT_THAT(shape(b.Concat({m, m}, 1)), ElementsAre(4, 12));
  EXPECT_THAT(shape(b.Pad(m, {0, 1, 0, 1}, "edge")), ElementsAre(4, 8));
  EXPECT_THAT(shape(b.Gather(m, i, 1)), ElementsAre(4, 3));
  EXPECT_THAT(shape(b.GatherElements(b.Reshape(m, {24}), i, 0)), ElementsAre(3));
  const StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  std::vector<Tensor> inputs;
  for (ValueId id : graph->inputs) inputs.push_back(Tensor((*graph)[id].type.dtype, (*graph)[id].type.shape));
  const auto outputs = Interpret(*graph, inputs);
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  for (size_t k = 0; k < outputs->size(); ++k) EXPECT_EQ((*outputs)[k].type, (*graph)[graph->outputs[k]].type);
}

}  // namespace
}  // namespace tessera
