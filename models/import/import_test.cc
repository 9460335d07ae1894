#include "models/import/import.h"

#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "gtest/gtest.h"
#include "models/import/onnx/testing/onnx_model.h"
#include "models/import/safetensors.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

OnnxModel Doubler() {
  OnnxModel m;
  m.Input("x", DType::kF32, {2}).Constant("k", Tensor::FromVector<float>({2}, {2, 2}));
  m.Node("Mul", {"x", "k"}, {"y"}).Output("y");
  return m;
}

TEST(ImportTest, RecognisesByContentThenByExtension) {
  const std::string onnx = Doubler().Bytes();
  EXPECT_OK(ImportModelFromBytes(onnx, "m.onnx"));
  EXPECT_OK(ImportModelFromBytes(onnx, "without_extension"));
  EXPECT_THAT(ImportModelFromBytes("hello, world", "notes.txt"),
              StatusIs(ErrorCode::kFormatUnknown, HasSubstr("notes.txt")));
  EXPECT_THAT(ImportModelFromBytes("", "empty"), StatusIs(ErrorCode::kFormatUnknown, HasSubstr("empty file")));
  EXPECT_THAT(ImportModelFromBytes("", "empty.onnx"), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(ImportModelFromBytes("", "empty.tflite"), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(ImportModelFromBytes(onnx, "m.tflite"), StatusIs(ErrorCode::kFileCorrupt));
  EXPECT_THAT(ImportModelFromBytes(SerializeSafetensors({}), "weights"),
              StatusIs(ErrorCode::kFormatUnknown, HasSubstr("no network")));
  EXPECT_THAT(ImportModelFromBytes("....TESS....", "m"), StatusIs(ErrorCode::kFormatUnknown, HasSubstr("already")));
}

TEST(ImportTest, ReadsFilesAndNamesThemInErrors) {
  const std::string folder = testing::TempDir() + "/import_test_" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  ASSERT_OK(WriteFileAtomically(folder + "/m.onnx", Doubler().Bytes()));
  ASSERT_OK_AND_ASSIGN(const ImportResult result, ImportModel(folder + "/m.onnx"));
  EXPECT_EQ(result.graph.metadata.at("source"), "m.onnx");
  EXPECT_EQ(result.graph.metadata.at("source_hash").size(), 32u);
  EXPECT_THAT(ImportModel(folder + "/nothing.onnx"), StatusIs(ErrorCode::kFileNotFound, HasSubstr("nothing.onnx")));
  EXPECT_THAT(ImportModel(folder), StatusIs(ErrorCode::kFileUnreadable));
  std::filesystem::remove_all(folder);
}

TEST(ImportTest, ReplacesWeightsByName) {
  const Tensor three = Tensor::FromVector<float>({2}, {3, 3});
  ASSERT_OK_AND_ASSIGN(const ImportResult result,
                       ImportModelFromBytes(Doubler().Bytes(), "m.onnx", {.weights = {{"k", three}}}));
  EXPECT_EQ(result.graph[result.graph.FindValue("k")].constant, three);
  EXPECT_THAT(ImportModelFromBytes(Doubler().Bytes(), "m.onnx", {.weights = {{"k", Tensor(DType::kF32, {3})}}}),
              StatusIs(ErrorCode::kShapeMismatch, HasSubstr("'k'")));
  EXPECT_THAT(ImportModelFromBytes(Doubler().Bytes(), "m.onnx", {.weights = {{"q", three}}}),
              StatusIs(ErrorCode::kInputUnknown, HasSubstr("'q'")));
}

TEST(ImportTest, ExternalDataIsFoundBesideTheModel) {
  const std::string folder = testing::TempDir() + "/import_external_" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  OnnxModel m = Doubler();
  onnx::TensorProto& k = *m.proto().mutable_graph()->mutable_initializer(0);
  ASSERT_OK(WriteFileAtomically(folder + "/k.bin", k.raw_data()));
  k.clear_raw_data();
  k.set_data_location(onnx::TensorProto::EXTERNAL);
  onnx::StringStringEntryProto& entry = *k.add_external_data();
  entry.set_key("location");
  entry.set_value("k.bin");
  ASSERT_OK(WriteFileAtomically(folder + "/m.onnx", m.Bytes()));
  ASSERT_OK_AND_ASSIGN(const ImportResult result, ImportModel(folder + "/m.onnx"));
  EXPECT_EQ(result.graph[result.graph.FindValue("k")].constant, Tensor::FromVector<float>({2}, {2, 2}));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tessera
