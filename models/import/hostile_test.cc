// Broken files, eight or more of each kind: each gets an error of its own that says what is wrong; none crashes.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "base/file.h"
#include "gtest/gtest.h"
#include "models/import/import.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "models/import/tflite/testing/tflite_model.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

// A convolution, a reshape and a product, with constants of several types.
OnnxModel SmallOnnx() {
  OnnxModel m(13);
  Random random(1);
  m.Input("x", DType::kF32, {1, 2, 5, 5}).Constant("w", RandomTensor(random, {DType::kF32, {3, 2, 3, 3}}));
  m.Constant("b", RandomTensor(random, {DType::kF32, {3}}))
      .Constant("shape", Tensor::FromVector<int64_t>({2}, {1, -1}));
  m.Constant("v", RandomTensor(random, {DType::kF32, {27, 4}}));
  m.Node("Conv", {"x", "w", "b"}, {"c"}).Ints("kernel_shape", {3, 3}).Node("Relu", {"c"}, {"r"});
  m.Node("Reshape", {"r", "shape"}, {"f"}).Node("MatMul", {"f", "v"}, {"y"}).Output("y");
  return m;
}

std::string SmallTflite() {
  TfliteModel m;
  const int x = m.Input({1, 4, 4, 1}), w = m.Floats({2, 2, 2, 1}, {1, 2, 3, 4, 5, 6, 7, 8}), b = m.Floats({2}, {0, 1});
  tfl::Conv2DOptionsT options;
  options.stride_h = options.stride_w = 1;
  const int c =
      m.Op(tfl::BuiltinOperator::CONV_2D, {x, w, b}, {1, 4, 4, 2}, kFloat, tfl::BuiltinOptions::Conv2DOptions, options);
  const int r = m.Op(tfl::BuiltinOperator::RESHAPE, {c, m.Ints({1, -1})}, {1, 32});
  return m.Bytes({m.Op(tfl::BuiltinOperator::LOGISTIC, {r}, {1, 32})});
}

Status Import(const std::string& bytes, const std::string& name = "m.onnx") {
  StatusOr<ImportResult> result = ImportModelFromBytes(bytes, name);
  if (!result.ok()) {
    EXPECT_THAT(result.status().message(), HasSubstr(name));
    EXPECT_NE(result.status().code(), ErrorCode::kInternal) << result.status();
  }
  return result.ok() ? OkStatus() : result.status();
}

TEST(HostileTest, TheFilesAreGoodBeforeTheyAreBroken) {
  EXPECT_OK(Import(SmallOnnx().Bytes()));
  EXPECT_OK(Import(SmallTflite(), "m.tflite"));
}

TEST(HostileTest, Truncated) {
  // Every prefix. A protobuf may end between two fields: what is left is then a model without something it needs.
  const std::string onnx = SmallOnnx().Bytes(), tflite = SmallTflite();
  for (size_t length = 0; length < tflite.size(); ++length) {
    EXPECT_FALSE(Import(tflite.substr(0, length), "m.tflite").ok()) << length;
  }
  int whole = 0;
  for (size_t length = 0; length < onnx.size(); ++length) whole += Import(onnx.substr(0, length)).ok();
  EXPECT_LE(whole, 2);  // without the trailing opset or the like the graph is still all there
}

TEST(HostileTest, BitFlipped) {
  // An error or a graph that the verifier accepts; either is well, as a flip in a weight is another weight.
  Random random(2);
  const std::string onnx = SmallOnnx().Bytes(), tflite = SmallTflite();
  for (int k = 0; k < 4000; ++k) {
    const bool is_onnx = k % 2 == 0;
    std::string bytes = is_onnx ? onnx : tflite;
    for (int64_t flips = random.Int(1, 4); flips > 0; --flips) {
      bytes[static_cast<size_t>(random.Int(0, static_cast<int64_t>(bytes.size()) - 1))] ^=
          static_cast<char>(1 << random.Int(0, 7));
    }
    static_cast<void>(ImportModelFromBytes(bytes, is_onnx ? "m.onnx" : "m.tflite"));
  }
}

TEST(HostileTest, AbsurdDimensions) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  const std::vector<std::vector<int64_t>> shapes = {{kHuge},           {kHuge, kHuge}, {1 << 30, 1 << 30},
                                                    {0, kHuge, kHuge}, {INT64_MAX},    {1 << 20, 1 << 20, 1 << 20}};
  for (const std::vector<int64_t>& dims : shapes) {
    OnnxModel m;
    m.Input("x", DType::kF32, dims).Node("Relu", {"x"}, {"y"}).Output("y");
    EXPECT_THAT(Import(m.Bytes()), StatusIs(ErrorCode::kLimitExceeded, HasSubstr("'x'"))) << Shape(dims);
  }
  const auto ints = [](const std::vector<int64_t>& values) {
    return Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values);
  };
  const struct {
    std::string op;
    std::vector<Tensor> operands;
  } grows[] = {
      {"Expand", {ints({1 << 30, 1 << 30})}},
      {"Tile", {ints({kHuge})}},
      {"Tile", {ints({1LL << 40})}},
      {"Pad", {ints({kHuge, kHuge})}},
      {"Pad", {ints({-kHuge, 1})}},
      {"Reshape", {ints({-5})}},
      {"Reshape", {ints({kHuge, 4})}},
      {"Resize", {Tensor(DType::kF32, {0}), Tensor::FromVector<float>({1}, {1e30f})}},
      {"Resize", {Tensor(DType::kF32, {0}), Tensor::FromVector<float>({1}, {NAN})}},
  };
  for (const auto& g : grows) {
    OnnxModel m(13);
    std::vector<std::string> names = {"x"};
    m.Input("x", DType::kF32, {3});
    for (const Tensor& operand : g.operands) {
      names.push_back("c" + std::to_string(names.size()));
      m.Constant(names.back(), operand);
    }
    m.Node(g.op, names, {"y"}).Output("y");
    const Status status = Import(m.Bytes());
    EXPECT_FALSE(status.ok()) << g.op;
    EXPECT_THAT(status.message(), HasSubstr(g.op)) << status;
  }
  OnnxModel fill, range;
  fill.Constant("s", ints({1 << 30, 1 << 30})).Node("ConstantOfShape", {"s"}, {"y"}).Output("y");
  EXPECT_FALSE(Import(fill.Bytes()).ok());
  range.Constant("a", Tensor::FromVector<int64_t>({}, {0})).Constant("b", Tensor::FromVector<int64_t>({}, {INT64_MAX}));
  range.Constant("d", Tensor::FromVector<int64_t>({}, {1})).Node("Range", {"a", "b", "d"}, {"y"}).Output("y");
  EXPECT_THAT(Import(range.Bytes()), StatusIs(ErrorCode::kLimitExceeded, HasSubstr("range")));
}

TEST(HostileTest, WrongShapesAndParameters) {
  struct Fault {
    std::string op;
    std::vector<int64_t> a, b;
    std::string attribute;
    std::vector<int64_t> ints;
  };
  const Fault faults[] = {
      {"MatMul", {2, 3}, {4, 5}, "", {}},
      {"MatMul", {}, {3}, "", {}},
      {"Gemm", {2, 3, 4}, {4, 5}, "", {}},
      {"Conv", {1, 2, 5, 5}, {3, 3, 3, 3}, "", {}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 3}, "", {}},
      {"Conv", {1, 2}, {3, 2}, "", {}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 3, 3}, "strides", {0, 1}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 3, 3}, "strides", {1}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 3, 3}, "dilations", {INT64_MAX, 1}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 3, 3}, "pads", {-1, 0, 0, 0}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 9, 9}, "", {}},
      {"Conv", {1, 2, 5, 5}, {3, 2, 3, 3}, "kernel_shape", {2, 2}},
      {"Add", {2, 3}, {4}, "", {}},
      {"PRelu", {2, 3}, {2, 3, 4}, "", {}},
      {"Gather", {2, 3}, {4}, "", {}},
      {"Concat", {2, 3}, {2, 3}, "", {}},
  };
  for (const Fault& fault : faults) {
    OnnxModel m(13);
    m.Input("a", DType::kF32, fault.a).Input("b", DType::kF32, fault.b).Node(fault.op, {"a", "b"}, {"y"}).Output("y");
    if (!fault.attribute.empty()) m.Ints(fault.attribute, fault.ints);
    if (fault.op == "Concat") m.Int("axis", 7);
    const Status status = Import(m.Bytes());
    EXPECT_FALSE(status.ok()) << fault.op;
    EXPECT_THAT(status.message(), HasSubstr("node '" + fault.op + "_1'")) << status;
  }
}

TEST(HostileTest, CyclicGraphs) {
  // Rings of every length, with and without a way in and out.
  for (int length = 1; length <= 8; ++length) {
    OnnxModel m;
    m.Input("x", DType::kF32, {2});
    for (int k = 0; k < length; ++k) {
      m.Node("Add", {"x", "v" + std::to_string((k + 1) % length)}, {"v" + std::to_string(k)});
    }
    m.Node("Neg", {"v0"}, {"y"}).Output("y");
    EXPECT_THAT(Import(m.Bytes()), StatusIs(ErrorCode::kGraphCyclic, HasSubstr("node 'Add_"))) << length;
  }
}

TEST(HostileTest, NotANumberInWeightsIsKeptAndInParametersRefused) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  OnnxModel m;
  m.Input("x", DType::kF32, {1, 2}).Constant("w", Tensor::FromVector<float>({2, 2}, {kNan, 0, 0, 0}));
  m.Node("MatMul", {"x", "w"}, {"y"}).Output("y");
  ASSERT_OK_AND_ASSIGN(const ImportResult result, ImportModelFromBytes(m.Bytes(), "m.onnx"));
  const Value& w = result.graph[result.graph.FindValue("w")];
  ASSERT_TRUE(w.tesa.has_value());
  EXPECT_TRUE(w.tesa->kept(0));  // NaN is not a zero
  for (const std::string op : {"LeakyRelu", "Elu", "HardSigmoid", "Celu", "Selu", "LRN", "ThresholdedRelu", "Swish"}) {
    OnnxModel bad(24);
    bad.Input("x", DType::kF32, {2}).Node(op, {"x"}, {"y"}).Float("alpha", kNan).Output("y");
    const Status status = Import(bad.Bytes());
    // Where alpha is an operand of our op, not a parameter, NaN is just a number.
    const bool operand = op == "Celu" || op == "ThresholdedRelu" || op == "Swish";
    EXPECT_EQ(status.ok(), operand) << op << ": " << status;
  }
}

TEST(HostileTest, UnreadablePaths) {
  const std::string folder = testing::TempDir() + "/hostile_test_" + std::to_string(getpid());
  std::filesystem::create_directories(folder + "/folder.onnx");
  std::filesystem::create_symlink(folder + "/loop", folder + "/loop");
  std::filesystem::create_symlink(folder + "/nowhere", folder + "/dangling.onnx");
  ASSERT_OK(WriteFileAtomically(folder + "/plain", "x"));
  for (const std::string& path : std::vector<std::string>{
           folder + "/missing.onnx", folder + "/folder.onnx", folder, folder + "/loop", folder + "/dangling.onnx",
           folder + "/plain/inside.onnx", "/dev/null", "/proc/self/mem", "", std::string("a\0b", 3)}) {
    StatusOr<ImportResult> result = ImportModel(path);
    EXPECT_FALSE(result.ok()) << path;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tessera
