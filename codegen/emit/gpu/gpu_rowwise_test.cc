// Rows of all lengths, along and across memory, in lanes, warps and blocks, against the interpreter in double.
// tests/conformance adds types and epilogues.
#include <cmath>

#include "codegen/emit/testing/gpu_kernels.h"
#include "codegen/emitter.h"
#include "graph/builder.h"
#include "gtest/gtest.h"
#include "tesa/random.h"

namespace tessera {
namespace {

void Check(const Graph& graph, double allowed = 1e-5) {
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_rowwise", allowed));
}

TEST(GpuRowwiseTest, RowsOfAllLengths) {
  for (int64_t length : {1, 3, 16, 31, 80, 128, 129, 384, 385, 1001, 3000, 8192}) {
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

// Many rows take a warp each, and the last block has warps without one.
TEST(GpuRowwiseTest, ManyRows) {
  for (int64_t length : {20, 256, 1000}) {
    GraphBuilder b("many rows of " + std::to_string(length));
    const ValueId x = b.Mul(b.Input("x", DType::kF32, {4301, length}), b.Number(10));
    b.Output(length == 256 ? b.LayerNorm(x, ValueId::kNone, ValueId::kNone, 1) : b.Softmax(x, 1));
    Check(Built(std::move(b)));
  }
}

// A product's shares are added by the step that normalises its rows.
TEST(GpuRowwiseTest, RowsOfShares) {
  const Target target = *MakeTarget("simt:nvptx:sm_90");
  int tried = 0;
  for (DType type : {DType::kF32, DType::kF16}) {
    for (int64_t columns : {50, 96, 776}) {
      GraphBuilder b(internal::Join(Name(type), " shares of rows of ", columns));
      Random random(5);
      const ValueId x = b.Input("x", type, {13, 520});
      const ValueId w = b.Constant("w", RandomTensorIn(random, {type, {520, columns}}, -0.1, 0.1));
      BodyBuilder body;
      const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32), residual = body.Input(DType::kF32);
      const ValueId product =
          b.WithEpilogue(b.Matmul(x, w), body.Finish(sum + bias + residual),
                         {b.Input("bias", type, {columns}), b.Input("residual", type, {13, columns})}, type);
      b.Output(b.LayerNorm(product, b.Input("scale", type, {columns}), b.Input("shift", type, {columns}), 1));
      const Graph graph = Built(std::move(b));
      for (const Choice& choice : RankWays(graph, graph.nodes[0], target, {}, nullptr)) {
        if (choice.way.name.find(" split ") == std::string::npos) continue;
        const std::string name = choice.ToString();
        const StatusOr<Plan> plan = MakePlan(graph, target, {.only_emitter = name});
        ASSERT_TRUE(plan.ok()) << plan.status();
        EXPECT_EQ(plan->steps.size(), 2u) << name;
        EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), "simt:nvptx:sm_90", {.only_emitter = name},
                                   type == DType::kF32 ? 1e-5 : 3e-3))
            << name;
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 6);
}

TEST(GpuRowwiseTest, HalfRows) {
  for (int64_t length : {7, 64, 776, 1500}) {
    GraphBuilder b("half rows of " + std::to_string(length));
    const ValueId x = b.Input("x", DType::kF16, {9, length});
    b.Output(b.Softmax(x, 1));
    b.Output(b.LayerNorm(x, ValueId::kNone, ValueId::kNone, 1));
    Check(Built(std::move(b)), 2e-3);
  }
}

TEST(GpuRowwiseTest, NormsOverSeveralAxes) {
  GraphBuilder b("axes");
  const ValueId x = b.Input("x", DType::kF32, {3, 5, 6, 12});
  const ValueId scale = b.Input("scale", DType::kF32, {6, 12});
  const ValueId normal = b.LayerNorm(x, scale, ValueId::kNone, 2);
  BodyBuilder body;
  const Scalar result = body.Input(DType::kF32), bias = body.Input(DType::kF32);
  b.Output(
      b.WithEpilogue(normal, body.Finish(Max(result + bias, 0.0)), {b.Input("bias", DType::kF32, {12})}, DType::kF32));
  Check(Built(std::move(b)));
}

TEST(GpuRowwiseTest, RowsAcrossMemory) {
  for (int64_t inner : {2, 15, 33, 70}) {
    GraphBuilder b("columns of " + std::to_string(inner));
    const ValueId x = b.Mul(b.Input("x", DType::kF32, {3, 9, inner, 2}), b.Number(20));
    b.Output(b.Softmax(x, 1));
    b.Output(b.LogSoftmax(x, 2));
    Check(Built(std::move(b)));
  }
}

// An epilogue's operand may be the row itself, which must then not be overwritten too early.
TEST(GpuRowwiseTest, EpilogueThatReadsTheRowAgain) {
  for (int64_t length : {20, 400, 2000}) {
    GraphBuilder b("again");
    const ValueId x = b.Neg(b.Input("x", DType::kF32, {7, length}));
    const ValueId normal = b.LayerNorm(x, ValueId::kNone, ValueId::kNone, 1);
    BodyBuilder body;
    const Scalar result = body.Input(DType::kF32), residual = body.Input(DType::kF32);
    b.Output(b.Abs(b.WithEpilogue(normal, body.Finish(result + residual), {x}, DType::kF32)));
    Check(Built(std::move(b)));
  }
}

TEST(GpuRowwiseTest, LargeAndInfiniteElements) {
  GraphBuilder b("extremes");
  const ValueId x = b.Input("x", DType::kF32, {4, 40});
  b.Output(b.Softmax(x, 1));
  b.Output(b.Softmax(x, 0));
  const Graph graph = Built(std::move(b));
  Tensor tensor(DType::kF32, {4, 40});
  for (int64_t k = 0; k < 160; ++k) tensor.Set(k, k % 3 == 0 ? -INFINITY : (k % 2 == 0 ? -1e30 : 3e4 + k));
  EXPECT_TRUE(AgreesOnGpu(graph, std::vector<Tensor>{tensor}, "gpu_rowwise", 1e-5));
}

TEST(GpuRowwiseTest, ARowIsLoadedBySixteenBytesOnce) {
  GraphBuilder b("bert");
  const ValueId x = b.Input("x", DType::kF32, {128, 768});
  b.Output(b.LayerNorm(x, b.Input("scale", DType::kF32, {768}), b.Input("bias", DType::kF32, {768}), 1));
  const StatusOr<std::string> text = PtxOf(Built(std::move(b)), "cuda:sm_90", "gpu_rowwise");
  ASSERT_TRUE(text.ok()) << text.status();
  for (const char* part : {"ld.global.v4.f32", "st.global.v4.f32", "shfl.sync.bfly"}) {
    EXPECT_NE(std::string::npos, text->find(part)) << part << " in\n" << *text;
  }
  EXPECT_EQ(std::string::npos, text->find("ld.global.f32")) << *text;
}

}  // namespace
}  // namespace tessera
