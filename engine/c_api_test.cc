#include "engine/c_api.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "graph/builder.h"
#include "graph/model_file.h"

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
