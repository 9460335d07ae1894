// What the cache keeps and what it does not believe; programs through it: compile_test.cc.
#include "codegen/compile_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "graph/text.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

std::string EmptyFolder(const std::string& name) {
  const std::string folder = std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

Graph Parse(const std::string& text) {
  StatusOr<Graph> graph = ParseGraph(text);
  TES_CHECK(graph.ok(), graph.status().message());
  return *std::move(graph);
}

Graph Layer() {
  Graph graph = Parse(R"(graph "layer" {
    metadata "source" = "a.onnx"
    %x: f32[2,4] = input
    %w: f32[3,4] = constant [1, 0, 2, 3, 4, 0, 5, 6, 0, 7, 8, 9]
    %y: f32[2,3] = matmul "y"(%x, %w) {transpose_b = 1}
    return %y
  })");
  graph.values[1].tesa = Attribute::FromZeros(graph.values[1].constant);
  return graph;
}

TEST(HashGraphTest, TellsApartWhatProgramsDependOn) {
  const Hash128 hash = HashGraph(Layer(), 1);
  EXPECT_EQ(HashGraph(Layer(), 2), hash);
  using Change = void (*)(Graph&);
  const std::pair<const char*, Change> changes[] = {
      {"a weight", [](Graph& g) { g.values[1].constant.Set(0, 1.5); }},
      {"the mask, not the weights",
       [](Graph& g) { g.values[1].tesa = Attribute::FromZeros(Tensor::Full(DType::kF32, {3, 4}, 1)); }},
      {"no mask", [](Graph& g) { g.values[1].tesa.reset(); }},
      {"fewer bits", [](Graph& g) { g.values[1].tesa = Attribute::Dense({3, 4}, 8); }},
      {"a node's name", [](Graph& g) { g.nodes[0].name = "z"; }},
      {"a parameter", [](Graph& g) { g.nodes[0].attrs.Set("transpose_b", int64_t{0}); }},
      {"a type", [](Graph& g) { g.values[0].type.dtype = DType::kF16; }},
      {"an output", [](Graph& g) { g.outputs = {g.inputs[0]}; }},
      {"how integers are meant", [](Graph& g) { g.values[0].quant = QuantParams{.scales = {0.5}}; }},
      {"an input instead of a constant", [](Graph& g) { g.values[1].kind = ValueKind::kInput; }},
  };
  for (const auto& [what, change] : changes) {
    Graph graph = Layer();
    change(graph);
    EXPECT_NE(HashGraph(graph, 1), hash) << what;
  }
  Graph elsewhere = Layer();
  elsewhere.metadata["source"] = "b.onnx";
  EXPECT_EQ(HashGraph(elsewhere, 1), hash) << "where it came from changes nothing";
}

ProgramImage Image(const std::string& text) {
  const auto owner = std::make_shared<const std::string>(text);
  return {std::as_bytes(std::span(*owner)), owner};
}

std::string TextOf(const ProgramImage& image) {
  return std::string(reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size());
}

// Every file of the folder with its byte `at` changed, or the last one where it is shorter.
void Damage(const std::string& folder, int64_t at) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    const int64_t size = static_cast<int64_t>(std::filesystem::file_size(entry.path()));
    file.seekg(std::min(at, size - 1));
    const char was = static_cast<char>(file.get());
    file.seekp(std::min(at, size - 1));
    file.put(static_cast<char>(was ^ 1));
  }
}

TEST(CompileCacheTest, ObjectsComeBackAndDamagedOnesDoNot) {
  const std::string folder = EmptyFolder("objects");
  const CompileCache cache(folder);
  EXPECT_FALSE(cache.FindObject("k"));
  for (const int64_t at : {0, 31, 32, 1000}) {
    cache.StoreObject("k", Image("code code code"));
    const std::optional<ProgramImage> found = cache.FindObject("k");
    ASSERT_TRUE(found);
    EXPECT_EQ(TextOf(*found), "code code code");
    EXPECT_FALSE(cache.FindObject("other"));
    Damage(folder, at);
    EXPECT_FALSE(cache.FindObject("k")) << at;
  }
  std::ofstream(folder + "/short.o") << "0123";
  EXPECT_FALSE(cache.FindObject("short"));
}

TEST(CompileCacheTest, ProgramsComeBackUnderTheirOwnKeyOnly) {
  const std::string folder = EmptyFolder("programs");
  const CompileCache cache(folder);
  Program program;
  program.name = "p";
  program.key = "k";
  program.code_key = "c";
  program.images = {Image("code")};
  cache.StoreProgram(program);
  std::optional<Program> found = cache.FindProgram("k");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->code_key, "c");
  EXPECT_TRUE(found->images.empty()) << "its code is kept once, by its own key";
  std::filesystem::copy_file(folder + "/k.program", folder + "/l.program");
  EXPECT_FALSE(cache.FindProgram("l")) << "a renamed file is another program";
  Damage(folder, 70);
  EXPECT_FALSE(cache.FindProgram("k"));
  cache.StoreProgram(program);
  EXPECT_TRUE(cache.FindProgram("k"));
}

TEST(CompileCacheTest, WithoutAFolderNothingIsKept) {
  for (const std::string& folder : {std::string(), EmptyFolder("gone") + "/not/there"}) {
    const CompileCache cache(folder);
    cache.StoreObject("k", Image("code"));
    cache.StoreProgram({.name = "p", .key = "k"});
    EXPECT_FALSE(cache.FindObject("k"));
    EXPECT_FALSE(cache.FindProgram("k"));
  }
}

}  // namespace
}  // namespace tessera
