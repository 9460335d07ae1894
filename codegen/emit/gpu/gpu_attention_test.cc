// Attention of odd sizes, both layouts, masks of every shape, halves and epilogues, against the interpreter in double.
#include <cmath>

#include "codegen/emit/gpu/testing/attention_graph.h"
#include "codegen/emit/testing/gpu_kernels.h"
#include "codegen/emitter.h"
#include "codegen/target.h"
#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using Sizes = AttentionSizes;

// The attention of inputs q, k, v.
ValueId Attention(GraphBuilder& b, const Sizes& s, bool positions_first, DType type, ValueId mask = ValueId::kNone) {
  return AttentionOfInputs(b, s, positions_first, type, 0.7, mask);
}

void Check(const Graph& graph, double allowed = 1e-5) {
  EXPECT_TRUE(AgreesOnGpu(graph, RandomInputs(graph, 9), "gpu_attention", allowed));
}

TEST(GpuAttentionTest, SizesOfAllKinds) {
  for (const Sizes& s : {Sizes{1, 1, 1, 1, 1, 1}, Sizes{2, 3, 17, 33, 64, 64}, Sizes{1, 2, 40, 31, 7, 5},
                         Sizes{1, 2, 33, 65, 36, 100}, Sizes{1, 1, 5, 100, 128, 128}, Sizes{1, 12, 128, 128, 64, 64}}) {
    for (bool positions_first : {false, true}) {
      GraphBuilder b(internal::Join("attention ", s.queries, " ", s.keys, " ", s.depth, " ", s.value_depth));
      b.Output(Attention(b, s, positions_first, DType::kF32));
      Check(Built(std::move(b)));
    }
  }
}

// Every tile, where keys come several times and where all come at once, as chips with and without copies that go on by
// themselves run it.
TEST(GpuAttentionTest, EveryWay) {
  for (const char* chip : {"simt:nvptx:sm_75", "simt:nvptx:sm_80:random", "simt:nvptx:sm_90a", "simt:amdgpu:gfx942"}) {
    int ran = 0;
    for (const Sizes& s : {Sizes{1, 2, 37, 150, 20, 68}, Sizes{2, 1, 130, 32, 64, 64}, Sizes{1, 1, 9, 64, 33, 6}}) {
      GraphBuilder b(internal::Join(chip, " attention ", s.queries, " ", s.keys, " ", s.depth, " ", s.value_depth));
      b.Output(Attention(b, s, true, DType::kF32));
      const Graph graph = Built(std::move(b));
      StatusOr<Target> target = MakeTarget(chip);
      ASSERT_TRUE(target.ok()) << target.status();
      target->whole_space = true;
      for (const Emitter& emitter : AllEmitters()) {
        std::string why;
        if (emitter.name != "gpu_attention") continue;
        for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], *target, &why)) {
          EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), target->name,
                                     {.only_emitter = "gpu_attention:" + way.name}, 1e-5))
              << way.name;
          ++ran;
        }
      }
    }
    EXPECT_GE(ran, 12) << chip;
  }
}

// So many tiles that a thread takes eight queries.
TEST(GpuAttentionTest, ManyTiles) {
  GraphBuilder b("many tiles");
  b.Output(Attention(b, {4, 36, 37, 40, 16, 16}, true, DType::kF32));
  Check(Built(std::move(b)));
}

TEST(GpuAttentionTest, MasksOfEveryShape) {
  const Sizes s = {2, 3, 9, 45, 8, 8};
  for (const Shape& shape : {Shape({2, 3, 9, 45}), Shape({9, 45}), Shape({2, 1, 1, 45}), Shape({3, 1, 1})}) {
    GraphBuilder b("mask");
    b.Output(Attention(b, s, false, DType::kF32, b.Input("mask", DType::kF32, shape)));
    Check(Built(std::move(b)));
  }
}

TEST(GpuAttentionTest, MasksThatLeaveKeysOut) {
  GraphBuilder b("causal");
  Tensor mask(DType::kF32, {70, 70});
  for (int64_t s = 0; s < 70; ++s) {
    for (int64_t t = 0; t < 70; ++t) mask.Set(s * 70 + t, t < 69 - s ? (s % 2 == 0 ? -INFINITY : -1e30) : 0);
  }
  b.Output(Attention(b, {1, 2, 70, 70, 12, 12}, false, DType::kF32, b.Constant("mask", std::move(mask))));
  Check(Built(std::move(b)));
}

TEST(GpuAttentionTest, HalvesAndEpilogues) {
  GraphBuilder b("halves");
  b.Output(Attention(b, {1, 2, 20, 50, 32, 32}, true, DType::kF16));
  Check(Built(std::move(b)), 2e-3);
  GraphBuilder with("epilogue");
  const Sizes s = {2, 2, 20, 50, 24, 40};
  BodyBuilder body;
  const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32), residual = body.Input(DType::kF32);
  const ValueId mean = Attention(with, s, true, DType::kF32);
  with.Output(with.WithEpilogue(mean, body.Finish(Max(sum * bias, 0.0) + residual),
                                {with.Input("bias", DType::kF32, {2, 40}),
                                 with.Input("residual", DType::kF32, AttentionOperand(true, s, 20, 40))},
                                DType::kF32));
  Check(Built(std::move(with)));
}

}  // namespace
}  // namespace tessera
