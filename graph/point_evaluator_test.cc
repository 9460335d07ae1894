// Single elements equal those of Evaluate, for every op on random nodes, in random order and twice over.
#include "graph/point_evaluator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "graph/op.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

bool Same(const RefTensor& expected, int64_t k, ScalarValue value) {
  if (!expected.is_float()) return expected.i[k] == value.i;
  return expected.f[k] == value.f || (std::isnan(expected.f[k]) && std::isnan(value.f));
}

void CheckAll(const Compute& compute, const std::vector<RefTensor>& inputs, std::mt19937_64& rng) {
  std::vector<const RefTensor*> pointers;
  for (const RefTensor& input : inputs) pointers.push_back(&input);
  std::vector<RefTensor> expected;
  Evaluate(compute, pointers, expected);
  PointEvaluator points(compute, [&](int input, int64_t element) { return inputs[input].Get(element); });
  for (size_t out = 0; out < expected.size(); ++out) {
    std::vector<int64_t> order(expected[out].size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), rng);
    for (int64_t k : order) {
      ASSERT_TRUE(Same(expected[out], k, points.Value(static_cast<int>(out), k))) << "element " << k << " of\n"
                                                                                  << compute.ToString();
    }
    for (int64_t k : order) ASSERT_TRUE(Same(expected[out], k, points.Value(static_cast<int>(out), k)));
  }
}

// The buffers that a compute of graph.nodes[0] reads; absent operands are placeholders.
std::vector<RefTensor> BuffersOf(const RandomCase& c, const Compute& compute) {
  const Node& node = c.graph.nodes[0];
  std::vector<ValueId> ids = node.inputs;
  if (node.epilogue) ids.insert(ids.end(), node.epilogue->inputs.begin(), node.epilogue->inputs.end());
  std::vector<RefTensor> buffers;
  for (size_t k = 0; k < ids.size(); ++k) {
    if (ids[k] == ValueId::kNone) {
      buffers.emplace_back(compute.inputs[k]);
      continue;
    }
    const auto at = std::find(c.graph.inputs.begin(), c.graph.inputs.end(), ids[k]);
    buffers.push_back(RefTensor::From(c.inputs[at - c.graph.inputs.begin()]));
  }
  return buffers;
}

class EveryOp : public testing::TestWithParam<Op> {};

TEST_P(EveryOp, EqualsEvaluate) {
  std::mt19937_64 rng(static_cast<uint64_t>(GetParam()) + 11);
  for (int n = 0; n < 12; ++n) {
    RandomCase c = RandomNode(GetParam(), rng);
    if (n % 2 == 1 && c.graph.nodes[0].outputs.size() == 1) AddRandomEpilogue(c, rng);
    const Compute compute = NodeCompute(c.graph, c.graph.nodes[0]);
    CheckAll(compute, BuffersOf(c, compute), rng);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(PointEvaluatorTest, EveryOp, testing::ValuesIn([] {
                           std::vector<Op> ops;
                           for (const OpDef& def : AllOps()) ops.push_back(def.op);
                           return ops;
                         }()),
                         [](const testing::TestParamInfo<Op>& info) { return std::string(Name(info.param)); });

// A write that no digit-wise reading inverts: reversed rows, and two axes that overlap in one index.
TEST(PointEvaluatorTest, IrregularWrites) {
  Compute compute;
  compute.inputs = {{DType::kF32, {2, 3}}};
  compute.outputs = {{DType::kF32, {12}}};
  for (int half = 0; half < 2; ++half) {
    Stage stage = MapStage("scatter", {2, 3}, {Elementwise({BufferKind::kInput, 0}, {2, 3})}, IdentityBody(DType::kF32),
                           {BufferKind::kOutput, 0});
    IndexExpr index = Axis(0, half == 0 ? 1 : -1, half == 0 ? 0 : 7);
    stage.write = {.buffer = {BufferKind::kOutput, 0}, .view = {12}, .index = {AxisPlus(index, 1, 2)}};
    compute.stages.push_back(std::move(stage));
  }
  ASSERT_TRUE(compute.Verify().ok());
  RefTensor x(compute.inputs[0]);
  std::iota(x.f.begin(), x.f.end(), 1);
  std::mt19937_64 rng(3);
  CheckAll(compute, {x}, rng);
}

// One element of a product takes the time of its terms: a few nanoseconds each.
TEST(PointEvaluatorTest, ProductIsCheapPerTerm) {
  constexpr int64_t kTerms = 1 << 20;
  Attrs attrs;
  const OpContext context = {.attrs = attrs,
                             .inputs = {TensorType{DType::kF32, {4, kTerms}}, TensorType{DType::kF32, {kTerms, 4}}},
                             .outputs = {TensorType{DType::kF32, {4, 4}}}};
  PointEvaluator points(GetOp(Op::kMatmul).compute(context),
                        [](int, int64_t element) { return ScalarValue{.f = static_cast<double>(element & 1)}; });
  const auto start = std::chrono::steady_clock::now();
  // a[1, k] is 1 for odd k, b[k, 1] always.
  EXPECT_EQ(points.Value(0, 5).f, kTerms / 2);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  RecordProperty("picoseconds_per_term", static_cast<int>(seconds * 1e12 / kTerms));
  std::printf("%.1f ns per term\n", seconds * 1e9 / kTerms);
  EXPECT_LT(seconds * 1e9 / kTerms, 100) << "nanoseconds per term";
}

}  // namespace
}  // namespace tessera
