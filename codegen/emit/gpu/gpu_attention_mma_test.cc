// Attention on tensor cores: odd sizes, both layouts, masks of every shape, every type, epilogues, against the
// interpreter in double; threads in every order.
#include <cmath>

#include "codegen/emit/gpu/testing/attention_graph.h"
#include "codegen/emit/testing/gpu_kernels.h"
#include "codegen/emitter.h"
#include "graph/builder.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using Sizes = AttentionSizes;

// The attention of inputs q, k, v.
ValueId Attention(GraphBuilder& b, const Sizes& s, bool positions_first, DType type, ValueId mask = ValueId::kNone) {
  return AttentionOfInputs(b, s, positions_first, type, 0.3, mask);
}

// Runs on the host retarget of `chip`; f32 only where the target allows tf32.
void Check(const Graph& graph, DType type, const std::string& chip = "sm_80") {
  const std::string tf32 = type == DType::kF32 ? "+tf32" : "";
  for (const char* card : {"cuda:sm_80", "cuda:sm_90"}) {
    const StatusOr<std::string> text = PtxOf(graph, card + tf32, "gpu_attention_mma");
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_NE(text->find("mma.sync"), std::string::npos) << graph.name;
    EXPECT_EQ(text->find(".local"), std::string::npos) << graph.name;
    EXPECT_EQ(text->find(".extern .func"), std::string::npos) << graph.name;
  }
  const double allowed = type == DType::kBF16 ? 1.5e-2 : 2e-3;
  EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), "simt:nvptx:" + chip + tf32,
                             {.only_emitter = "gpu_attention_mma"}, allowed))
      << graph.name;
}

TEST(GpuAttentionMmaTest, SizesOfAllKinds) {
  for (DType type : {DType::kF16, DType::kBF16, DType::kF32}) {
    for (const Sizes& s :
         {Sizes{1, 1, 1, 1, 1, 1}, Sizes{2, 3, 17, 33, 64, 64}, Sizes{1, 2, 40, 31, 7, 5}, Sizes{1, 2, 33, 65, 36, 100},
          Sizes{1, 1, 5, 300, 128, 128}, Sizes{1, 12, 128, 128, 64, 64}}) {
      for (bool positions_first : {false, true}) {
        GraphBuilder b(internal::Join(Name(type), " attention ", s.queries, " ", s.keys, " ", s.depth, " ",
                                      s.value_depth, positions_first ? " bshd" : " bhsd"));
        b.Output(Attention(b, s, positions_first, type));
        Check(Built(std::move(b)), type);
      }
    }
  }
}

TEST(GpuAttentionMmaTest, EveryTile) {
  GraphBuilder b("tiles");
  b.Output(Attention(b, {1, 2, 37, 150, 64, 64}, false, DType::kF16));
  const Graph graph = Built(std::move(b));
  Target target = *MakeTarget("simt:nvptx:sm_80");
  target.whole_space = true;
  int ran = 0;
  for (const Emitter& emitter : AllEmitters()) {
    std::string why;
    if (emitter.name != "gpu_attention_mma") continue;
    for (const Way& way : WaysOf(emitter, graph, graph.nodes[0], target, &why)) {
      EXPECT_TRUE(CompiledAgrees(graph, RandomInputs(graph, 9), target.name,
                                 {.only_emitter = "gpu_attention_mma:" + way.name}, 2e-3))
          << way.name;
      ++ran;
    }
  }
  EXPECT_GE(ran, 5);
}

// So many heads that a warp has its rows' keys alone.
TEST(GpuAttentionMmaTest, ManyTiles) {
  for (DType type : {DType::kF16, DType::kF32}) {
    GraphBuilder b(internal::Join(Name(type), " many tiles"));
    b.Output(Attention(b, {8, 36, 37, 80, 32, 48}, true, type));
    Check(Built(std::move(b)), type);
  }
}

TEST(GpuAttentionMmaTest, OrdersOfThreads) {
  for (const char* chip : {"sm_80:reverse", "sm_80:random", "sm_90", "sm_90a:random:7"}) {
    GraphBuilder b("orders");
    b.Output(Attention(b, {1, 2, 37, 200, 40, 64}, true, DType::kF16));
    Check(Built(std::move(b)), DType::kF16, chip);
  }
}

TEST(GpuAttentionMmaTest, MasksOfEveryShape) {
  const Sizes s = {2, 3, 9, 145, 16, 8};
  for (const Shape& shape : {Shape({2, 3, 9, 145}), Shape({9, 145}), Shape({2, 1, 1, 145}), Shape({3, 1, 1})}) {
    for (DType type : {DType::kF16, DType::kF32}) {
      GraphBuilder b("mask");
      b.Output(Attention(b, s, false, type, b.Input("mask", type, shape)));
      Check(Built(std::move(b)), type);
    }
  }
}

TEST(GpuAttentionMmaTest, MasksThatLeaveKeysOut) {
  GraphBuilder b("causal");
  Tensor mask(DType::kF16, {170, 170});
  for (int64_t s = 0; s < 170; ++s) {
    for (int64_t t = 0; t < 170; ++t) mask.Set(s * 170 + t, t < 169 - s ? (s % 2 == 0 ? -INFINITY : -6e4) : 0);
  }
  b.Output(Attention(b, {1, 2, 170, 170, 24, 24}, false, DType::kF16, b.Constant("mask", std::move(mask))));
  Check(Built(std::move(b)), DType::kF16);
}

TEST(GpuAttentionMmaTest, Epilogues) {
  for (DType type : {DType::kF16, DType::kF32}) {
    GraphBuilder b("epilogue");
    const Sizes s = {2, 2, 20, 50, 24, 40};
    BodyBuilder body;
    const Scalar sum = body.Input(DType::kF32), bias = body.Input(DType::kF32), residual = body.Input(DType::kF32);
    const ValueId mean = Attention(b, s, true, type);
    b.Output(b.WithEpilogue(
        mean, body.Finish(Max(sum * bias, 0.0) + residual),
        {b.Input("bias", DType::kF32, {2, 40}), b.Input("residual", DType::kF32, AttentionOperand(true, s, 20, 40))},
        DType::kF32));
    Check(Built(std::move(b)), type);
  }
}

}  // namespace
}  // namespace tessera
