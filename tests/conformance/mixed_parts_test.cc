// Layers whose weights are of two precisions, or of 4 bits, and of a pattern besides, on GPUs: quantised as `convert`
// does it, lowered as the engine does, run on the host's stand-ins for chips and on a card if there is one, against the
// interpreter on the lowered graph. Odd sizes, few rows and many.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "codegen/target.h"
#include "engine/engine_internal.h"
#include "graph/builder.h"
#include "graph/interpreter.h"
#include "models/prune/prune.h"
#include "models/quantize/quantize.h"
#include "tesa/random.h"
#include "tesa/testing/close.h"

namespace tessera {
namespace {

// x -> relu(x · w1 + b1) · w2 with weights of `depth` x 77 and 77 x 33.
Graph MakeGraph(int64_t batch, int64_t depth, uint64_t seed) {
  Random random(seed);
  GraphBuilder b("mixed");
  const auto weight = [&](const char* name, const Shape& shape) {
    return b.Constant(name, RandomTensor(random, {DType::kF32, shape}, 1 / std::sqrt(static_cast<double>(shape[0]))));
  };
  ValueId x = b.Input("x", DType::kF32, {batch, depth});
  x = b.Named("fc1").Matmul(x, weight("fc1.weight", {depth, 77}));
  x = b.Relu(b.Add(x, b.Constant("fc1.bias", RandomTensor(random, {DType::kF32, {77}}))));
  b.Output(b.Named("fc2").Matmul(x, weight("fc2.weight", {77, 33})));
  StatusOr<Graph> graph = std::move(b).Build();
  TES_CHECK(graph.ok(), graph.status());
  return *std::move(graph);
}

std::vector<std::string> Levels() {
  std::vector<std::string> levels = {"simt:nvptx:sm_80", "simt:nvptx:sm_90a:random", "simt:amdgpu:gfx942"};
  if (MakeTarget("cuda").ok()) levels.push_back("cuda");
  return levels;
}

class MixedPartsTest : public testing::TestWithParam<std::string> {
 protected:
  void Expect(int64_t batch, int64_t depth, const char* pattern, const char* precision) {
    SCOPED_TRACE(internal::Join(batch, "x", depth, " ", pattern, " ", precision));
    Graph graph = MakeGraph(batch, depth, ++seed_);
    const StatusOr<PruneSpec> prune = ParsePruneSpec(pattern);
    ASSERT_TRUE(prune.ok()) << prune.status();
    Prune(graph, *prune, seed_);
    const StatusOr<QuantizeSpec> quantize = ParseQuantizeSpec(precision);
    ASSERT_TRUE(quantize.ok()) << quantize.status();
    Random random(seed_);
    const TensorType type = {DType::kF32, {batch, depth}};
    int left = 4;
    const auto samples = [&](std::vector<Tensor>& inputs) -> StatusOr<bool> {
      inputs = {RandomTensor(random, type)};
      return left-- > 0;
    };
    const auto report = QuantizeGraph(graph, *quantize, samples, {.threads = 1});
    ASSERT_TRUE(report.ok()) << report.status();
    const StatusOr<Model> model = ModelFromGraph(std::move(graph));
    ASSERT_TRUE(model.ok()) << model.status();
    Options options;
    options.target = GetParam();
    const StatusOr<Graph> lowered = OptimizedGraphOf(*model, options);
    ASSERT_TRUE(lowered.ok()) << lowered.status();
    StatusOr<Session> session = model->Compile(options);
    ASSERT_TRUE(session.ok()) << session.status();
    const std::vector<Tensor> inputs = {RandomTensor(random, type)};
    const StatusOr<std::vector<RefTensor>> expected = Interpret(*lowered, inputs);
    ASSERT_TRUE(expected.ok()) << expected.status();
    Tensor found(DType::kF32, {batch, 33});
    const void* from = inputs[0].bytes().data();
    void* to = found.mutable_bytes().data();
    const Status status = session->RunPositional(&from, &to);
    ASSERT_TRUE(status.ok()) << status;
    // f32 sums of two layers; a value on the border of two integers may fall to either side.
    EXPECT_TRUE(Close(found, (*expected)[0].ToTensor(), precision[0] == 'i' ? 2e-3 : 1e-5));
    for (const std::string& line : session->report().decisions) decisions_ += line.substr(0, line.find(';')) + "\n";
  }

  uint64_t seed_ = 1;
  std::string decisions_;
};

TEST_P(MixedPartsTest, BytesAndFloatsBesideThem) {
  for (const int64_t batch : {3, 7, 33}) {
    for (const char* pattern : {"none", "80%:16x16", "2:4"}) Expect(batch, 131, pattern, "i8+outliers=3%");
  }
  Expect(33, 260, "90%:fine", "i8+outliers=2%");
  EXPECT_NE(decisions_.find("gpu_"), decisions_.npos) << decisions_;
}

TEST_P(MixedPartsTest, WeightsOfFourBits) {
  for (const int64_t batch : {1, 3, 7, 33}) {
    for (const char* precision : {"w4g32", "u4g32"}) Expect(batch, 160, "none", precision);
  }
  for (const char* pattern : {"80%:16x16", "2:4", "90%:fine"}) Expect(7, 160, pattern, "w4g32");
  EXPECT_NE(decisions_.find("gpu_gemv_int4"), decisions_.npos) << decisions_;
}

TEST_P(MixedPartsTest, BytesAlone) {
  for (const char* pattern : {"none", "2:4", "70%:channels"}) Expect(33, 131, pattern, "w8");
}

INSTANTIATE_TEST_SUITE_P(Levels, MixedPartsTest, testing::ValuesIn(Levels()),
                         [](const auto& info) { return "Level" + std::to_string(info.index); });

}  // namespace
}  // namespace tessera
