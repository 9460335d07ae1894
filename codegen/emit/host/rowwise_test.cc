// Rows of all lengths, along and across vectors, against the interpreter in double. tests/conformance adds types and
// epilogues.
#include <gtest/gtest.h>

#include <cmath>

#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

void Check(const Graph& graph) {
  const std::vector<Tensor> inputs = RandomInputs(graph, 9);
  for (const std::string& level : RunnableLevels()) {
    EXPECT_TRUE(CompiledAgrees(graph, inputs, level, {.only_emitter = "rowwise"}, 1e-5)) << graph.name;
  }
}

TEST(RowwiseTest, RowsOfAllLengths) {
  for (int64_t length : {1, 3, 16, 31, 80, 128, 129, 384, 385, 1001, 3000}) {
    GraphBuilder b("rows of " + std::to_string(length));
    const ValueId x = b.Input("x", DType::kF32, {5, length});
    const ValueId scale = b.Input("scale", DType::kF32, {length}), bias = b.Input("bias", DType::kF32, {length});
    const ValueId wide = b.Mul(x, b.Number(20));
    b.Output(b.Softmax(wide, 1));
    b.Output(b.LogSoftmax(wide, 1));
    b.Output(b.LayerNorm(wide, scale, bias, 1));
    Check(Built(std::move(b)));
  }
}

TEST(RowwiseTest, RowsAcrossVectors) {
  for (int64_t inner : {2, 15, 16, 33, 70}) {
    GraphBuilder b("columns of " + std::to_string(inner));
    const ValueId x = b.Mul(b.Input("x", DType::kF32, {3, 9, inner, 2}), b.Number(20));
    b.Output(b.Softmax(x, 1));
    b.Output(b.LogSoftmax(x, 2));
    Check(Built(std::move(b)));
  }
}

// An epilogue's operand may be the row itself, which must then not be overwritten too early.
TEST(RowwiseTest, EpilogueThatReadsTheRowAgain) {
  for (int64_t length : {20, 400}) {
    GraphBuilder b("again");
    const ValueId x = b.Neg(b.Input("x", DType::kF32, {7, length}));
    const ValueId normal = b.LayerNorm(x, ValueId::kNone, ValueId::kNone, 1);
    BodyBuilder body;
    const Scalar result = body.Input(DType::kF32), residual = body.Input(DType::kF32);
    b.Output(b.Abs(b.WithEpilogue(normal, body.Finish(result + residual), {x}, DType::kF32)));
    Check(Built(std::move(b)));
  }
}

TEST(RowwiseTest, LargeAndInfiniteElements) {
  GraphBuilder b("extremes");
  const ValueId x = b.Input("x", DType::kF32, {4, 40});
  b.Output(b.Softmax(x, 1));
  b.Output(b.Softmax(x, 0));
  const Graph graph = Built(std::move(b));
  Tensor tensor(DType::kF32, {4, 40});
  for (int64_t k = 0; k < 160; ++k) tensor.Set(k, k % 3 == 0 ? -INFINITY : (k % 2 == 0 ? -1e30 : 3e4 + k));
  for (const std::string& level : RunnableLevels()) {
    EXPECT_TRUE(CompiledAgrees(graph, std::vector<Tensor>{tensor}, level, {.only_emitter = "rowwise"}, 1e-5));
  }
}

}  // namespace
}  // namespace tessera
