// Tests code for NVIDIA chips without one: every op becomes PTX of the chip's version whose entry points take what the
// driver passes, and which declares nothing that only a library could give; what stands behind an op costs no launch.
// Runs: tests/conformance.
#include <random>
#include <string>

#include "codegen/compile.h"
#include "graph/builder.h"
#include "graph/op.h"
#include "graph/passes/pipeline.h"
#include "graph/testing/random_node.h"
#include "gtest/gtest.h"
#include "runtime/testing/fake_gpu.h"
#include "tesa/random.h"

namespace tessera {
namespace {

std::string TextOf(const Program& program) {
  std::string text;
  for (const ProgramImage& image : program.images) {
    text.append(reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size());
  }
  return text;
}

class NvptxTest : public testing::TestWithParam<const char*> {};

TEST_P(NvptxTest, EveryOpBecomesPtx) {
  const StatusOr<Target> target = MakeTarget(std::string("cuda:") + GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  std::mt19937_64 rng(7);
  for (const OpDef& def : AllOps()) {
    RandomCase random_case = RandomNode(def.op, rng);
    const StatusOr<CompileResult> compiled = Compile(random_case.graph, *target, {.threads = 1});
    ASSERT_TRUE(compiled.ok()) << def.name << ": " << compiled.status();
    const std::string text = TextOf(*compiled->program);
    if (compiled->program->steps.empty()) continue;  // nothing to do, or a view
    EXPECT_NE(std::string::npos, text.find(std::string(".target ") + GetParam())) << def.name;
    EXPECT_EQ(std::string::npos, text.find(".extern .func")) << def.name;
    for (const std::string& kernel : compiled->program->kernels) {
      EXPECT_NE(std::string::npos, text.find(".visible .entry " + kernel + "(")) << def.name << "\n" << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Chips, NvptxTest, testing::Values("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a"));

// A bias, a residual and an activation behind a product, a norm or a convolution cost no launch.
TEST_P(NvptxTest, WhatStandsBehindAnOpIsInItsLaunch) {
  const StatusOr<Target> target = MakeTarget(std::string("cuda:") + GetParam());
  ASSERT_TRUE(target.ok()) << target.status();
  const auto steps_of = [&](std::string_view op, DType type, bool more) -> size_t {
    Random random(1);
    GraphBuilder b{std::string(op)};
    const Shape shape = op == "convolution" ? Shape{1, 64, 14, 14} : Shape{op == "few rows" ? 3 : 96, 64};
    const auto constant = [&](const char* name, const Shape& s) {
      return b.Constant(name, RandomTensor(random, {type, s}));
    };
    const ValueId x = b.Input("x", type, shape);
    ValueId y;
    if (op == "convolution") {
      y = b.Conv(x, constant("w", {64, 64, 1, 1}));
    } else if (op == "norm") {
      y = b.LayerNorm(x, constant("scale", {64}), constant("shift", {64}), 1);
    } else {
      y = b.Matmul(x, constant("w", {64, 64}));
    }
    if (more) {
      y = b.Add(y, constant("bias", op == "convolution" ? Shape{64, 1, 1} : Shape{64}));
      y = b.Relu(b.Add(y, constant("residual", shape)));
    }
    b.Output(y);
    StatusOr<Graph> graph = std::move(b).Build();
    TES_CHECK(graph.ok(), graph.status());
    Status status = RunPasses(*graph, SimplifyPipeline());
    if (status.ok()) status = RunPasses(*graph, LoweringPipeline(MachineKind::kGpu));
    TES_CHECK(status.ok(), status);
    const StatusOr<CompileResult> compiled = Compile(*graph, *target, {.threads = 1});
    TES_CHECK(compiled.ok(), compiled.status());
    return compiled->program->steps.size();
  };
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const char* op : {"product", "few rows", "norm"}) EXPECT_EQ(steps_of(op, type, true), 1u) << op << Name(type);
    // Its image's channels go last and back.
    EXPECT_EQ(steps_of("convolution", type, true), steps_of("convolution", type, false)) << Name(type);
  }
}

// "cuda" is the chip of the card: all of it where we know it, what it shares with older ones where we do not.
TEST(NvptxTargetTest, TheCardsChipIsTaken) {
  FakeGpu& fake = FakeGpu::Use("runtime/testing/fake_libcuda.so");
  for (const auto& [capability, chip] :
       {std::pair(75, "sm_75"), {80, "sm_80"}, {87, "sm_86"}, {90, "sm_90a"}, {100, "sm_90"}}) {
    fake.Reset(nullptr);
    fake.SetChip("sm_" + std::to_string(capability));
    const StatusOr<Target> target = MakeTarget("cuda");
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(chip, target->cpu);
  }
  fake.SetChip("sm_70");
  EXPECT_EQ(ErrorCode::kTargetUnsupported, MakeTarget("cuda").status().code());
}

TEST(NvptxTargetTest, UnknownChipsAreNamed) {
  const StatusOr<Target> target = MakeTarget("cuda:sm_12");
  EXPECT_EQ(ErrorCode::kTargetUnknown, target.status().code());
  EXPECT_NE(std::string::npos, target.status().message().find("sm_90a")) << target.status();
}

}  // namespace
}  // namespace tessera
