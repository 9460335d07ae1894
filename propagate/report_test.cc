// Tests reports: what stood before, what stands after, which slices went, and that each has its chain.
#include "propagate/report.h"

#include <vector>

#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

// y = relu(x w0) w1, where column 2 of w0 and rows 0 and 1 of w1 are pruned.
Graph TwoLayers() {
  GraphBuilder b("two");
  const ValueId x = b.Input("x", DType::kF32, {2, 3});
  std::vector<float> w0(3 * 4, 1.5f), w1(4 * 2, -0.5f);
  for (int k = 0; k < 3; ++k) w0[static_cast<size_t>(k) * 4 + 2] = 0;
  for (int k = 0; k < 4; ++k) w1[static_cast<size_t>(k)] = 0;
  const ValueId a = b.Constant("w0", Tensor::FromVector<float>({3, 4}, w0));
  const ValueId c = b.Constant("w1", Tensor::FromVector<float>({4, 2}, w1));
  b.SetTesa(a, Attribute::FromZeros(Tensor::FromVector<float>({3, 4}, w0)));
  b.SetTesa(c, Attribute::FromZeros(Tensor::FromVector<float>({4, 2}, w1)));
  const ValueId p = b.Matmul(x, a);
  const ValueId h = b.Named("h").Relu(p);
  b.Output(b.Named("y").Matmul(h, c));
  return std::move(b).Build().value();
}

const ValueReport& Of(const Graph& graph, const PropagationReport& report, std::string_view name) {
  return report.values[static_cast<size_t>(Index(graph.FindValue(name)))];
}

TEST(ReportTest, SaysWhatStoodWhatStandsAndWhy) {
  const Graph graph = TwoLayers();
  RuleBook book(RuleMode::kExact);
  const StatusOr<Facts> facts = Propagate(graph, book);
  ASSERT_TRUE(facts.ok()) << facts.status();
  const PropagationReport report = MakeReport(graph, *facts, book);

  const ValueReport& w0 = Of(graph, report, "w0");
  EXPECT_EQ(9, w0.before.num_kept());
  EXPECT_EQ(3, w0.after.num_kept());  // columns 0 and 1 are not read, column 2 was pruned
  EXPECT_EQ(6, w0.dead);
  ASSERT_EQ(2u, w0.slices.size());
  EXPECT_EQ((std::vector<int64_t>{0, 1}), w0.slices[0].indices);
  EXPECT_EQ((std::vector<int64_t>{2}), w0.slices[1].indices);
  EXPECT_EQ(1, w0.slices[0].axis);
  EXPECT_NE(std::string::npos, w0.slices[0].why.find("w1")) << w0.slices[0].why;

  const ValueReport& w1 = Of(graph, report, "w1");
  EXPECT_EQ(4, w1.before.num_kept());
  EXPECT_EQ(2, w1.after.num_kept());
  const ValueReport& h = Of(graph, report, "h");
  EXPECT_EQ(2, h.after.num_kept());  // column 3 of two rows
  EXPECT_EQ(2, h.zero);
  EXPECT_EQ(12 + 8, report.elements);
  EXPECT_EQ(9 + 4, report.kept_before);
  EXPECT_EQ(3 + 2, report.kept_after);
}

TEST(ReportTest, ChainsAreWorkedOutAsFarAsAsked) {
  const Graph graph = TwoLayers();
  RuleBook book(RuleMode::kExact);
  const StatusOr<Facts> facts = Propagate(graph, book);
  ASSERT_TRUE(facts.ok()) << facts.status();
  for (const ValueReport& value : MakeReport(graph, *facts, book, {.max_chains = 0}).values) {
    for (const SliceReport& slice : value.slices) EXPECT_EQ("", slice.why);
  }
}

TEST(ReportTest, SaysAtHowManyBitsATensorMayBeStored) {
  GraphBuilder b("narrow");
  const ValueId x = b.Input("x", DType::kI8, {3});
  const ValueId h = b.Named("h").Relu(x);
  b.Output(b.Named("y").Cast(h, DType::kI32));
  const Graph graph = std::move(b).Build().value();
  RuleBook book(RuleMode::kExact);
  const StatusOr<Facts> facts = Propagate(graph, book);
  ASSERT_TRUE(facts.ok()) << facts.status();
  const PropagationReport report = MakeReport(graph, *facts, book);
  EXPECT_EQ(32, Of(graph, report, "y").bits.type_bits);
  EXPECT_EQ(7, Of(graph, report, "y").bits.bits);
  EXPECT_EQ(7, Of(graph, report, "h").bits.bits);
}

}  // namespace
}  // namespace tessera
