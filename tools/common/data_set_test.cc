#include "tools/common/data_set.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "graph/builder.h"
#include "models/import/npy.h"
#include "tesa/random.h"

namespace tessera {
namespace {

class DataSetTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/data_set";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ + "/many");
  }
  void Write(const std::string& name, const Tensor& tensor) {
    const Status status = WriteNpy(folder_ + "/" + name, tensor);
    TES_CHECK(status.ok(), status);
  }
  // x: f32[2,3] and, where asked, ids: i64[4].
  static Graph Network(bool two) {
    GraphBuilder b("g");
    b.Output(b.Relu(b.Input("x", DType::kF32, {2, 3})));
    if (two) b.Output(b.Neg(b.Input("ids", DType::kI64, {4})));
    return *std::move(b).Build();
  }
  std::string folder_;
};

std::vector<std::vector<Tensor>> All(DataSet& data) {
  std::vector<std::vector<Tensor>> samples;
  std::vector<Tensor> inputs;
  while (*data.Next(inputs)) samples.push_back(inputs);
  return samples;
}

Tensor Counted(const Shape& shape, double from = 0) {
  Tensor tensor(DType::kF32, shape);
  for (int64_t k = 0; k < tensor.num_elements(); ++k) tensor.Set(k, from + static_cast<double>(k));
  return tensor;
}

TEST_F(DataSetTest, OneArrayHoldsOneSampleOrMany) {
  const Graph graph = Network(false);
  for (const auto& [shape, count] : {std::pair{Shape{2, 3}, 1}, {Shape{5, 2, 3}, 5}, {Shape{7, 3}, 3}}) {
    Write("x.npy", Counted(shape));
    auto data = OpenDataSet(graph, folder_ + "/x.npy", FashionSplit::kTrain);
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_EQ(data->size(), count);
    const auto samples = All(*data);
    ASSERT_EQ(samples.size(), static_cast<size_t>(count));
    for (int64_t s = 0; s < count; ++s) {
      EXPECT_EQ(samples[static_cast<size_t>(s)][0], Counted({2, 3}, 6.0 * static_cast<double>(s)));
    }
    data->Rewind();
    EXPECT_EQ(All(*data).size(), static_cast<size_t>(count));
  }
  Write("x.npy", Counted({2, 3}).Cast(DType::kF64));
  EXPECT_TRUE(OpenDataSet(graph, folder_ + "/x.npy", FashionSplit::kTrain).ok());
}

TEST_F(DataSetTest, FoldersAndLists) {
  const Graph graph = Network(false);
  Write("many/b.npy", Counted({2, 2, 3}, 6));
  Write("many/a.npy", Counted({2, 3}));
  ASSERT_TRUE(WriteFileAtomically(folder_ + "/list.txt", "many/a.npy\r\n\nmany/b.npy\n").ok());
  for (const char* spec : {"/many", "/list.txt"}) {
    auto data = OpenDataSet(graph, folder_ + spec, FashionSplit::kTrain);
    ASSERT_TRUE(data.ok()) << data.status();
    const auto samples = All(*data);
    ASSERT_EQ(samples.size(), 3u);
    EXPECT_EQ(samples[2][0], Counted({2, 3}, 12));
  }
  // Named after inputs: one file for each.
  const Graph two = Network(true);
  Write("many/x.npy", Counted({3, 2, 3}));
  Write("many/ids.npy", Tensor(DType::kI64, {3, 4}));
  auto data = OpenDataSet(two, folder_ + "/many", FashionSplit::kTrain);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->size(), 3);
}

TEST_F(DataSetTest, RandomSamplesAreSeeded) {
  const Graph graph = Network(true);
  auto a = OpenDataSet(graph, "random:5:3", FashionSplit::kTrain), b = OpenDataSet(graph, "random:5:3", {});
  auto c = OpenDataSet(graph, "random:6", FashionSplit::kTrain);
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(c->size(), 16);
  const auto left = All(*a), right = All(*b);
  ASSERT_EQ(left.size(), 3u);
  for (size_t k = 0; k < 3; ++k) EXPECT_EQ(left[k], right[k]);
  EXPECT_FALSE(left[0] == left[1]);
}

TEST_F(DataSetTest, WhatIsWrongIsNamed) {
  const Graph graph = Network(false), two = Network(true);
  const auto code = [&](const Graph& g, const std::string& spec) {
    return OpenDataSet(g, spec, FashionSplit::kTrain).status().code();
  };
  for (const char* spec : {"random", "random:", "random:x", "random:1:0", "random:1:2:3", "fashion:none", "fashion:0"})
    EXPECT_EQ(code(graph, spec), ErrorCode::kUsageInvalid) << spec;
  EXPECT_EQ(code(graph, folder_ + "/gone.npy"), ErrorCode::kFileNotFound);
  EXPECT_EQ(code(graph, folder_ + "/many"), ErrorCode::kInputMissing);
  Write("wrong.npy", Counted({2, 4}));
  EXPECT_EQ(code(graph, folder_ + "/wrong.npy"), ErrorCode::kShapeMismatch);
  Write("wrong.npy", Tensor(DType::kI32, {2, 3}));
  EXPECT_EQ(code(graph, folder_ + "/wrong.npy"), ErrorCode::kTypeMismatch);
  Write("many/x.npy", Counted({3, 2, 3}));
  EXPECT_EQ(code(two, folder_ + "/many"), ErrorCode::kInputMissing);
  Write("many/ids.npy", Tensor(DType::kI64, {2, 4}));
  EXPECT_EQ(code(two, folder_ + "/many"), ErrorCode::kShapeMismatch);
}

TEST_F(DataSetTest, AccuracyCountsTheLargest) {
  GraphBuilder b("classes");
  b.Output(b.Neg(b.Input("x", DType::kF32, {2, 3})));
  const Graph graph = *std::move(b).Build();
  Random random(1);
  const Tensor x = RandomTensor(random, {DType::kF32, {40, 3}});
  Tensor labels(DType::kI32, {40});
  int64_t expected = 0;
  for (int64_t row = 0; row < 40; ++row) {
    int64_t smallest = 0;
    for (int64_t c = 1; c < 3; ++c) {
      if (x.Get(3 * row + c) < x.Get(3 * row + smallest)) smallest = c;
    }
    labels.SetInt(row, random.Int(0, 2));
    expected += labels.GetInt(row) == smallest;
  }
  Write("many/x.npy", x);
  Write("many/labels.npy", labels);
  auto data = OpenDataSet(graph, folder_ + "/many", FashionSplit::kTest);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->labels().size(), 40u);
  for (int round = 0; round < 2; ++round) EXPECT_EQ(*CountRight(graph, *data, 1), expected);
  const Graph flat = Network(false);
  Write("only.npy", x);
  auto unlabelled = OpenDataSet(flat, folder_ + "/only.npy", FashionSplit::kTest);
  EXPECT_EQ(CountRight(flat, *unlabelled, 1).status().code(), ErrorCode::kShapeMismatch);
}

}  // namespace
}  // namespace tessera
