// Propagation takes seconds, not minutes: the limits of the published networks, with room for a machine that is busy.
#include "tests/propagate/speed.h"

#include <algorithm>
#include <cstdio>

#include "graph/builder.h"
#include "gtest/gtest.h"
#include "propagate/propagate.h"
#include "tesa/random.h"

namespace tessera {
namespace {

// Two hyperthreads share a core, and other tests run beside this one.
constexpr double kRoom = 2;

struct Limit {
  SpeedCase of;
  double seconds_first, seconds_cached;
};

class Speed : public testing::TestWithParam<Limit> {};

TEST_P(Speed, IsWithinItsLimit) {
  const Limit& limit = GetParam();
  StatusOr<SpeedFigures> figures = MeasurePropagation(limit.of);
  ASSERT_TRUE(figures.ok()) << figures.status();
  std::printf("%-14s %-13s %-8s %s\n", limit.of.network.c_str(), limit.of.prune.c_str(),
              std::string(Name(limit.of.rules)).c_str(), figures->ToString().c_str());
  EXPECT_LT(figures->seconds_first, kRoom * limit.seconds_first);
  EXPECT_LT(figures->seconds_cached, kRoom * limit.seconds_cached);
  EXPECT_LT(figures->peak_bytes, 4 * figures->weight_bytes + (64 << 20));  // what a process takes by itself
  EXPECT_LE(figures->kept_after, figures->kept_before);
}

INSTANTIATE_TEST_SUITE_P(Exact, Speed,
                         testing::Values(Limit{{"mlp", "90%:fine", RuleMode::kExact}, 0.5, 0.5},
                                         Limit{{"mobilenet_v1", "90%:fine", RuleMode::kExact}, 3, 3},
                                         Limit{{"mobilenet_v1", "60%:channels", RuleMode::kExact}, 3, 3},
                                         Limit{{"bert_base", "90%:fine", RuleMode::kExact}, 10, 1},
                                         Limit{{"bert_base", "90%:32x32", RuleMode::kExact}, 10, 1}));

INSTANTIATE_TEST_SUITE_P(Learned, Speed,
                         testing::Values(Limit{{"mlp", "90%:fine", RuleMode::kLearned}, 0.5, 0.5},
                                         Limit{{"mobilenet_v1", "90%:fine", RuleMode::kLearned}, 3, 3},
                                         Limit{{"bert_base", "90%:fine", RuleMode::kLearned}, 10, 1}));

// A layer of 16384x16384 in blocks costs what its 512x512 blocks cost, beside one look at its 256 MiB.
TEST(LargeLayer, CostsWhatItsBlocksCost) {
  constexpr int64_t kSize = 16384, kBlock = 32, kBlocks = kSize / kBlock;
  Random random(1);
  Bitmap cells(kBlocks * kBlocks);
  for (int64_t k = 0; k < cells.size(); ++k) {
    if (k % kBlocks != 7 && random.Chance(0.1)) cells.Set(k, true);
  }
  const Attribute tesa = Attribute::FromGrid({kSize, kSize}, {kBlock, kBlock}, cells, 8);
  GraphBuilder b("large");
  const ValueId x = b.Input("x", DType::kI8, {1, kSize});
  Tensor data(DType::kI8, {kSize, kSize});
  const std::span<int8_t> bytes = data.mutable_data<int8_t>();
  for (int64_t r = 0; r < kSize; ++r) {
    for (int64_t c = 0; c < kBlocks; ++c) {
      if (cells[r / kBlock * kBlocks + c]) std::fill_n(bytes.begin() + r * kSize + c * kBlock, kBlock, int8_t{1});
    }
  }
  const ValueId w = b.Constant("w", std::move(data));
  b.SetTesa(w, tesa);
  b.Output(b.Matmul(x, w));
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  RuleBook book(RuleMode::kExact);
  const double start = ProcessorSeconds();
  StatusOr<Facts> facts = Propagate(*graph, book);
  const double seconds = ProcessorSeconds() - start;
  ASSERT_TRUE(facts.ok()) << facts.status();
  std::printf("16384x16384 in blocks: %.3f s, facts of %lld KiB\n", seconds,
              static_cast<long long>(facts->byte_size() >> 10));
  EXPECT_LT(seconds, 2);
  EXPECT_LT(facts->byte_size(), 4 << 20);
  // Column 7 of the blocks is pruned: its outputs are zero. Everything else is needed.
  EXPECT_EQ(facts->known[static_cast<size_t>(Index(graph->outputs[0]))].CountOf(Certainty::kZero), kBlock);
}

}  // namespace
}  // namespace tessera
