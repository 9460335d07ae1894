#include "graph/interpreter.h"

#include "gmock/gmock.h"
#include "graph/builder.h"
#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tensor F32(Shape shape, const std::vector<float>& values) {
  return Tensor::FromVector<float>(std::move(shape), values);
}

// y = relu(x w + b), z = y + y, and x once more.
Graph SmallGraph() {
  GraphBuilder b("small");
  const ValueId x = b.Input("x", DType::kF32, {1, 2});
  const ValueId sum =
      b.Add(b.Matmul(x, b.Constant("w", F32({2, 2}, {1, 2, 3, 4}))), b.Constant("b", F32({2}, {0, -100})));
  const ValueId y = b.Relu(sum);
  b.Output(b.Add(y, y));
  b.Output(x);
  StatusOr<Graph> graph = std::move(b).Build();
  EXPECT_TRUE(graph.ok()) << graph.status();
  return *std::move(graph);
}

TEST(InterpreterTest, RunsNodesInOrder) {
  for (Interpretation how : {Interpretation::kReference, Interpretation::kCompute}) {
    const auto outputs = Interpret(SmallGraph(), std::vector<Tensor>{F32({1, 2}, {1, 10})}, how);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    EXPECT_THAT(outputs->at(0).f, ElementsAre(62, 0));
    EXPECT_THAT(outputs->at(1).f, ElementsAre(1, 10));
  }
}

TEST(InterpreterTest, AllValuesAreKeptOnRequest) {
  const Graph graph = SmallGraph();
  const auto values = InterpretAll(graph, std::vector<Tensor>{F32({1, 2}, {1, 10})});
  ASSERT_TRUE(values.ok()) << values.status();
  ASSERT_EQ(values->size(), graph.values.size());
  for (size_t k = 0; k < values->size(); ++k) EXPECT_EQ((*values)[k].type, graph.values[k].type);
  EXPECT_THAT((*values)[Index(graph.FindValue("matmul"))].f, ElementsAre(31, 42));
  EXPECT_THAT((*values)[Index(graph.FindValue("w"))].f, ElementsAre(1, 2, 3, 4));
}

TEST(InterpreterTest, NamesTheInputThatDoesNotFit) {
  const Graph graph = SmallGraph();
  EXPECT_EQ(Interpret(graph, {}).status().code(), ErrorCode::kInputMissing);
  const auto shape = Interpret(graph, std::vector<Tensor>{F32({2}, {1, 10})});
  EXPECT_EQ(shape.status().code(), ErrorCode::kShapeMismatch);
  EXPECT_THAT(shape.status().message(), HasSubstr("input 'x': expected f32[1,2], found f32[2]"));
  EXPECT_EQ(Interpret(graph, std::vector<Tensor>{Tensor(DType::kF64, {1, 2})}).status().code(),
            ErrorCode::kTypeMismatch);
}

TEST(InterpreterTest, ReportsAValueThatIsReadBeforeItIsComputed) {
  Graph graph = SmallGraph();
  std::swap(graph.nodes[0], graph.nodes[1]);
  const auto result = Interpret(graph, std::vector<Tensor>{F32({1, 2}, {1, 10})});
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.status().message(), HasSubstr("'matmul' to be computed before it is read"));
}

TEST(InterpreterTest, EpilogueReadsWhatTheOpStores) {
  GraphBuilder b("narrow");
  const ValueId x = b.Input("x", DType::kI8, {2}), bias = b.Input("bias", DType::kF32, {});
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kI8), shift = body.Input(DType::kF32);
  b.Output(b.WithEpilogue(b.Add(x, x), body.Finish(body.Cast(sum, DType::kF32) + shift), {bias}, DType::kF32));
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<Tensor> inputs = {Tensor::FromVector<int8_t>({2}, {100, 3}), F32({}, {0.5})};
  for (Interpretation how : {Interpretation::kReference, Interpretation::kCompute}) {
    EXPECT_THAT(Interpret(*graph, inputs, how)->at(0).f, ElementsAre(-55.5, 6.5));  // 200 wraps to -56
  }
}

// Both interpretations of every op, with and without an epilogue.
TEST(InterpreterTest, ReferenceAndComputeAgree) {
  std::mt19937_64 rng(11);
  for (const OpDef& def : AllOps()) {
    for (int n = 0; n < 20; ++n) {
      RandomCase c = RandomNode(def.op, rng);
      if (n % 2 == 1) AddRandomEpilogue(c, rng);
      const auto expected = Interpret(c.graph, c.inputs);
      const auto actual = Interpret(c.graph, c.inputs, Interpretation::kCompute);
      ASSERT_TRUE(expected.ok() && actual.ok()) << def.name << ": " << expected.status() << actual.status();
      const Status near = CompareRefs(expected->at(0), actual->at(0));
      EXPECT_TRUE(near.ok()) << def.name << ": " << near;
    }
  }
}

}  // namespace
}  // namespace tessera
