#include "models/import/tesa_file.h"

#include <filesystem>

#include "base/file.h"
#include "graph/interpreter.h"
#include "graph/text.h"
#include "graph/verifier.h"
#include "models/import/import.h"
#include "models/import/npy.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "models/import/safetensors.h"
#include "tesa/random.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Folder() {
  const std::string folder = testing::TempDir() + "/tesa_file_test";
  std::filesystem::create_directories(folder);
  return folder;
}

// One entry about the tensor "w".
std::string About(const std::string& members) { return R"({"tensors": [{"name": "w", )" + members + "}]}"; }

StatusOr<Attribute> Declared(const std::string& text, const TensorType& type, const Tensor* data = nullptr) {
  ASSIGN_OR_RETURN(const TesaFile file, ParseTesaFile(text, Folder() + "/side.json"));
  return DeclaredBy(file, "w", type, data);
}

std::vector<uint8_t> BitsOf(const std::string& text, const TensorType& type, const Tensor* data = nullptr) {
  const StatusOr<Attribute> declared = Declared(text, type, data);
  EXPECT_OK(declared);
  return declared.ok() ? declared->Bits() : std::vector<uint8_t>();
}

void ExpectBad(const std::string& text, const TensorType& type, const std::string& message) {
  EXPECT_THAT(Declared(text, type).status(),
              StatusIs(ErrorCode::kTesaFileInvalid, AllOf(HasSubstr("side.json"), HasSubstr(message))))
      << text;
}

const TensorType kSmall = {DType::kI8, {2, 3}};

TEST(TesaFile, SlicesAlongAnyAxis) {
  EXPECT_EQ(BitsOf(About(R"("rows": [1])"), kSmall), (std::vector<uint8_t>{8, 8, 8, 0, 0, 0}));
  EXPECT_EQ(BitsOf(About(R"("channels": [0])"), kSmall), (std::vector<uint8_t>{0, 0, 0, 8, 8, 8}));
  EXPECT_EQ(BitsOf(About(R"("columns": ["0-1"])"), kSmall), (std::vector<uint8_t>{0, 0, 8, 0, 0, 8}));
  EXPECT_EQ(BitsOf(About(R"("axis": 1, "indices": [2, 0])"), kSmall), (std::vector<uint8_t>{0, 8, 0, 0, 8, 0}));
  EXPECT_EQ(BitsOf(About(R"("rows": [])"), kSmall), (std::vector<uint8_t>(6, 8)));
  // A mask that prunes everything is for the propagation to report.
  EXPECT_EQ(BitsOf(About(R"("rows": ["0-1"])"), kSmall), (std::vector<uint8_t>(6, 0)));
  EXPECT_EQ(BitsOf(About(R"("rows": [0], "columns": [2])"), kSmall), (std::vector<uint8_t>{0, 0, 0, 8, 8, 0}));
}

TEST(TesaFile, Blocks) {
  const TensorType type = {DType::kF32, {3, 4}};
  const std::vector<uint8_t> kept = {32, 32, 0, 0, 32, 32, 0, 0, 0, 0, 32, 32};
  EXPECT_EQ(BitsOf(About(R"("blocks": {"shape": [2, 2], "kept": [[0, 0], [1, 1]]})"), type), kept);
  EXPECT_EQ(BitsOf(About(R"("blocks": {"shape": [2, 2], "pruned": [[0, 1], [1, 0]]})"), type), kept);
  EXPECT_EQ(BitsOf(About(R"("blocks": {"shape": [2, 2], "mask": [[1, 0], [false, true]]})"), type), kept);
  // As a matrix, and as they are.
  const TensorType conv = {DType::kF32, {3, 2, 1, 2}};
  EXPECT_EQ(BitsOf(About(R"("blocks": {"shape": [2, 2], "mask": [1, 0, 0, 1]})"), conv), kept);
  EXPECT_EQ(BitsOf(About(R"("blocks": {"shape": [1, 2, 1, 2], "pruned": [[1, 0, 0, 0]]})"), conv),
            (std::vector<uint8_t>{32, 32, 32, 32, 0, 0, 0, 0, 32, 32, 32, 32}));
  // A block may be larger than the tensor.
  EXPECT_EQ(BitsOf(About(R"("blocks": {"shape": [1000000000000, 2], "pruned": [[0, 0]]})"), type),
            (std::vector<uint8_t>{0, 0, 32, 32, 0, 0, 32, 32, 0, 0, 32, 32}));
}

TEST(TesaFile, NOfMKeepsTheLargest) {
  const Tensor data = Tensor::FromVector<float>({2, 5}, {1, -4, 3, 0, 7, 2, 2, 2, 2, 0});
  EXPECT_EQ(BitsOf(About(R"("nm": {"n": 2, "m": 4, "axis": 1})"), data.type(), &data),
            (std::vector<uint8_t>{0, 32, 32, 0, 32, 32, 32, 0, 0, 32}));
  EXPECT_EQ(BitsOf(About(R"("nm": {"n": 1, "m": 2, "axis": 0})"), data.type(), &data),
            (std::vector<uint8_t>{0, 32, 32, 0, 32, 32, 0, 0, 32, 0}));
  ExpectBad(About(R"("nm": {"n": 2, "m": 4, "axis": 1})"), data.type(), "needs a constant");
}

TEST(TesaFile, Precisions) {
  EXPECT_EQ(BitsOf(About(R"("bits": 4)"), kSmall), (std::vector<uint8_t>(6, 4)));
  EXPECT_EQ(BitsOf(About(R"("bits": {"axis": 1, "values": [8, 0, 4]})"), kSmall),
            (std::vector<uint8_t>{8, 0, 4, 8, 0, 4}));
  // Together with what is pruned, in one entry or several; twice the same is no contradiction.
  EXPECT_EQ(BitsOf(R"({"tensors": [{"name": "w", "bits": 4}, {"name": "w", "rows": [0]}, {"name": "w", "bits": 4}]})",
                   kSmall),
            (std::vector<uint8_t>{0, 0, 0, 4, 4, 4}));
}

TEST(TesaFile, MasksFromFiles) {
  const std::string folder = Folder();
  const Tensor mask = Tensor::FromVector<float>({2, 3}, {0.5, 0, -1, 0, 0, 2});
  const std::vector<uint8_t> kept = {8, 0, 8, 0, 0, 8};
  ASSERT_OK(WriteNpy(folder + "/w.npy", mask));
  ASSERT_OK(WriteNpy(folder + "/column.npy", Tensor::FromVector<uint8_t>({1, 3}, {1, 0, 1})));
  ASSERT_OK(WriteFileAtomically(folder + "/masks.safetensors",
                                SerializeSafetensors({.tensors = {{"w", mask}, {"other", mask}}, .metadata = {}})));
  EXPECT_EQ(BitsOf(About(R"("mask": "w.npy")"), kSmall), kept);
  EXPECT_EQ(BitsOf(About(R"("mask": "column.npy")"), kSmall), (std::vector<uint8_t>{8, 0, 8, 8, 0, 8}));
  EXPECT_EQ(BitsOf(About(R"("mask": "masks.safetensors")"), kSmall), kept);
  EXPECT_EQ(BitsOf(About(R"("mask": "masks.safetensors", "key": "other")"), kSmall), kept);
  // The files themselves.
  for (const char* name : {"w.npy", "masks.safetensors"}) {
    ASSERT_OK_AND_ASSIGN(const TesaFile file, ReadTesaFile(folder + "/" + name));
    ASSERT_OK_AND_ASSIGN(const Attribute declared, DeclaredBy(file, "w", kSmall, nullptr));
    EXPECT_EQ(declared.Bits(), kept);
  }
  ExpectBad(About(R"("mask": "gone.npy")"), kSmall, "gone.npy");
  ExpectBad(About(R"("mask": "w.txt")"), kSmall, "expected a mask in a .npy or .safetensors file");
  ExpectBad(About(R"("mask": "masks.safetensors", "key": "none")"), kSmall, "has no tensor 'none'");
  ExpectBad(About(R"("mask": 3)"), kSmall, "the name of a .npy");
  ASSERT_OK(WriteFileAtomically(folder + "/broken.npy", "\x93NUMPY\x01"));
  ExpectBad(About(R"("mask": "broken.npy")"), kSmall, "broken.npy");
  ASSERT_OK(WriteFileAtomically(folder + "/broken.safetensors", "abc"));
  EXPECT_THAT(ReadTesaFile(folder + "/broken.safetensors"), StatusIs(ErrorCode::kTesaFileInvalid));
  EXPECT_THAT(ReadTesaFile(folder + "/broken.npy"), StatusIs(ErrorCode::kTesaFileInvalid));
  EXPECT_THAT(ReadTesaFile(folder + "/gone.json"), StatusIs(ErrorCode::kFileNotFound));
}

TEST(TesaFile, WhatDoesNotFit) {
  ExpectBad(About(R"("rows": [2])"), kSmall, "entry 1: expected indices below 2 along axis 0 of i8[2,3], found 2");
  ExpectBad(About(R"("axis": 2, "indices": [0])"), kSmall, "found axis 2");
  ExpectBad(About(R"("columns": [0])"), {DType::kF32, {4}}, "found axis 1");
  ExpectBad(About(R"("blocks": {"shape": [2, 2], "kept": [[1, 1]]})"), kSmall, "within the [1,2]");
  ExpectBad(About(R"("blocks": {"shape": [2, 2], "kept": [[0]]})"), kSmall, "found block [0]");
  ExpectBad(About(R"("blocks": {"shape": [2], "kept": []})"), kSmall, "blocks of 2 extents");
  ExpectBad(About(R"("blocks": {"shape": [0, 2], "kept": []})"), kSmall, "at least one element");
  ExpectBad(About(R"("blocks": {"shape": [2, 2], "mask": [1]})"), kSmall, "expected a mask of [1,2] blocks");
  ExpectBad(About(R"("bits": 9)"), kSmall, "contradictory precisions: expected at most the 8 bits");
  ExpectBad(About(R"("bits": {"axis": 0, "values": [8, 9]})"), kSmall, "contradictory precisions");
  ExpectBad(About(R"("bits": {"axis": 0, "values": [8]})"), kSmall, "expected 2 bit widths");
  ExpectBad(R"({"tensors": [{"name": "w", "bits": 4}, {"name": "w", "bits": 8}]})", kSmall,
            "entry 2: contradictory precisions: entry 1 gives it others");
  ASSERT_OK(WriteNpy(Folder() + "/shape.npy", Tensor(DType::kF32, {3, 2})));
  ExpectBad(About(R"("mask": "shape.npy")"), kSmall, "expected a mask of shape [2,3], found one of [3,2]");
  const Tensor data(DType::kI8, {2, 3});
  EXPECT_THAT(Declared(About(R"("nm": {"n": 4, "m": 4, "axis": 1})"), kSmall, &data),
              StatusIs(ErrorCode::kTesaFileInvalid, HasSubstr("expected 0 < n < m")));
}

TEST(TesaFile, MalformedText) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "expected JSON"},
      {"{\"tensors\": [", "mistake at byte"},
      {"[]", "a list \"tensors\""},
      {R"({"tensors": {}})", "a list \"tensors\""},
      {R"({"tensors": [], "version": 2})", "found \"version\""},
      {R"({"tensors": [3]})", "entry 1: expected an object with the \"name\""},
      {R"({"tensors": [{"name": 3}]})", "\"name\""},
      {R"({"tensors": [{"name": "w"}]})", "found only its name"},
      {R"({"tensors": [{"name": "w", "bits": 4, "bits": 8}]})", "'bits' stands twice"},
      {R"({"tensors": [{"name": "w", "row": [1]}]})", "unknown member \"row\""},
      {R"({"tensors": [{"name": "w", "axis": 1}]})", "unknown member \"axis\""},
      {R"({"tensors": [{"name": "w", "indices": [1]}]})", "\"axis\""},
      {R"({"tensors": [{"name": "w", "rows": 3}]})", "a list of indices"},
      {R"({"tensors": [{"name": "w", "rows": [-1]}]})", "found -1"},
      {R"({"tensors": [{"name": "w", "rows": [1.5]}]})", "found 1.5"},
      {R"({"tensors": [{"name": "w", "rows": ["7-3"]}]})", "ascends"},
      {R"({"tensors": [{"name": "w", "rows": ["1-99999999999999999999"]}]})", "expected indices"},
      {R"({"tensors": [{"name": "w", "rows": [18446744073709551615]}]})", "expected indices"},
      {R"({"tensors": [{"name": "w", "nm": 2}]})", "\"nm\""},
      {R"({"tensors": [{"name": "w", "bits": "four"}]})", "\"bits\": 8"},
      {R"({"tensors": [{"name": "w", "blocks": {"shape": [2, 2]}}]})", "one of \"pruned\""},
      {R"({"tensors": [{"name": "w", "blocks": {"shape": [2, 2], "mask": [2]}}]})", "0 and 1"},
      {"\xff\xfe", "expected JSON"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(ParseTesaFile(text, "side.json"),
                StatusIs(ErrorCode::kTesaFileInvalid, AllOf(HasSubstr("side.json"), HasSubstr(message))))
        << text;
  }
  const std::string deep(100000, '[');
  EXPECT_THAT(ParseTesaFile(deep, "s"), StatusIs(ErrorCode::kTesaFileInvalid, HasSubstr("nests at most")));
}

// Whatever is done to a side file, it is read or refused.
TEST(TesaFile, DamagedTextNeverCrashes) {
  const std::string good =
      R"({"tensors": [{"name": "w", "rows": [0, "1-1"], "bits": {"axis": 0, "values": [8, 4]}},)"
      R"({"name": "w", "blocks": {"shape": [1, 2], "pruned": [[0, 1]]}, "nm": {"n": 1, "m": 2, "axis": 1}}]})";
  const Tensor data(DType::kI8, {2, 3});
  Random random(1);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (int64_t k = random.Int(1, 4); k > 0 && !text.empty(); --k) {
      const size_t at = static_cast<size_t>(random.Int(0, static_cast<int64_t>(text.size()) - 1));
      if (random.Chance(0.7)) {
        text[at] = "0159-[]{}\",:xe\\\xff"[random.Int(0, 15)];
      } else {
        text.erase(at, static_cast<size_t>(random.Int(1, 3)));
      }
    }
    const StatusOr<TesaFile> file = ParseTesaFile(text, "s");
    bool ok = file.ok();
    if (ok && file->tensors.count("w") != 0) ok = DeclaredBy(*file, "w", data.type(), &data).ok();
    refused += !ok;
  }
  EXPECT_GT(refused, 1500);
}

constexpr char kGraph[] = R"(graph "g" {
  %x: f32[2,4] = input
  %w: f32[4,3] = constant [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
  %h: f32[2,3] = matmul(%x, %w)
  %y: f32[2,3] = relu(%h)
  return %y
})";

TEST(TesaFile, DeclaresOnValuesOfEveryKind) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(kGraph));
  ASSERT_OK_AND_ASSIGN(const TesaFile file, ParseTesaFile(R"({"tensors": [
      {"name": "w", "rows": [1]}, {"name": "x", "columns": [0]}, {"name": "h", "columns": [2]}]})",
                                                          "s"));
  ASSERT_OK(ApplyTesaFile(file, graph));
  ASSERT_OK(Verify(graph));
  EXPECT_EQ(graph[graph.FindValue("w")].constant,
            Tensor::FromVector<float>({4, 3}, {1, 2, 3, 0, 0, 0, 7, 8, 9, 10, 11, 12}));
  ASSERT_OK_AND_ASSIGN(
      const auto y, Interpret(graph, std::vector<Tensor>{Tensor::FromVector<float>({2, 4}, {9, 9, 1, 0, 9, 9, 0, 1})}));
  EXPECT_EQ(y[0].f, (std::vector<double>{7, 8, 0, 10, 11, 0}));
}

TEST(TesaFile, UnknownNamesHaveNeighbours) {
  ASSERT_OK_AND_ASSIGN(Graph graph, ParseAndVerify(R"(graph "g" {
  %x: f32[2] = input
  %fc1.weight: f32[2] = constant [1, 2]
  %fc2.weight: f32[2] = constant [3, 4]
  %y: f32[2] = add(%x, %fc1.weight)
  %z: f32[2] = add(%y, %fc2.weight)
  return %z
})"));
  ASSERT_OK_AND_ASSIGN(TesaFile file, ParseTesaFile(R"({"tensors": [{"name": "fc1.wieght", "rows": [1]}]})", "s"));
  EXPECT_THAT(ApplyTesaFile(file, graph),
              StatusIs(ErrorCode::kTesaFileInvalid,
                       HasSubstr("entry 1: the model has no tensor 'fc1.wieght'; did you mean 'fc1.weight'")));
  ASSERT_OK_AND_ASSIGN(file, ParseTesaFile(R"({"tensors": [{"name": "encoder.something", "rows": [1]}]})", "s"));
  EXPECT_THAT(ApplyTesaFile(file, graph), StatusIs(ErrorCode::kTesaFileInvalid, HasSubstr("`inspect` lists")));
}

ImportOptions With(const std::string& text) {
  ImportOptions options;
  StatusOr<TesaFile> file = ParseTesaFile(text, "s.json");
  EXPECT_OK(file);
  options.side_file = std::make_shared<const TesaFile>(*std::move(file));
  return options;
}

// At import the names and shapes are those of the source model: this weight becomes its transpose.
TEST(TesaFile, AtImport) {
  OnnxModel m;
  m.Input("x", DType::kF32, {2, 4}).Constant("w", Tensor::Full(DType::kF32, {3, 4}, 1));
  m.Node("Transpose", {"w"}, {"t"}).Node("MatMul", {"x", "t"}, {"h"}).Node("Relu", {"h"}, {"y"}).Output("y");
  ImportOptions options =
      With(R"({"tensors": [{"name": "w", "rows": [1], "bits": 8}, {"name": "h", "columns": [0]}]})");
  for (AnnotateMode mode : {AnnotateMode::kAuto, AnnotateMode::kNone}) {
    options.annotate = mode;
    ASSERT_OK_AND_ASSIGN(const ImportResult result, ImportModelFromBytes(m.Bytes(), "m.onnx", options));
    EXPECT_EQ(result.warnings, std::vector<std::string>());
    ASSERT_EQ(result.tensors.size(), 1u);
    EXPECT_THAT(result.tensors[0].declared, HasSubstr("side file"));
    const std::vector<Tensor> x = {Tensor::Full(DType::kF32, {2, 4}, 1)};
    ASSERT_OK_AND_ASSIGN(const auto y, Interpret(result.graph, x));
    EXPECT_EQ(y[0].f, (std::vector<double>{0, 0, 4, 0, 0, 4}));
    int constants = 0;
    for (const Value& value : result.graph.values) {
      if (value.kind != ValueKind::kConstant || value.type.shape.rank() != 2) continue;
      ++constants;
      ASSERT_TRUE(value.tesa.has_value());
      EXPECT_EQ(value.tesa->Widths(), std::vector<int>{8});
      EXPECT_EQ(value.tesa->num_kept(), 8);
    }
    EXPECT_EQ(constants, 1);
  }
  EXPECT_THAT(ImportModelFromBytes(m.Bytes(), "m.onnx", With(R"({"tensors": [{"name": "v", "rows": [1]}]})")),
              StatusIs(ErrorCode::kTesaFileInvalid, AllOf(HasSubstr("m.onnx"), HasSubstr("no tensor 'v'"))));
  EXPECT_THAT(ImportModelFromBytes(m.Bytes(), "m.onnx", With(R"({"tensors": [{"name": "w", "rows": [3]}]})")),
              StatusIs(ErrorCode::kTesaFileInvalid, HasSubstr("below 3")));
}

}  // namespace
}  // namespace tessera
