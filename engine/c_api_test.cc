#include "engine/c_api.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/model_file.h"
#include "runtime/program_bundle.h"

namespace tessera {
namespace {

// doubled = 2 x.
std::string ModelBytes() {
  GraphBuilder b("doubler");
  const ValueId x = b.Input("x", DType::kF32, {2, 3});
  b.Output(b.Named("doubled").Add(x, x));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  StatusOr<std::string> bytes = WriteModelToString(*graph);
  TES_CHECK(bytes.ok(), bytes.status());
  return *bytes;
}

TEST(CApiTest, LoadCompileRunClone) {
  const std::string bytes = ModelBytes();
  tessera_model* model = nullptr;
  ASSERT_EQ(tessera_model_load_from_memory(bytes.data(), bytes.size(), &model), 0) << tessera_last_error();
  EXPECT_STREQ(tessera_last_error(), "");
  EXPECT_EQ(tessera_model_num_inputs(model), 1u);
  EXPECT_EQ(tessera_model_num_outputs(model), 1u);
  tessera_tensor_info info;
  ASSERT_EQ(tessera_model_input(model, 0, &info), 0);
  EXPECT_STREQ(info.name, "x");
  EXPECT_STREQ(info.type, "f32");
  ASSERT_EQ(info.rank, 2u);
  EXPECT_EQ(info.shape[1], 3);
  EXPECT_EQ(info.bytes, 24u);
  ASSERT_EQ(tessera_model_output(model, 0, &info), 0);
  EXPECT_STREQ(info.name, "doubled");
  tessera_options options = TESSERA_OPTIONS_INIT;
  options.threads = 1;
  options.tier = "both";
  tessera_session* session = nullptr;
  ASSERT_EQ(tessera_model_compile(model, &options, &session), 0) << tessera_last_error();
  tessera_session* clone = nullptr;
  ASSERT_EQ(tessera_session_clone(session, &clone), 0) << tessera_last_error();
  // Neither the model nor the first session is needed any more.
  tessera_model_free(model);
  tessera_session_free(session);
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  std::vector<float> y(6);
  const tessera_input input = {"x", x.data(), 24};
  const tessera_output output = {"doubled", y.data(), 24};
  ASSERT_EQ(tessera_session_run(clone, &input, 1, &output, 1), 0) << tessera_last_error();
  EXPECT_EQ(y, (std::vector<float>{2, 4, 6, 8, 10, 12}));
  EXPECT_EQ(tessera_session_run(clone, &input, 0, &output, 1), 1201);
  EXPECT_NE(std::string(tessera_last_error()).find("TES-1201: input 'x'"), std::string::npos) << tessera_last_error();
  EXPECT_EQ(tessera_session_await_final_tier(clone), 0) << tessera_last_error();
  EXPECT_EQ(tessera_session_await_final_tier(nullptr), 2001);
  double us = 0;
  EXPECT_EQ(tessera_session_measure(clone, 10, &us), 2001);  // the host has no clock of its own
  EXPECT_EQ(tessera_session_measure(clone, 10, nullptr), 2001);
  tessera_session_free(clone);
}

// A file of programs for cards that are not here and for this processor: the one that can run is taken.
TEST(CApiTest, OpensAFileOfPrograms) {
  const std::string bytes = ModelBytes(), path = std::string(std::getenv("TEST_TMPDIR")) + "/doubler.tessx";
  const StatusOr<Model> model = Model::LoadFromMemory(bytes.data(), bytes.size());
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<std::shared_ptr<const Program>> programs;
  for (const char* target : {"cuda:sm_80", "host:x86-64", "hip:gfx942", "simt:amdgpu:gfx1100"}) {
    Options options;
    options.target = target;
    StatusOr<std::shared_ptr<const Program>> program = CompileProgram(*model, options);
    ASSERT_TRUE(program.ok()) << program.status();
    programs.push_back(*program);
  }
  ASSERT_TRUE(WriteBundle(programs, path).ok());
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  for (const char* target : {static_cast<const char*>(nullptr), "auto", "host", "simt:amdgpu:gfx1100"}) {
    tessera_options options = TESSERA_OPTIONS_INIT;
    options.target = target;
    tessera_session* session = nullptr;
    ASSERT_EQ(tessera_session_load(path.c_str(), &options, &session), 0) << tessera_last_error();
    ASSERT_EQ(tessera_session_num_inputs(session), 1u);
    ASSERT_EQ(tessera_session_num_outputs(session), 1u);
    tessera_tensor_info in, out;
    ASSERT_EQ(tessera_session_input(session, 0, &in), 0);
    ASSERT_EQ(tessera_session_output(session, 0, &out), 0);
    EXPECT_EQ(tessera_session_input(session, 1, &in), 1202);
    EXPECT_STREQ(in.name, "x");
    EXPECT_EQ(out.bytes, 24u);
    EXPECT_NE(std::string(tessera_session_target(session)), "");
    std::vector<float> y(6);
    const tessera_input input = {in.name, x.data(), 24};
    const tessera_output output = {out.name, y.data(), 24};
    ASSERT_EQ(tessera_session_run(session, &input, 1, &output, 1), 0) << tessera_last_error();
    EXPECT_EQ(y, (std::vector<float>{2, 4, 6, 8, 10, 12})) << tessera_session_target(session);
    tessera_session_free(session);
  }
  tessera_session* session = nullptr;
  ASSERT_EQ(tessera_session_load(path.c_str(), nullptr, &session), 0) << tessera_last_error();
  tessera_session_free(session);
  tessera_options options = TESSERA_OPTIONS_INIT;
  options.target = "simt:amdgpu:gfx906";
  EXPECT_EQ(tessera_session_load(path.c_str(), &options, &session), 3004);
  EXPECT_NE(std::string(tessera_last_error()).find("hip:gfx942"), std::string::npos) << tessera_last_error();
  EXPECT_EQ(tessera_session_load("/nonexistent/m.tessx", nullptr, &session), 1001);
  EXPECT_EQ(tessera_session_load(nullptr, nullptr, &session), 2001);
  EXPECT_EQ(tessera_session_load(path.c_str(), nullptr, nullptr), 2001);
}

TEST(CApiTest, FailuresHaveNumbersAndTexts) {
  tessera_model* model = nullptr;
  EXPECT_EQ(tessera_model_load("/nonexistent/m.tess", &model), 1001);
  EXPECT_EQ(std::string(tessera_last_error()).compare(0, 9, "TES-1001:"), 0) << tessera_last_error();
  EXPECT_NE(tessera_model_load_from_memory("nonsense", 8, &model), 0);
  EXPECT_EQ(tessera_model_load(nullptr, &model), 2001);
  EXPECT_EQ(tessera_model_load("m.tess", nullptr), 2001);
  EXPECT_EQ(tessera_model_compile(nullptr, nullptr, nullptr), 2001);
  tessera_model_free(nullptr);
  tessera_session_free(nullptr);
}

TEST(CApiTest, AnOlderCallersOptionsKeepTheirMeaning) {
  const std::string bytes = ModelBytes();
  tessera_model* model = nullptr;
  ASSERT_EQ(tessera_model_load_from_memory(bytes.data(), bytes.size(), &model), 0);
  tessera_tensor_info info;
  EXPECT_EQ(tessera_model_input(model, 1, &info), 1202);
  tessera_options options = TESSERA_OPTIONS_INIT;
  options.struct_size = offsetof(tessera_options, threads);
  options.threads = -5;  // beyond what this caller knows: not read
  tessera_session* session = nullptr;
  EXPECT_EQ(tessera_model_compile(model, &options, &session), 0) << tessera_last_error();
  tessera_session_free(session);
  options.struct_size = sizeof(options);
  EXPECT_EQ(tessera_model_compile(model, &options, &session), 2001);
  options.threads = 1;
  options.tier = "third";
  EXPECT_EQ(tessera_model_compile(model, &options, &session), 2001);
  tessera_model_free(model);
}

}  // namespace
}  // namespace tessera
