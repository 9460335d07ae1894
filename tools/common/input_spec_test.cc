#include "tools/common/input_spec.h"

#include <gtest/gtest.h>

#include "models/import/npy.h"

namespace tessera {
namespace {

ValueId AddInput(Graph& graph, const std::string& name, TensorType type) {
  Value value;
  value.name = name;
  value.type = std::move(type);
  value.kind = ValueKind::kInput;
  const ValueId id = graph.AddValue(std::move(value));
  graph.inputs.push_back(id);
  return id;
}

ValueId AddNode(Graph& graph, Op op, std::vector<ValueId> inputs, TensorType type, Attrs attrs = {}) {
  Value value;
  value.name = "v" + std::to_string(graph.values.size());
  value.type = std::move(type);
  const ValueId id = graph.AddValue(std::move(value));
  graph.nodes.push_back(
      {.op = op, .name = "n", .inputs = std::move(inputs), .outputs = {id}, .attrs = std::move(attrs), .epilogue = {}});
  return id;
}

Graph TwoInputs() {
  Graph graph;
  AddInput(graph, "x:0", {DType::kF32, {2, 2}});
  AddInput(graph, "ids", {DType::kI64, {3}});
  return graph;
}

TEST(InputSpecTest, NamesAndValues) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(SplitNamed("@x.npy"), Pair("", "@x.npy"));
  EXPECT_EQ(SplitNamed("x=@a=b.npy"), Pair("x", "@a=b.npy"));
  EXPECT_EQ(SplitNamed("2x2xf32=1 2 3 4"), Pair("", "2x2xf32=1 2 3 4"));
  EXPECT_EQ(SplitNamed("x:0=f32=3"), Pair("x:0", "f32=3"));
  EXPECT_EQ(SplitNamed("a=b=random:7"), Pair("a=b", "random:7"));
  EXPECT_EQ(SplitNamed("random"), Pair("", "random"));
  EXPECT_EQ(SplitNamed("x=what"), Pair("x", "what"));
}

TEST(InputSpecTest, Numbers) {
  EXPECT_EQ(*ParseValue("2x2xf32=1 2.5 -3,4e1", nullptr), Tensor::FromVector<float>({2, 2}, {1, 2.5f, -3, 40}));
  EXPECT_EQ(*ParseValue("f64=0.5", nullptr), Tensor::FromVector<double>({}, {0.5}));
  EXPECT_EQ(*ParseValue("3xi64=9007199254740993", nullptr),
            Tensor::FromVector<int64_t>({3}, {9007199254740993, 9007199254740993, 9007199254740993}));
  EXPECT_EQ(ParseValue("2xbool=true 0", nullptr)->GetInt(0), 1);
  EXPECT_EQ(ParseValue("0xf32=", nullptr)->num_elements(), 0);
}

TEST(InputSpecTest, BadValuesSayWhatWasExpected) {
  const TensorType type = {DType::kF32, {2, 2}};
  const std::vector<std::tuple<std::string, ErrorCode, std::string>> cases = {
      {"2x2xf32=1 2 3", ErrorCode::kUsageInvalid, "expected 4 values for f32[2,2] (or one for all), found 3"},
      {"2x2xf32=a", ErrorCode::kUsageInvalid, "expected a number, found 'a'"},
      {"2xi8=300", ErrorCode::kUsageInvalid, "300 does not fit i8"},
      {"2x2xf99=1", ErrorCode::kUsageInvalid, "expected @FILE.npy"},
      {"2x3xf32=1", ErrorCode::kShapeMismatch, "expected f32[2,2], found f32[2,3]"},
      {"2x2xf64=1", ErrorCode::kTypeMismatch, "expected f32[2,2], found f64[2,2]"},
      {"random:a", ErrorCode::kUsageInvalid, "whole number"},
      {"random:1:2", ErrorCode::kUsageInvalid, "random:SEED:LOW:HIGH"},
      {"random:1:2:1", ErrorCode::kUsageInvalid, "LOW <= HIGH"},
      {"@gone.npy", ErrorCode::kFileNotFound, "gone.npy"},
      {"999999999x999999999xf32=1", ErrorCode::kLimitExceeded, ""},
  };
  for (const auto& [text, code, message] : cases) {
    const Status status = ParseValue(text, &type).status();
    EXPECT_EQ(status.code(), code) << text << ": " << status;
    EXPECT_NE(status.message().find(message), std::string::npos) << text << ": " << status;
  }
}

TEST(InputSpecTest, RandomIsSeededAndRanged) {
  const TensorType type = {DType::kF32, {100}};
  EXPECT_EQ(*ParseValue("random:7", &type), *ParseValue("random:7", &type));
  EXPECT_FALSE(*ParseValue("random:7", &type) == *ParseValue("random:8", &type));
  const Tensor ranged = *ParseValue("random:7:2:3", &type);
  for (int64_t k = 0; k < 100; ++k) EXPECT_TRUE(ranged.Get(k) >= 2 && ranged.Get(k) <= 3);
  EXPECT_FALSE(ParseValue("random:7", nullptr).ok());
}

TEST(InputSpecTest, ResolvesByNameAndByPosition) {
  const Graph graph = TwoInputs();
  StatusOr<std::vector<Tensor>> tensors = ResolveInputs(graph, {"ids=3xi64=1 2 3", "2x2xf32=5"}, nullptr);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_EQ((*tensors)[0], Tensor::Full(DType::kF32, {2, 2}, 5));
  EXPECT_EQ((*tensors)[1], Tensor::FromVector<int64_t>({3}, {1, 2, 3}));
}

TEST(InputSpecTest, MissingAndUnknownInputsAreNamed) {
  const Graph graph = TwoInputs();
  Status status = ResolveInputs(graph, {"x:0=random:1"}, nullptr).status();
  EXPECT_EQ(status.code(), ErrorCode::kInputMissing);
  EXPECT_NE(status.message().find("input 'ids' (i64[3])"), std::string::npos) << status;
  status = ResolveInputs(graph, {"y=random:1"}, nullptr).status();
  EXPECT_EQ(status.code(), ErrorCode::kInputUnknown);
  EXPECT_NE(status.message().find("'x:0' (f32[2,2]), 'ids' (i64[3])"), std::string::npos) << status;
  EXPECT_EQ(ResolveInputs(graph, {"random:1", "random:2", "random:3"}, nullptr).status().code(),
            ErrorCode::kInputUnknown);
  const int64_t seed = 3;
  EXPECT_TRUE(ResolveInputs(graph, {}, &seed).ok());
}

TEST(InputSpecTest, DefaultsStayWithinWhatIsIndexed) {
  Graph graph;
  const ValueId table = AddInput(graph, "table", {DType::kF32, {5, 4}});
  const ValueId ids = AddInput(graph, "ids", {DType::kI64, {64}});
  const ValueId mask = AddInput(graph, "mask", {DType::kI64, {64}});
  const ValueId cast = AddNode(graph, Op::kCast, {ids}, {DType::kI32, {64}});
  Attrs attrs;
  attrs.Set("axis", int64_t{0});
  AddNode(graph, Op::kGather, {table, cast}, {DType::kF32, {64, 4}}, attrs);
  const Tensor drawn = DefaultInput(graph, ids, 1);
  int64_t largest = 0;
  for (int64_t k = 0; k < 64; ++k) {
    EXPECT_TRUE(drawn.GetInt(k) >= 0 && drawn.GetInt(k) < 5);
    largest = std::max(largest, drawn.GetInt(k));
  }
  EXPECT_EQ(largest, 4);
  EXPECT_EQ(DefaultInput(graph, mask, 1), Tensor::Full(DType::kI64, {64}, 1));
}

TEST(InputSpecTest, Files) {
  const std::string path = testing::TempDir() + "/input_spec_test.npy";
  const Tensor tensor = Tensor::FromVector<float>({2}, {1, 2});
  ASSERT_TRUE(WriteNpy(path, tensor).ok());
  EXPECT_EQ(*ParseValue("@" + path, nullptr), tensor);
}

}  // namespace
}  // namespace tessera
