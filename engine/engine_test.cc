#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <thread>

#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/interpreter.h"
#include "graph/model_file.h"
#include "runtime/trace.h"
#include "tesa/attribute.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// y = relu(x · W + b), z = y + x · W twice over: two inputs, two outputs, constants.
Graph SmallGraph() {
  Random random(11);
  GraphBuilder b("small");
  const ValueId x = b.Input("x", DType::kF32, {3, 17});
  const ValueId shift = b.Input("shift", DType::kF32, {5});
  const ValueId w = b.Constant("w", RandomTensor(random, {DType::kF32, {17, 5}}));
  const ValueId h = b.Matmul(x, w);
  const ValueId shifted = b.Add(h, shift);
  b.Output(b.Named("y").Relu(shifted));
  b.Output(b.Named("z").Tanh(h));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *graph;
}

Model SmallModel() {
  StatusOr<Model> model = ModelFromGraph(SmallGraph());
  TES_CHECK(model.ok(), model.status());
  return *model;
}

struct Buffers {
  Tensor x, shift;
  std::vector<float> y = std::vector<float>(15), z = std::vector<float>(15);

  explicit Buffers(uint64_t seed) {
    Random random(seed);
    x = RandomTensor(random, {DType::kF32, {3, 17}});
    shift = RandomTensor(random, {DType::kF32, {5}});
  }
  std::vector<InputView> Inputs() const {
    return {{"shift", shift.bytes().data(), shift.bytes().size()}, {"x", x.bytes().data(), x.bytes().size()}};
  }
  std::vector<OutputView> Outputs() { return {{"y", y.data(), 60}, {"z", z.data(), 60}}; }
  // The largest distance from the interpreter.
  double Error(bool y_only = false) const {
    StatusOr<std::vector<RefTensor>> expected = Interpret(SmallGraph(), std::vector<Tensor>{x, shift});
    TES_CHECK(expected.ok(), expected.status());
    double error = 0;
    for (size_t k = 0; k < 15; ++k) {
      error = std::max(error, std::abs((*expected)[0].f[k] - y[k]));
      if (!y_only) error = std::max(error, std::abs((*expected)[1].f[k] - z[k]));
    }
    return error;
  }
};

void ExpectError(const Status& status, ErrorCode code, const std::string& text) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(text), std::string::npos) << status;
}

TEST(EngineTest, FileToResult) {
  const std::string path = testing::TempDir() + "/engine_test.tess";
  Graph graph = SmallGraph();
  graph.metadata["licence"] = "none";
  ASSERT_TRUE(WriteModel(graph, path).ok());
  StatusOr<Model> model = Model::Load(path);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->metadata().at("licence"), "none");
  ASSERT_EQ(model->inputs().size(), 2u);
  EXPECT_EQ(model->inputs()[0].name, "x");
  EXPECT_EQ(model->inputs()[0].type, "f32");
  EXPECT_EQ(model->inputs()[0].shape, (std::vector<int64_t>{3, 17}));
  EXPECT_EQ(model->inputs()[0].bytes, 3 * 17 * sizeof(float));
  EXPECT_EQ(model->outputs()[1].name, "z");
  StatusOr<Session> session = model->Compile({});
  ASSERT_TRUE(session.ok()) << session.status();
  Buffers buffers(1);
  ASSERT_TRUE(session->Run(buffers.Inputs(), buffers.Outputs()).ok());
  EXPECT_LT(buffers.Error(), 1e-5);
}

TEST(EngineTest, MemoryToResultWhileTheBytesGoAway) {
  StatusOr<std::string> bytes = WriteModelToString(SmallGraph());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  auto copy = std::make_unique<std::string>("x" + *bytes);  // at an odd address
  StatusOr<Model> model = Model::LoadFromMemory(copy->data() + 1, bytes->size());
  copy.reset();
  ASSERT_TRUE(model.ok()) << model.status();
  StatusOr<Session> session = model->Compile({.threads = 1});
  ASSERT_TRUE(session.ok()) << session.status();
  Buffers buffers(2);
  ASSERT_TRUE(session->Run(buffers.Inputs(), buffers.Outputs()).ok());
  EXPECT_LT(buffers.Error(), 1e-5);
}

TEST(EngineTest, BrokenModelsAreErrors) {
  ExpectError(Model::Load("/nonexistent/m.tess").status(), ErrorCode::kFileNotFound, "/nonexistent/m.tess");
  EXPECT_FALSE(Model::LoadFromMemory("nonsense", 8).ok());
  EXPECT_FALSE(Model::LoadFromMemory(nullptr, 0).ok());
  Graph graph = SmallGraph();
  std::swap(graph.nodes[0], graph.nodes[1]);
  EXPECT_FALSE(ModelFromGraph(graph).ok());
}

TEST(EngineTest, WrongPortsAndSizesAreNamed) {
  StatusOr<Session> session = SmallModel().Compile({.threads = 1});
  ASSERT_TRUE(session.ok()) << session.status();
  Buffers b(3);
  const InputView x = b.Inputs()[1], shift = b.Inputs()[0];
  ExpectError(session->Run({x}, b.Outputs()), ErrorCode::kInputMissing, "input 'shift' (f32[5]) was not given");
  ExpectError(session->Run({x, shift, {"w", x.data, x.bytes}}, {}), ErrorCode::kInputUnknown,
              "no input 'w'; it has 'x', 'shift'");
  ExpectError(session->Run({x, shift}, {{"q", b.y.data(), 60}}), ErrorCode::kInputUnknown,
              "no output 'q'; it has 'y', 'z'");
  ExpectError(session->Run({{"x", x.data, 8}, shift}, {}), ErrorCode::kShapeMismatch,
              "input 'x': expected 204 bytes of f32[3,17], found 8");
  ExpectError(session->Run({x, shift}, {{"y", b.y.data(), 64}}), ErrorCode::kShapeMismatch,
              "output 'y': expected 60 bytes");
  ExpectError(session->Run({{"x", nullptr, x.bytes}, shift}, {}), ErrorCode::kShapeMismatch, "found 0");
  // None of these broke the session, and an output may be left out.
  ASSERT_TRUE(session->Run({x, shift}, {{"y", b.y.data(), 60}}).ok());
  EXPECT_LT(b.Error(/*y_only=*/true), 1e-5);
}

TEST(EngineTest, PositionalRunsGiveTheSame) {
  StatusOr<Session> session = SmallModel().Compile({.threads = 2});
  ASSERT_TRUE(session.ok()) << session.status();
  Buffers b(4);
  const void* inputs[] = {b.x.bytes().data(), b.shift.bytes().data()};
  void* outputs[] = {b.y.data(), b.z.data()};
  for (int repeat = 0; repeat < 3; ++repeat) ASSERT_TRUE(session->RunPositional(inputs, outputs).ok());
  EXPECT_LT(b.Error(), 1e-5);
}

TEST(EngineTest, ClonesRunAtTheSameTimeAndOutliveTheirOrigin) {
  std::vector<Session> sessions;
  {
    StatusOr<Session> first = SmallModel().Compile({.threads = 1});
    ASSERT_TRUE(first.ok()) << first.status();
    for (int k = 0; k < 4; ++k) {
      StatusOr<Session> clone = first->Clone();
      ASSERT_TRUE(clone.ok()) << clone.status();
      sessions.push_back(*std::move(clone));
    }
  }
  std::vector<std::thread> threads;
  std::vector<double> errors(sessions.size(), 1);
  for (size_t k = 0; k < sessions.size(); ++k) {
    threads.emplace_back([&, k] {
      double worst = 0;
      for (uint64_t repeat = 0; repeat < 20; ++repeat) {
        Buffers b(100 * k + repeat);
        if (!sessions[k].Run(b.Inputs(), b.Outputs()).ok()) return;
        worst = std::max(worst, b.Error());
      }
      errors[k] = worst;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (double error : errors) EXPECT_LT(error, 1e-5);
}

TEST(EngineTest, OneModelCompilesOnSeveralThreads) {
  const Model model = SmallModel();
  std::vector<std::thread> threads;
  std::vector<Status> results(3, Error(ErrorCode::kInternal, "did not end"));
  for (size_t k = 0; k < results.size(); ++k) {
    threads.emplace_back([&, k] { results[k] = model.Compile({.threads = 1}).status(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : results) EXPECT_TRUE(status.ok()) << status;
}

TEST(EngineTest, OptionsThatAreWrongAreErrors) {
  const Model model = SmallModel();
  ExpectError(model.Compile({.target = "toaster"}).status(), ErrorCode::kTargetUnknown, "toaster");
  ExpectError(model.Compile({.threads = -1}).status(), ErrorCode::kUsageInvalid, "");
  ExpectError(model.Compile({.only_emitter = "magic"}).status(), ErrorCode::kUsageInvalid,
              "no emitter 'magic'; there are ");
  ExpectError(model.Compile({.on_collapse = "perhaps"}).status(), ErrorCode::kUsageInvalid, "keep or error");
}

// Two layers; columns 1 and 4 of the first are zero, so `y` needs three hidden units of five.
Graph PrunedGraph() {
  Random random(12);
  GraphBuilder b("pruned");
  const ValueId x = b.Input("x", DType::kF32, {3, 17});
  Tensor w = RandomTensor(random, {DType::kF32, {17, 5}});
  for (int64_t k = 0; k < 17; ++k) w.Set(k * 5 + 1, 0), w.Set(k * 5 + 4, 0);
  const ValueId h =
      b.Relu(b.Add(b.Matmul(x, b.Constant("w", std::move(w))), b.Constant("b", Tensor::Full(DType::kF32, {5}, 0.25))));
  b.Output(b.Named("y").Matmul(h, b.Constant("v", RandomTensor(random, {DType::kF32, {5, 5}}))));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *graph;
}

TEST(EngineTest, WhatIsPrunedIsNotComputed) {
  const StatusOr<Model> model = ModelFromGraph(PrunedGraph());
  ASSERT_TRUE(model.ok()) << model.status();
  Random random(13);
  const Tensor x = RandomTensor(random, {DType::kF32, {3, 17}});
  const StatusOr<std::vector<RefTensor>> expected = Interpret(PrunedGraph(), std::vector<Tensor>{x});
  ASSERT_TRUE(expected.ok()) << expected.status();
  double flops[2] = {};
  for (const bool propagate : {true, false}) {
    StatusOr<Session> session = model->Compile({.propagate = propagate});
    ASSERT_TRUE(session.ok()) << session.status();
    std::vector<float> y(15);
    ASSERT_TRUE(session->Run({{"x", x.bytes().data(), x.bytes().size()}}, {{"y", y.data(), 60}}).ok());
    for (size_t k = 0; k < y.size(); ++k) EXPECT_NEAR(y[k], (*expected)[0].f[k], 1e-5);
    EXPECT_EQ(session->report().shrunk.empty(), !propagate);
    flops[propagate] = session->report().flops;
  }
  EXPECT_LT(flops[1], 0.7 * flops[0]);
}

TEST(EngineTest, AnEmptyNetworkIsRefusedOrKept) {
  GraphBuilder b("empty");
  const ValueId x = b.Input("x", DType::kF32, {3, 17});
  b.Output(b.Named("y").Matmul(x, b.Constant("w", Tensor(DType::kF32, {17, 5}))));
  const StatusOr<Model> model = ModelFromGraph(*std::move(b).Build());
  ASSERT_TRUE(model.ok()) << model.status();
  const StatusOr<Session> kept = model->Compile({});
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_FALSE(kept->report().warnings.empty());
  const StatusOr<Session> refused = model->Compile({.on_collapse = "error"});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().ToString().find("w"), std::string::npos) << refused.status();
}

// Which emitter the product takes, and what the report says of it.
TEST(EngineTest, SparsityOffKeepsTheDenseKernels) {
  Random random(12);
  GraphBuilder b("sparse");
  const ValueId x = b.Input("x", DType::kF32, {64, 256});
  Tensor weights = RandomTensor(random, {DType::kF32, {256, 256}});
  for (float& w : weights.mutable_data<float>()) w = random.Next() % 10 == 0 ? w : 0;
  const ValueId w = b.Constant("w", weights);
  b.SetTesa(w, Attribute::FromZeros(weights));
  b.Output(b.Named("y").Matmul(x, w));
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const StatusOr<Model> model = ModelFromGraph(*graph);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto decision = [&](bool sparsity) {
    const StatusOr<Session> session = model->Compile({.target = "host:x86-64-v3", .sparsity = sparsity});
    TES_CHECK(session.ok(), session.status());
    return session->report().decisions.at(0);
  };
  EXPECT_EQ(decision(true).rfind("node 'y': sparse_stream:", 0), 0u) << decision(true);
  EXPECT_NE(decision(true).find("scattered, 10 % kept"), std::string::npos) << decision(true);
  EXPECT_EQ(decision(false).rfind("node 'y': matmul;", 0), 0u) << decision(false);
  EXPECT_NE(decision(false).find("declare nothing as pruned"), std::string::npos) << decision(false);
}

// Two layers with scattered weights, bytes behind reals: enough of a pattern for code to be made of it.
Graph TieredGraph() {
  Random random(21);
  GraphBuilder b("tiered");
  const ValueId x = b.Input("x", DType::kF32, {64, 256});
  const auto weights = [&](const char* name, double scale) {
    Tensor tensor = RandomTensor(random, {DType::kF32, {256, 256}}, scale);
    for (float& w : tensor.mutable_data<float>()) w = random.Next() % 10 == 0 ? w : 0;
    const ValueId id = b.Constant(name, tensor);
    b.SetTesa(id, Attribute::FromZeros(tensor));
    return id;
  };
  const ValueId h = b.Relu(b.Matmul(x, weights("v", 0.2)));
  b.Output(b.Named("y").Matmul(h, weights("w", 0.2)));
  // Integers: equal to the last bit, whichever program gives them.
  Tensor bytes(DType::kI8, Shape({256, 256}));
  for (int8_t& w : bytes.mutable_data<int8_t>()) {
    w = random.Next() % 10 == 0 ? static_cast<int8_t>(random.Int(-127, 127)) : int8_t{0};
  }
  const ValueId w = b.Constant("bytes", bytes);
  b.SetTesa(w, Attribute::FromZeros(bytes));
  b.Output(b.Named("z").Matmul(b.Input("q", DType::kU8, {64, 256}), w));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *graph;
}

class TieredRun {
 public:
  TieredRun() {
    Random random(22);
    x_ = RandomTensor(random, {DType::kF32, {64, 256}});
    q_ = Tensor(DType::kU8, Shape({64, 256}));
    for (uint8_t& q : q_.mutable_data<uint8_t>()) q = static_cast<uint8_t>(random.Int(0, 255));
    StatusOr<std::vector<RefTensor>> expected = Interpret(TieredGraph(), std::vector<Tensor>{x_, q_});
    TES_CHECK(expected.ok(), expected.status());
    expected_ = *std::move(expected);
  }
  // The relative error of the reals, and whether the integers are right.
  bool Right(Session& session) const {
    std::vector<float> y(64 * 256, NAN);
    std::vector<int32_t> z(64 * 256, -1);
    const Status status =
        session.Run({{"x", x_.bytes().data(), x_.bytes().size()}, {"q", q_.bytes().data(), q_.bytes().size()}},
                    {{"y", y.data(), y.size() * 4}, {"z", z.data(), z.size() * 4}});
    EXPECT_TRUE(status.ok()) << status;
    double largest = 0, error = 0;
    bool same = true;
    for (size_t k = 0; k < y.size(); ++k) {
      largest = std::max(largest, std::abs(expected_[0].f[k]));
      if (!(std::abs(expected_[0].f[k] - y[k]) <= error)) error = std::abs(expected_[0].f[k] - y[k]);
      same &= expected_[1].i[k] == z[k];
    }
    return same && error <= 1e-5 * largest;
  }

 private:
  Tensor x_, q_;
  std::vector<RefTensor> expected_;
};

Model TieredModel() {
  StatusOr<Model> model = ModelFromGraph(TieredGraph());
  TES_CHECK(model.ok(), model.status());
  return *model;
}

TEST(EngineTest, TheFinalTierTakesThePlaceOfTheFirst) {
  const TieredRun run;
  const Model model = TieredModel();
  StatusOr<Session> session = model.Compile({.threads = 2, .tier = "both"});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->report().tier, "first");
  EXPECT_EQ(session->report().final_tier_ms, 0);
  EXPECT_NE(session->report().decisions[0].find("sparse_stream: left to the second tier"), std::string::npos)
      << session->report().decisions[0];
  const int64_t first_code = session->report().code_bytes;
  StatusOr<Session> clone = session->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  // Whichever runs, now and while it changes, gives the same.
  session->SetProfiling(true);
  for (int k = 0; k < 20; ++k) EXPECT_TRUE(run.Right(*session));
  ASSERT_TRUE(session->AwaitFinalTier().ok());
  EXPECT_EQ(session->report().tier, "final");
  EXPECT_GT(session->report().final_tier_ms, session->report().compile_ms);
  EXPECT_GT(session->report().code_bytes, first_code);
  EXPECT_NE(session->report().decisions[0].find("sparse_stream:"), std::string::npos);
  EXPECT_TRUE(run.Right(*session));
  EXPECT_EQ(session->Profile().size(), static_cast<size_t>(session->report().steps));
  EXPECT_GT(session->Profile()[0].us, 0);  // was asked of the one before
  // A clone changes by itself.
  EXPECT_EQ(clone->report().tier, "first");
  EXPECT_TRUE(run.Right(*clone));
  EXPECT_EQ(clone->report().tier, "final");
  EXPECT_EQ(clone->ProgramText(), session->ProgramText());
}

TEST(EngineTest, OneTierAlone) {
  const TieredRun run;
  const Model model = TieredModel();
  for (const std::string tier : {"first", "final"}) {
    StatusOr<Session> session = model.Compile({.threads = 1, .tier = tier});
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ(session->report().tier, tier);
    EXPECT_TRUE(run.Right(*session));
    EXPECT_TRUE(session->AwaitFinalTier().ok());
    EXPECT_EQ(session->report().tier, tier);
  }
  // Nothing here has a pattern.
  StatusOr<Session> dense = SmallModel().Compile({.tier = "both"});
  ASSERT_TRUE(dense.ok()) << dense.status();
  EXPECT_EQ(dense->report().tier, "final");
  ExpectError(model.Compile({.tier = "second"}).status(), ErrorCode::kUsageInvalid, "expected final, first or both");
}

TEST(EngineTest, SessionsAndModelsEndWhileTheFinalTierIsMade) {
  const TieredRun run;
  for (int runs : {0, 1, 3}) {
    StatusOr<Session> session = TieredModel().Compile({.threads = 1, .tier = "both"});  // the model is gone
    ASSERT_TRUE(session.ok()) << session.status();
    for (int k = 0; k < runs; ++k) EXPECT_TRUE(run.Right(*session));
    StatusOr<Session> clone = session->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status();
    *session = *std::move(clone);  // moved over, then destroyed
    EXPECT_TRUE(run.Right(*session));
  }
}

TEST(EngineTest, ClonesChangeTiersOnTheirOwnThreads) {
  const TieredRun run;
  StatusOr<Session> first = TieredModel().Compile({.threads = 1, .tier = "both"});
  ASSERT_TRUE(first.ok()) << first.status();
  std::vector<Session> sessions;
  for (int k = 0; k < 3; ++k) {
    StatusOr<Session> clone = first->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status();
    sessions.push_back(*std::move(clone));
  }
  sessions.push_back(*std::move(first));
  std::vector<std::thread> threads;
  std::vector<int> wrong(sessions.size(), 1);
  for (size_t k = 0; k < sessions.size(); ++k) {
    threads.emplace_back([&, k] {
      int failures = 0;
      while (sessions[k].report().tier == "first") failures += !run.Right(sessions[k]);
      failures += !run.Right(sessions[k]);
      wrong[k] = failures;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int failures : wrong) EXPECT_EQ(failures, 0);
}

TEST(EngineTest, AFinalTierThatIsKeptComesFirst) {
  const std::string folder = testing::TempDir() + "/engine_test_tiers";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const TieredRun run;
  for (const bool again : {false, true}) {
    StatusOr<Session> session = TieredModel().Compile({.threads = 2, .cache_dir = folder, .tier = "both"});
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ(session->report().tier, again ? "final" : "first");
    EXPECT_EQ(session->report().from_cache, again);
    ASSERT_TRUE(session->AwaitFinalTier().ok());
    EXPECT_TRUE(run.Right(*session));
  }
}

TEST(EngineTest, TargetsEmittersAndDenseKernelsGiveTheSame) {
  const std::vector<Options> all = {
      {.target = "host:x86-64-v3"}, {.target = "host:x86-64"}, {.only_emitter = "generic"}, {.sparsity = false}};
  for (const Options& options : all) {
    StatusOr<Session> session = SmallModel().Compile(options);
    ASSERT_TRUE(session.ok()) << session.status();
    Buffers b(5);
    ASSERT_TRUE(session->Run(b.Inputs(), b.Outputs()).ok());
    EXPECT_LT(b.Error(), 1e-5) << options.target << options.only_emitter;
  }
}

TEST(EngineTest, TheNullTargetChecksAndComputesNothing) {
  StatusOr<Session> session = SmallModel().Compile({.target = "null"});
  ASSERT_TRUE(session.ok()) << session.status();
  Buffers b(6);
  ASSERT_TRUE(session->Run(b.Inputs(), b.Outputs()).ok());
  EXPECT_EQ(b.y, std::vector<float>(15));
  EXPECT_FALSE(session->Run({}, {}).ok());
}

TEST(EngineTest, AMissingCardIsAnErrorOrFallsBack) {
  setenv("TESSERA_LIBCUDA", "/nonexistent/libcuda.so.1", 1);
  setenv("TESSERA_LIBAMDHIP64", "/nonexistent/libamdhip64.so", 1);
  const Model model = SmallModel();
  for (const auto& [target, words] : {std::pair("cuda", "'cuda': no NVIDIA driver"), {"hip", "'hip': no AMD driver"}}) {
    Options options = {.target = target};
    EXPECT_EQ(model.Compile(options).status().code(), ErrorCode::kDeviceMissing);
    options.fallback = "host";
    StatusOr<Session> session = model.Compile(options);
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ(session->report().target.rfind("host", 0), 0u);
    ASSERT_FALSE(session->report().warnings.empty());
    const std::string& warning = session->report().warnings[0];
    EXPECT_EQ(warning.rfind(std::string("runs on 'host' in place of ") + words, 0), 0u) << warning;
    EXPECT_EQ(session->MeasureUs(1).status().code(), ErrorCode::kUsageInvalid);
    // What no machine can help with stays an error.
    options.only_emitter = "abacus";
    EXPECT_EQ(model.Compile(options).status().code(), ErrorCode::kUsageInvalid);
  }
}

TEST(EngineTest, ReportProfileTraceAndText) {
  StatusOr<Session> session = SmallModel().Compile({.threads = 2});
  ASSERT_TRUE(session.ok()) << session.status();
  const SessionReport& report = session->report();
  EXPECT_GT(report.steps, 0);
  EXPECT_GT(report.kernels, 0);
  EXPECT_GT(report.code_bytes, 0);
  EXPECT_GE(report.flops, 2 * 3 * 17 * 5);
  EXPECT_GE(report.arena_bytes, report.max_live_bytes);
  EXPECT_GE(report.constant_bytes, 17 * 5 * 4);
  EXPECT_GT(report.compile_ms, 0);
  EXPECT_FALSE(report.decisions.empty());
  EXPECT_EQ(report.target.compare(0, 4, "host"), 0) << report.target;
  EXPECT_NE(session->ProgramText().find("step 0"), std::string::npos) << session->ProgramText();
  EXPECT_EQ(SessionAccess::ThreadsOf(*session), 2);
  Trace trace({.num_threads = 2});
  SessionAccess::SetTrace(*session, &trace);
  session->SetProfiling(true);
  Buffers b(7);
  ASSERT_TRUE(session->Run(b.Inputs(), b.Outputs()).ok());
  const std::vector<StepProfile> profile = session->Profile();
  ASSERT_EQ(profile.size(), static_cast<size_t>(report.steps));
  EXPECT_FALSE(profile[0].kernel.empty());
  EXPECT_FALSE(profile[0].label.empty());
  EXPECT_FALSE(trace.Events().empty());
}

TEST(EngineTest, CachedCodeIsFoundAgainAndGivesTheSame) {
  const std::string folder = testing::TempDir() + "/engine_test_cache";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  for (bool second : {false, true}) {
    // Kernels are chosen for the number of threads.
    StatusOr<Session> session = SmallModel().Compile({.threads = 2, .cache_dir = folder});
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_EQ(session->report().from_cache, second);
    Buffers b(8);
    ASSERT_TRUE(session->Run(b.Inputs(), b.Outputs()).ok());
    EXPECT_LT(b.Error(), 1e-5);
  }
}

}  // namespace
}  // namespace tessera
