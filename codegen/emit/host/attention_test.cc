// Attention of odd and of real sizes in both layouts, with every way a mask may broadcast and with masks that are known
// beforehand, against the interpreter in double. tests/conformance adds types and epilogues.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "codegen/compile.h"
#include "codegen/target.h"
#include "codegen/testing/run_compiled.h"
#include "graph/builder.h"
#include "graph/passes/pipeline.h"
#include "graph/testing/fused_qkv.h"

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

// Masks that are constants: what they leave out is not computed, and nothing else changes.
void CheckStatic(const Size& s, const std::string& layout, const Tensor& mask, bool listed) {
  GraphBuilder b("static mask");
  const auto operand = [&](const char* name, int64_t positions, int64_t columns) {
    const Shape shape =
        layout == "bshd" ? Shape{s.batch, positions, s.heads, columns} : Shape{s.batch, s.heads, positions, columns};
    return b.Input(name, DType::kF32, shape);
  };
  const ValueId q = operand("q", s.queries, s.depth), k = operand("k", s.keys, s.depth);
  const ValueId v = operand("v", s.keys, s.value_depth), constant = b.Constant("mask", mask);
  // Twice: layers share what is made of the mask.
  for (int layer = 0; layer < 2; ++layer) {
    const double scale = (2 + layer) / std::sqrt(static_cast<double>(s.depth));
    b.Output(b.Apply(Op::kAttention, {q, k, v, constant}, MakeAttrs({{"scale", scale}, {"layout", layout}})));
  }
  StatusOr<Graph> graph = std::move(b).Build();
  ASSERT_TRUE(graph.ok()) << graph.status();
  const std::vector<Tensor> inputs = RandomInputs(*graph, 3);
  for (const std::string& level : RunnableLevels()) {
    StatusOr<Target> target = MakeTarget(level);
    ASSERT_TRUE(target.ok());
    StatusOr<Plan> plan = MakePlan(*graph, *target, {.only_emitter = "attention"});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->notes[0].find("static mask") != std::string::npos, listed) << level << ": " << plan->notes[0];
    EXPECT_TRUE(CompiledAgrees(*graph, inputs, level, {.only_emitter = "attention"}, 1e-5))
        << layout << " " << s.queries << " " << s.keys << " " << s.depth << " " << s.value_depth;
  }
}

TEST(AttentionTest, StaticMasksLeaveOutWhatTheyMask) {
  struct Pattern {
    const char* name;
    std::function<bool(int64_t, int64_t, int64_t)> keeps;  // head, query, key
  };
  const Pattern patterns[] = {{"causal", [](int64_t, int64_t s, int64_t t) { return t <= s; }},
                              {"banded", [](int64_t, int64_t s, int64_t t) { return std::abs(s - t) <= 20 || t == 0; }},
                              {"blocks", [](int64_t h, int64_t s, int64_t t) {
                                 return s / 32 == t / 32 || (s / 32 * 7 + t / 32 * 3 + h) % 6 == 0;
                               }}};
  for (const Pattern& pattern : patterns) {
    for (const Size& size : {Size{2, 3, 193, 193, 16, 24}, Size{1, 2, 256, 256, 64, 64}, Size{1, 2, 130, 261, 9, 5}}) {
      for (const double out : {-static_cast<double>(INFINITY), -3.4028234663852886e38}) {
        Tensor mask(DType::kF32, Shape({1, size.heads, size.queries, size.keys}));
        for (int64_t i = 0; i < mask.num_elements(); ++i) {
          const int64_t h = i / (size.queries * size.keys), s = i / size.keys % size.queries, t = i % size.keys;
          mask.Set(i, pattern.keeps(h, s, t) ? 0.5 * static_cast<double>(t % 3) : out);
        }
        SCOPED_TRACE(pattern.name);
        CheckStatic(size, out < -1e39 ? "bshd" : "bhsd", mask, true);
      }
    }
  }
}

TEST(AttentionTest, StaticMasksThatLeaveOutLittleAreAdded) {
  const Size size = {1, 2, 40, 50, 8, 8};
  Tensor mask(DType::kF32, Shape({40, 50}));
  for (int64_t i = 0; i < mask.num_elements(); ++i) mask.Set(i, i % 5 == 0 ? -INFINITY : 0.0);
  CheckStatic(size, "bshd", mask, false);
}

// Queries, keys and values of one product: no step may do nothing but copy, and real ones are one attention.
TEST(AttentionTest, PartsOfOneProductAreReadWithoutCopies) {
  for (const QkvForm form : kQkvForms) {
    for (const bool quantised : {false, true}) {
      Graph graph = FusedQkvBlock({.form = form,
                                   .batch = 2,
                                   .positions = 33,
                                   .heads = 4,
                                   .depth = 16,
                                   .mask = quantised ? QkvMask::kNone : QkvMask::kCausalChoice,
                                   .quantised = quantised});
      ASSERT_TRUE(OptimizeForHost(graph).ok());
      const std::vector<Tensor> inputs = RandomInputs(graph, 5);
      for (const std::string& level : RunnableLevels()) {
        CompileResult result;
        ASSERT_TRUE(RunCompiled(graph, inputs, level, {}, &result).ok());
        SCOPED_TRACE(level + " " + std::to_string(static_cast<int>(form)) + (quantised ? " quantised\n" : "\n") +
                     result.program->ToString());
        int attentions = 0, moves = 0;
        for (const Step& step : result.program->steps) {
          const std::string& kernel = result.program->kernels[step.kernel];
          attentions += kernel.find("_attention_") != std::string::npos;
          moves += kernel.find("transpose") != std::string::npos || kernel.find("slice") != std::string::npos;
        }
        EXPECT_EQ(attentions, 1);
        EXPECT_EQ(moves, 0);
        EXPECT_TRUE(CompiledAgrees(graph, inputs, level, {}, 1e-5));
      }
    }
  }
}

}  // namespace
}  // namespace tessera
