#include "tools/common/model_source.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "graph/model_file.h"
#include "tools/common/model_flags.h"

namespace tessera {
namespace {

void ExpectError(const Status& status, ErrorCode code, const std::string& text) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(text), std::string::npos) << status;
}

int64_t BatchOf(const OpenedModel& model) { return model.graph[model.graph.inputs[0]].type.shape[0]; }

TEST(ModelSourceTest, CatalogNetworksWithParameters) {
  StatusOr<OpenedModel> model = OpenModel("zoo:minilm:layers=1,seq=8", {.batch = 3});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->name, "minilm:layers=1,seq=8");
  EXPECT_EQ(BatchOf(*model), 3);
  EXPECT_EQ(model->hash.size(), 32u);
  EXPECT_NE(OpenModel("zoo:minilm:layers=1,seq=8", {.batch = 3, .seed = 2})->hash, model->hash);
  ExpectError(OpenModel("zoo:minilm:layers").status(), ErrorCode::kUsageInvalid, "PARAMETER=N");
  ExpectError(OpenModel("zoo:minilm:depth=1").status(), ErrorCode::kUsageInvalid, "no parameter 'depth'");
}

TEST(ModelSourceTest, TrainedNetworksOfTheTree) {
  StatusOr<OpenedModel> model = OpenModel("zoo:fashion_mlp");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(BatchOf(*model), 1);
  EXPECT_FALSE(model->tensors.empty());
  StatusOr<OpenedModel> batched = OpenModel("zoo:fashion_mlp", {.batch = 5});
  ASSERT_TRUE(batched.ok()) << batched.status();
  EXPECT_EQ(BatchOf(*batched), 5);
  ExpectError(OpenModel("zoo:fashion_mlp:layers=1").status(), ErrorCode::kUsageInvalid, "takes no parameters");
}

// --tesa is for whatever can be opened: networks of the catalog, graphs as text, converted and foreign models.
TEST(ModelSourceTest, SideFiles) {
  const std::string folder = testing::TempDir() + "/model_source_side_files";
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(WriteFileAtomically(folder + "/g.txt",
                                  "graph \"g\" {\n  %x: f32[2] = input\n  %w: f32[2] = constant [1, 2]\n"
                                  "  %y: f32[2] = add(%x, %w)\n  return %y\n}\n")
                  .ok());
  ASSERT_TRUE(WriteFileAtomically(folder + "/side.json",
                                  R"({"tensors": [{"name": "w", "axis": 0, "indices": [0], "bits": 4}]})")
                  .ok());
  ModelFlags flags;
  flags.tesa = folder + "/side.json";
  StatusOr<ModelOptions> options = flags.Options();
  ASSERT_TRUE(options.ok()) << options.status();
  StatusOr<OpenedModel> text = OpenModel(folder + "/g.txt", *options);
  ASSERT_TRUE(text.ok()) << text.status();
  const Value& w = text->graph[text->graph.FindValue("w")];
  EXPECT_EQ(w.constant, Tensor::FromVector<float>({2}, {0, 2}));
  EXPECT_EQ(w.tesa->Bits(), (std::vector<uint8_t>{0, 4}));
  StatusOr<OpenedModel> plain = OpenModel(folder + "/g.txt");
  ASSERT_TRUE(plain.ok()) << plain.status();
  ASSERT_TRUE(WriteModel(plain->graph, folder + "/g.tess").ok());
  StatusOr<OpenedModel> stored = OpenModel(folder + "/g.tess", *options);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_TRUE(stored->graph.values == text->graph.values);
  ExpectError(OpenModel("zoo:minilm:layers=1,seq=8", *options).status(), ErrorCode::kTesaFileInvalid,
              "the model has no tensor 'w'");
  ExpectError(OpenModel("zoo:fashion_mlp", *options).status(), ErrorCode::kTesaFileInvalid, "fashion_mlp.onnx");
  flags.tesa = folder + "/none.json";
  ExpectError(flags.Options().status(), ErrorCode::kFileNotFound, "none.json");
}

TEST(ModelSourceTest, UnknownNamesHaveANeighbour) {
  ExpectError(OpenModel("zoo:fashion_mpl").status(), ErrorCode::kUsageInvalid, "did you mean zoo:fashion_mlp?");
  ExpectError(OpenModel("zoo:vgg").status(), ErrorCode::kUsageInvalid, "zoo: lists what it has");
  EXPECT_NE(ZooText().find("fashion_mobilenet"), std::string::npos);
  EXPECT_NE(ZooText().find("bert_base"), std::string::npos);
}

TEST(ModelSourceTest, FilesByTheirContent) {
  const std::string folder = testing::TempDir() + "/model_source_test";
  std::filesystem::create_directories(folder);
  StatusOr<OpenedModel> mlp = OpenModel("zoo:fashion_mlp");
  ASSERT_TRUE(mlp.ok()) << mlp.status();
  ASSERT_TRUE(WriteModel(mlp->graph, folder + "/m.tess").ok());
  StatusOr<OpenedModel> stored = OpenModel(folder + "/m.tess");
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->name, "m");
  ExpectError(OpenModel(folder + "/m.tess", {.batch = 2}).status(), ErrorCode::kShapeMismatch, "not of batch 2");
  ExpectError(OpenModel(folder + "/m.tess", {.import = {.shapes = {{"image", Shape({1})}}}}).status(),
              ErrorCode::kUsageInvalid, "converted already");
  const std::string text =
      "// a comment\ngraph \"g\" {\n  %x: f32[2] = input\n  %y: f32[2] = relu(%x)\n  return %y\n}\n";
  ASSERT_TRUE(WriteFileAtomically(folder + "/g.txt", text).ok());
  StatusOr<OpenedModel> parsed = OpenModel(folder + "/g.txt");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->graph.nodes.size(), 1u);
  ASSERT_TRUE(WriteFileAtomically(folder + "/noise.bin", "no model at all").ok());
  EXPECT_EQ(OpenModel(folder + "/noise.bin").status().code(), ErrorCode::kFormatUnknown);
  EXPECT_EQ(OpenModel(folder + "/gone.onnx").status().code(), ErrorCode::kFileNotFound);
  EXPECT_EQ(OpenModel(folder).status().code(), ErrorCode::kFileUnreadable);
}

TEST(ModelSourceTest, FetchedModelsLieInTheCache) {
  const std::string cache = testing::TempDir() + "/model_source_cache";
  std::filesystem::create_directories(cache + "/models");
  setenv("TESSERA_CACHE", cache.c_str(), 1);
  ASSERT_TRUE(WriteModel(OpenModel("zoo:minilm:layers=1,seq=4")->graph, cache + "/models/real.tess").ok());
  EXPECT_TRUE(OpenModel("zoo:real").ok());
  EXPECT_NE(ZooText().find("real"), std::string::npos);
  unsetenv("TESSERA_CACHE");
}

TEST(ModelFlagsTest, ShapesAndBindings) {
  ModelFlags flags;
  flags.shapes = {"x:0:1x3x8x8", "s:scalar"};
  flags.binds = {"n=2xi64=3 4"};
  flags.annotate = "none";
  StatusOr<ModelOptions> options = flags.Options();
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->import.shapes.at("x:0"), Shape({1, 3, 8, 8}));
  EXPECT_EQ(options->import.shapes.at("s"), Shape());
  EXPECT_EQ(options->import.bind.at("n").GetInt(1), 4);
  EXPECT_EQ(options->import.annotate, AnnotateMode::kNone);
  flags.shapes = {"1x3"};
  ExpectError(flags.Options().status(), ErrorCode::kUsageInvalid, "NAME:1x3x224x224");
  flags.shapes = {};
  flags.binds = {"@x.npy"};
  ExpectError(flags.Options().status(), ErrorCode::kUsageInvalid, "NAME=@FILE.npy");
}

TEST(ModelFlagsTest, CountsModels) {
  EXPECT_TRUE(CheckModelCount({"a"}, 1).ok());
  ExpectError(CheckModelCount({}, 1), ErrorCode::kUsageInvalid, "no model given");
  ExpectError(CheckModelCount({"a", "b"}, 1), ErrorCode::kUsageInvalid, "'b' is one too many");
}

}  // namespace
}  // namespace tessera
