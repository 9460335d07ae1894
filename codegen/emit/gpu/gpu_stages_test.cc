// Stages as blocks of threads: element-wise chains, movements, pooling, reductions along and across memory, odd sizes,
// narrow types, against the interpreter in double. tests/conformance adds every op.
#include "codegen/emit/testing/gpu_kernels.h"
#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

void Check(const Graph& graph, double allowed = 1e-5) {
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_stages", allowed));
}

TEST(GpuStagesTest, ChainsOfEverySize) {
  for (int64_t columns : {1, 7, 64, 776, 4100}) {
    GraphBuilder b("chain of " + std::to_string(columns));
    const ValueId x = b.Input("x", DType::kF32, {33, columns}), y = b.Input("y", DType::kF32, {33, columns});
    const ValueId bias = b.Input("bias", DType::kF32, {columns}), row = b.Input("row", DType::kF32, {33, 1});
    b.Output(b.Gelu(b.Add(b.Mul(x, y), bias)));
    b.Output(b.Relu(b.Sub(x, row)));
    Check(Built(std::move(b)));
  }
}

TEST(GpuStagesTest, NarrowTypes) {
  for (int64_t columns : {5, 128, 2064}) {
    GraphBuilder b("narrow " + std::to_string(columns));
    const ValueId h = b.Input("h", DType::kF16, {9, columns}), bf = b.Input("bf", DType::kBF16, {9, columns});
    b.Output(b.Add(h, h));
    b.Output(b.Cast(bf, DType::kF32));
    Check(Built(std::move(b)), 2e-2);
  }
  GraphBuilder b("bytes");
  const ValueId i = b.Input("i", DType::kI8, {64, 400}), j = b.Input("j", DType::kI8, {64, 400});
  b.Output(b.Max(i, j));
  b.Output(b.Less(i, j));
  b.Output(b.Reduce(Op::kReduceMax, i, {1}));
  b.Output(b.Reduce(Op::kReduceSum, i, {0}));
  Check(Built(std::move(b)), 0);
}

TEST(GpuStagesTest, ReductionsAlongAndAcross) {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{1, 100003}, {3, 777}, {64, 64}, {5000, 40}, {2000, 3}}) {
    GraphBuilder b(internal::Join("reductions ", rows, "x", columns));
    const ValueId x = b.Input("x", DType::kF32, {rows, columns});
    b.Output(b.Reduce(Op::kReduceMean, x, {1}));
    b.Output(b.Reduce(Op::kReduceMax, x, {0}));
    b.Output(b.Reduce(Op::kReduceL2, x, {0, 1}));
    b.Output(b.ArgMax(x, 1));
    Check(Built(std::move(b)));
  }
}

TEST(GpuStagesTest, MeansOfPlanesAndPixels) {
  GraphBuilder b("means");
  const ValueId last = b.Input("last", DType::kF32, {2, 7, 7, 1024}),
                first = b.Input("first", DType::kF32, {2, 100, 7, 7});
  b.Output(b.Reduce(Op::kReduceMean, last, {1, 2}));
  b.Output(b.Reduce(Op::kReduceMean, first, {2, 3}));
  b.Output(b.Reduce(Op::kReduceSum, first, {1}));
  Check(Built(std::move(b)));
}

TEST(GpuStagesTest, Pooling) {
  for (int64_t channels : {3, 64}) {
    GraphBuilder b("pooling " + std::to_string(channels));
    const WindowParams last = {.strides = {2, 2}, .dilations = {}, .pads = {1, 1, 1, 1}, .layout = "nhwc"};
    const WindowParams first = {.strides = {2, 2}, .dilations = {}, .pads = {1, 1, 1, 1}, .layout = "nchw"};
    b.Output(b.MaxPool(b.Input("last", DType::kF32, {2, 15, 13, channels}), {3, 3}, last));
    b.Output(b.AvgPool(b.Input("first", DType::kF32, {2, channels, 15, 13}), {3, 3}, first));
    Check(Built(std::move(b)));
  }
}

TEST(GpuStagesTest, Movements) {
  GraphBuilder b("movements");
  const ValueId x = b.Input("x", DType::kF32, {6, 10, 64});
  b.Output(b.Concat({x, b.Neg(x)}, 1));
  b.Output(b.Slice(x, {1, 2, 4}, {3, 5, 32}));
  b.Output(b.Pad(x, {0, 1, 0, 0, 2, 3}));
  b.Output(b.Gather(x, b.Input("rows", DType::kI64, {17}), 1));
  Check(Built(std::move(b)));
}

TEST(GpuStagesTest, NeighboursAreLoadedBySixteenBytes) {
  GraphBuilder b("add");
  const ValueId x = b.Input("x", DType::kF32, {512, 768});
  b.Output(b.Add(x, b.Input("y", DType::kF32, {512, 768})));
  const StatusOr<std::string> text = PtxOf(Built(std::move(b)), "cuda:sm_90", "gpu_stages");
  ASSERT_TRUE(text.ok()) << text.status();
  for (const char* part : {"ld.global.v4.f32", "st.global.v4.f32"}) {
    EXPECT_NE(std::string::npos, text->find(part)) << part << " in\n" << *text;
  }
  EXPECT_EQ(std::string::npos, text->find("rem.u64")) << *text;
}

}  // namespace
}  // namespace tessera
