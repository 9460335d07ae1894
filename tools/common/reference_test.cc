#include "tools/common/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "graph/builder.h"

namespace tessera {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

Graph Halves(DType dtype = DType::kF32) {
  GraphBuilder b("halves");
  const ValueId x = b.Input("x", dtype, {4});
  b.Output(b.Mul(x, b.Number(0.5, dtype)));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *graph;
}

TEST(ReferenceTest, ComputesKeepsAndFindsAgain) {
  const std::string folder = testing::TempDir() + "/reference_test";
  std::filesystem::remove_all(folder);
  const std::vector<Tensor> inputs = {Tensor::FromVector<float>({4}, {1, 2, 3, 4})};
  const Tensor expected = Tensor::FromVector<double>({4}, {0.5, 1, 1.5, 2});
  for (int repeat = 0; repeat < 2; ++repeat) {
    StatusOr<std::vector<Tensor>> outputs = Reference(Halves(), inputs, folder);
    ASSERT_TRUE(outputs.ok()) << outputs.status();
    EXPECT_EQ((*outputs)[0], expected);
  }
  std::filesystem::directory_iterator file(folder);
  const std::string path = file->path();
  EXPECT_EQ(++file, std::filesystem::directory_iterator());  // one entry for both runs
  // A damaged entry is computed anew, not believed.
  std::string bytes = *ReadFile(path);
  bytes.back() ^= 1;
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  EXPECT_EQ((*Reference(Halves(), inputs, folder))[0], expected);
  // Other inputs have another key.
  EXPECT_EQ((*Reference(Halves(), std::vector<Tensor>{Tensor::Full(DType::kF32, {4}, 2)}, folder))[0],
            Tensor::Full(DType::kF64, {4}, 1));
  EXPECT_EQ((*Reference(Halves(), inputs, ""))[0], expected);
}

TEST(ReferenceTest, Differences) {
  const Tensor reference = Tensor::FromVector<double>({4}, {1, -10, 0, 2});
  Difference d = Compare(Tensor::FromVector<float>({4}, {1, -9.5f, 0, 2}), reference);
  EXPECT_DOUBLE_EQ(d.absolute, 0.5);
  EXPECT_DOUBLE_EQ(d.relative, 0.05);
  EXPECT_EQ(d.worst, 1);
  EXPECT_EQ(Compare(reference, reference).relative, 0);
  EXPECT_EQ(Compare(Tensor::FromVector<float>({4}, {1, -10, NAN, 2}), reference).relative, kInf);
  EXPECT_EQ(Compare(Tensor::FromVector<float>({4}, {INFINITY, -10, 0, 2}), reference).relative, kInf);
  const Tensor odd = Tensor::FromVector<double>({2}, {NAN, kInf});
  EXPECT_EQ(Compare(odd, odd).relative, 0);
  EXPECT_DOUBLE_EQ(Compare(Tensor::Full(DType::kF32, {2}, 0.25), Tensor::Full(DType::kF64, {2}, 0)).relative, 0.25);
}

TEST(ReferenceTest, BoundsFollowTheTypesComputedWith) {
  EXPECT_EQ(ErrorBound(Halves()), 1e-4);
  EXPECT_EQ(ErrorBound(Halves(DType::kF16)), 1e-2);
  EXPECT_EQ(ErrorBound(Halves(DType::kBF16)), 1e-1);
  GraphBuilder b("integers");
  const ValueId x = b.Input("x", DType::kI32, {4});
  b.Output(b.Add(x, x));
  EXPECT_EQ(ErrorBound(*std::move(b).Build()), 0);
}

}  // namespace
}  // namespace tessera
