// Attention of odd and of real sizes in both layouts, with every way a mask may broadcast, against the interpreter in
// double. tests/conformance adds types and epilogues.
#include <gtest/gtest.h>

#include <cmath>

#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"

namespace tessera {
namespace {

struct Size {
  int64_t batch, heads, queries, keys, depth, value_depth;
};

void Check(const Size& s, const std::string& layout, std::vector<int64_t> mask) {
  GraphBuilder b("attention");
  const auto operand = [&](const char* name, int64_t positions, int64_t columns) {
    const Shape shape =
        layout == "bshd" ? Shape{s.batch, positions, s.heads, columns} : Shape{s.batch, s.heads, positions, columns};
    return b.Input(name, DType::kF32, shape);
  };
  std::vector<ValueId> operands = {operand("q", s.queries, s.depth), operand("k", s.keys, s.depth),
                                   operand("v", s.keys, s.value_depth)};
  if (!mask.empty()) operands.push_back(b.Input("mask", DType::kF32, Shape(mask)));
  b.Output(b.Apply(Op::kAttention, operands,
                   MakeAttrs({{"scale", 8 / std::sqrt(static_cast<double>(s.depth))}, {"layout", layout}})));
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<Tensor> inputs = RandomInputs(*graph, 3);
  for (const std::string& level : RunnableLevels()) {
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, level, {.only_emitter = "attention"}, 1e-5))
        << layout << " " << s.batch << " " << s.heads << " " << s.queries << " " << s.keys << " " << s.depth << " "
        << s.value_depth << " mask of rank " << mask.size();
  }
}

TEST(AttentionTest, OddSizesInBothLayouts) {
  for (const std::string layout : {"bhsd", "bshd"}) {
    Check({1, 1, 1, 1, 1, 1}, layout, {});
    Check({2, 3, 7, 13, 5, 9}, layout, {});
    Check({1, 2, 15, 33, 17, 65}, layout, {});
    Check({1, 2, 31, 300, 20, 40}, layout, {});  // a row of scores beyond the registers
    Check({3, 1, 6, 64, 64, 130}, layout, {});
  }
}

TEST(AttentionTest, RealSizes) {
  Check({1, 4, 128, 128, 32, 32}, "bshd", {1, 1, 1, 128});
  Check({1, 2, 96, 256, 64, 64}, "bhsd", {1, 1, 96, 256});
}

TEST(AttentionTest, MasksOfEveryBroadcast) {
  const Size size = {2, 3, 5, 19, 8, 8};
  for (const std::vector<int64_t>& mask : std::vector<std::vector<int64_t>>{
           {2, 3, 5, 19}, {2, 1, 1, 19}, {1, 3, 5, 1}, {5, 19}, {19}, {2, 1, 5, 1}, {1}}) {
    Check(size, "bshd", mask);
    Check(size, "bhsd", mask);
  }
}

}  // namespace
}  // namespace tessera
