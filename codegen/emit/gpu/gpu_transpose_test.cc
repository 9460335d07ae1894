// Transpositions of odd sizes and all element widths, with epilogues, against the interpreter in double.
#include "codegen/emit/testing/gpu_kernels.h"
#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

void Check(const Graph& graph, double allowed = 0) {
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_transpose", allowed));
}

TEST(GpuTransposeTest, MatricesOfAllSizes) {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{1, 40}, {32, 32}, {33, 65}, {5, 300}, {128, 96}, {257, 3}}) {
    GraphBuilder b(internal::Join("matrix ", rows, "x", columns));
    b.Output(b.Transpose(b.Input("x", DType::kF32, {2, rows, columns}), {0, 2, 1}));
    if (rows > 1) Check(Built(std::move(b)));
  }
}

TEST(GpuTransposeTest, ElementsOfEveryWidth) {
  for (DType type : {DType::kU8, DType::kF16, DType::kI32, DType::kF64}) {
    GraphBuilder b(internal::Join("elements ", Name(type)));
    const ValueId x = b.Input("x", type, {3, 37, 5, 50});
    b.Output(b.Transpose(x, {0, 3, 1, 2}));
    b.Output(b.Transpose(x, {3, 2, 1, 0}));
    b.Output(b.Transpose(x, {2, 0, 3, 1}));
    Check(Built(std::move(b)));
  }
}

TEST(GpuTransposeTest, Epilogues) {
  GraphBuilder b("epilogues");
  const ValueId x = b.Input("x", DType::kF32, {2, 45, 70});
  BodyBuilder with_operand;
  const Scalar value = with_operand.Input(DType::kF32), bias = with_operand.Input(DType::kF32);
  b.Output(b.WithEpilogue(b.Transpose(x, {0, 2, 1}), with_operand.Finish(value + bias),
                          {b.Input("bias", DType::kF32, {45})}, DType::kF32));
  BodyBuilder narrow;
  const Scalar wide = narrow.Input(DType::kF32);
  b.Output(b.WithEpilogue(b.Transpose(x, {2, 1, 0}), narrow.Finish(narrow.Narrow(Max(wide, 0.0), DType::kF16)), {},
                          DType::kF16));
  Check(Built(std::move(b)), 2e-3);
}

}  // namespace
}  // namespace tessera
