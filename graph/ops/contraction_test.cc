// Known values and rejections of matmul, conv and attention.
#include <string>

#include "gmock/gmock.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tensor F32(Shape shape, const std::vector<float>& values) {
  return Tensor::FromVector<float>(std::move(shape), values);
}
Tensor Zeros(DType dtype, Shape shape) { return Tensor(dtype, std::move(shape)); }

Attrs ConvAttrs(const std::string& layout, int64_t groups, int64_t stride, int64_t dilation,
                const std::vector<int64_t>& pads) {
  const size_t axes = pads.size() / 2;
  return MakeAttrs({{"strides", std::vector<int64_t>(axes, stride)},
                    {"dilations", std::vector<int64_t>(axes, dilation)},
                    {"pads", pads},
                    {"groups", groups},
                    {"layout", layout}});
}

// The message with which infer rejects, or "accepted".
std::string Rejection(Op op, const Attrs& attrs, const std::vector<std::optional<Tensor>>& operands) {
  const auto result = RunOp(op, attrs, operands);
  return result.ok() ? "accepted" : result.status().message();
}

TEST(MatmulTest, Multiplies) {
  const Tensor a = F32({2, 3}, {1, 2, 3, 4, 5, 6}), b = F32({3, 2}, {1, 0, 0, 1, 2, 2});
  const auto c = RunOp(Op::kMatmul, {}, {a, b});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->at(0).type, (TensorType{DType::kF32, {2, 2}}));
  EXPECT_THAT(c->at(0).f, ElementsAre(7, 8, 16, 17));
}

TEST(MatmulTest, TransposesEitherOperand) {
  const Tensor a = F32({3, 2}, {1, 4, 2, 5, 3, 6}), b = F32({2, 3}, {1, 0, 2, 0, 1, 2});
  const auto c = RunOp(Op::kMatmul, MakeAttrs({{"transpose_a", int64_t{1}}, {"transpose_b", int64_t{1}}}), {a, b});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_THAT(c->at(0).f, ElementsAre(7, 8, 16, 17));
}

TEST(MatmulTest, BroadcastsLeadingDimensions) {
  // Two rows times two matrices: every pair.
  const Tensor a = F32({2, 1, 1, 2}, {1, 2, 3, 4}), b = F32({2, 2, 1}, {1, 1, 10, 100});
  const auto c = RunOp(Op::kMatmul, {}, {a, b});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->at(0).type.shape, (Shape{2, 2, 1, 1}));
  EXPECT_THAT(c->at(0).f, ElementsAre(3, 210, 7, 430));
}

TEST(ScaledMatmulTest, ScalesEachBlock) {
  const Tensor x = Tensor::FromVector<uint8_t>({1, 4}, {1, 2, 3, 255});
  const Tensor w = Tensor::FromVector<int8_t>({4, 2}, {1, -1, 1, 2, 7, 0, -8, 1});
  const Tensor scales = F32({2, 2}, {0.5f, 1, 2, 0.25f});
  const auto c = RunOp(Op::kScaledMatmul, {}, {x, w, scales});
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->at(0).type, (TensorType{DType::kF32, {1, 2}}));
  EXPECT_THAT(c->at(0).f, ElementsAre(1.5 + 2 * (21 - 2040), 3 + 255 * 0.25));
}

TEST(ScaledMatmulTest, Rejects) {
  const Tensor x = Zeros(DType::kU8, {3, 6}), w = Zeros(DType::kI8, {6, 2});
  EXPECT_THAT(Rejection(Op::kScaledMatmul, {}, {x, w, Zeros(DType::kF32, {4, 2})}), HasSubstr("divides the depth 6"));
  EXPECT_THAT(Rejection(Op::kScaledMatmul, {}, {x, w, Zeros(DType::kF16, {3, 2})}), HasSubstr("scales of f32"));
  EXPECT_THAT(Rejection(Op::kScaledMatmul, {}, {x, w, Zeros(DType::kF32, {3, 5})}), HasSubstr("[.., 2]"));
  EXPECT_THAT(Rejection(Op::kScaledMatmul, {}, {Zeros(DType::kI16, {3, 6}), w, Zeros(DType::kF32, {3, 2})}),
              HasSubstr("at most 8 bits"));
  EXPECT_EQ(Rejection(Op::kScaledMatmul, {}, {x, w, Zeros(DType::kF32, {3, 2})}), "accepted");
}

TEST(MatmulTest, IntegersOfTwoTypesGiveI32ThatWraps) {
  const Tensor a = Tensor::FromVector<int8_t>({1, 2}, {-128, 127});
  const Tensor b = Tensor::FromVector<uint8_t>({2, 1}, {255, 2});
  EXPECT_THAT(RunOp(Op::kMatmul, {}, {a, b})->at(0).i, ElementsAre(-128 * 255 + 254));
  const Tensor big = Tensor::FromVector<int32_t>({1, 2}, {1 << 30, 1 << 30});
  const auto wrapped = RunOp(Op::kMatmul, {}, {big, Tensor::FromVector<int32_t>({2, 1}, {1, 1})});
  EXPECT_EQ(wrapped->at(0).type.dtype, DType::kI32);
  EXPECT_THAT(wrapped->at(0).i, ElementsAre(-(int64_t{1} << 31)));
}

TEST(MatmulTest, SumsOfNothingAreZero) {
  EXPECT_THAT(RunOp(Op::kMatmul, {}, {F32({2, 0}, {}), F32({0, 1}, {})})->at(0).f, ElementsAre(0, 0));
  EXPECT_TRUE(RunOp(Op::kMatmul, {}, {F32({0, 2}, {}), F32({2, 1}, {1, 1})})->at(0).f.empty());
}

TEST(MatmulTest, RejectsWhatDoesNotMultiply) {
  const auto reject = [](const Tensor& a, const Tensor& b) { return Rejection(Op::kMatmul, {}, {a, b}); };
  EXPECT_THAT(reject(F32({3}, {1, 2, 3}), Zeros(DType::kF32, {3, 1})), HasSubstr("at least 2 dimensions"));
  EXPECT_THAT(reject(Zeros(DType::kF32, {2, 3}), Zeros(DType::kF32, {2, 3})), HasSubstr("has columns (3), found 2"));
  EXPECT_THAT(reject(Zeros(DType::kF32, {2, 1, 1}), Zeros(DType::kF32, {3, 1, 1})), HasSubstr("broadcast"));
  EXPECT_THAT(reject(Zeros(DType::kF32, {1, 1}), Zeros(DType::kF16, {1, 1})), HasSubstr("insert a cast"));
  EXPECT_THAT(reject(Zeros(DType::kI64, {1, 1}), Zeros(DType::kI64, {1, 1})), HasSubstr("insert a cast"));
  EXPECT_THAT(Rejection(Op::kMatmul, MakeAttrs({{"transpose_a", int64_t{2}}}),
                        {Zeros(DType::kF32, {1, 1}), Zeros(DType::kF32, {1, 1})}),
              HasSubstr("0 or 1, found 2"));
}

TEST(ConvTest, SlidesOverPaddedInput) {
  const Tensor x = F32({1, 1, 5}, {1, 2, 3, 4, 5}), w = F32({1, 1, 3}, {1, 10, 100});
  const auto y = RunOp(Op::kConv, ConvAttrs("nchw", 1, 2, 1, {1, 1}), {x, w});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_THAT(y->at(0).f, ElementsAre(210, 432, 54));
}

TEST(ConvTest, DilatesAndPadsOneSide) {
  const Tensor x = F32({1, 1, 5}, {1, 2, 3, 4, 5}), w = F32({1, 1, 2}, {1, 10});
  const auto y = RunOp(Op::kConv, ConvAttrs("nchw", 1, 1, 3, {0, 1}), {x, w});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_THAT(y->at(0).f, ElementsAre(41, 52, 3));
}

// Channels 0, 1 make results 0, 1; channels 2, 3 make results 2, 3.
TEST(ConvTest, GroupsKeepToThemselvesInBothLayouts) {
  const Tensor w = F32({4, 2, 1}, {1, 10, 2, 20, 3, 30, 4, 40});
  const auto first = RunOp(Op::kConv, ConvAttrs("nchw", 2, 1, 1, {0, 0}), {F32({1, 4, 1}, {1, 2, 3, 4}), w});
  const auto last = RunOp(Op::kConv, ConvAttrs("nhwc", 2, 1, 1, {0, 0}), {F32({1, 1, 4}, {1, 2, 3, 4}), w});
  ASSERT_TRUE(first.ok() && last.ok()) << first.status() << last.status();
  EXPECT_THAT(first->at(0).f, ElementsAre(21, 42, 129, 172));
  EXPECT_THAT(last->at(0).f, ElementsAre(21, 42, 129, 172));
  EXPECT_EQ(last->at(0).type.shape, (Shape{1, 1, 4}));
}

TEST(ConvTest, DepthwiseReadsItsOwnChannel) {
  const auto y = RunOp(Op::kConv, ConvAttrs("nchw", 2, 1, 1, {0, 0}),
                       {F32({1, 2, 2}, {1, 2, 3, 4}), F32({2, 1, 2}, {1, 1, 10, 10})});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_THAT(y->at(0).f, ElementsAre(3, 70));
}

// nchw and nhwc are the same convolution, on random shapes of two spatial axes.
TEST(ConvTest, LayoutsAgree) {
  std::mt19937_64 rng(5);
  for (int n = 0; n < 30; ++n) {
    CaseBuilder draw(Op::kConv, rng);
    const int64_t groups = draw.Int(1, 3), channels = groups * draw.Int(1, 3), filters = groups * draw.Int(1, 3);
    const Tensor x = draw.RandomTensor(DType::kF32, {2, channels, draw.Int(3, 7), draw.Int(3, 7)});
    const Tensor w = draw.RandomTensor(DType::kF32, {filters, channels / groups, 3, 2});
    const std::vector<int64_t> pads = {draw.Int(0, 2), draw.Int(0, 2), draw.Int(0, 2), draw.Int(0, 2)};
    const auto y = RunOp(Op::kConv, ConvAttrs("nchw", groups, 2, 1, pads), {x, w});
    const auto to_last = RunOp(Op::kTranspose, MakeAttrs({{"perm", std::vector<int64_t>{0, 2, 3, 1}}}), {x});
    const auto z = RunOp(Op::kConv, ConvAttrs("nhwc", groups, 2, 1, pads), {to_last->at(0).ToTensor(), w});
    ASSERT_TRUE(y.ok() && z.ok()) << y.status() << z.status();
    const Shape& shape = y->at(0).type.shape;
    int64_t k = 0;
    ForEachIndex(shape, [&](const std::vector<int64_t>& at) {
      const int64_t other = ((at[0] * shape[2] + at[2]) * shape[3] + at[3]) * shape[1] + at[1];
      EXPECT_NEAR(y->at(0).f[k++], z->at(0).f[other], 1e-12);
    });
  }
}

TEST(ConvTest, RejectsWhatDoesNotFit) {
  const Tensor x = Zeros(DType::kF32, {1, 4, 5}), w = Zeros(DType::kF32, {2, 4, 3});
  const auto reject = [](const Attrs& attrs, const Tensor& x, const Tensor& w) {
    return Rejection(Op::kConv, attrs, {x, w});
  };
  EXPECT_EQ(reject(ConvAttrs("nchw", 1, 1, 1, {0, 0}), x, w), "accepted");
  EXPECT_THAT(reject(ConvAttrs("nchw", 3, 1, 1, {0, 0}), x, w), HasSubstr("groups"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 0, 1, 1, {0, 0}), x, w), HasSubstr("groups"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 2, 1, 1, {0, 0}), x, w), HasSubstr("expected 2 input channels"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 1, 3, {0, 0}), x, w), HasSubstr("it spans 7"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 0, 1, {0, 0}), x, w), HasSubstr("'strides' from 1"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 1, 1, {-1, 0}), x, w), HasSubstr("'pads' from 0"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 1, 1, {0, 0, 0, 0}), x, w), HasSubstr("expected 1 values of 'strides'"));
  EXPECT_THAT(reject(ConvAttrs("chwn", 1, 1, 1, {0, 0}), x, w), HasSubstr("\"chwn\""));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 1, 1, {0, 0}), x, Zeros(DType::kF32, {2, 4})), HasSubstr("one rank"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 1, 1, {0, 0}), x, Zeros(DType::kF32, {2, 4, 0})), HasSubstr("kernel"));
  EXPECT_THAT(reject(ConvAttrs("nchw", 1, 1, 1, {0, 0}), x, Zeros(DType::kF64, {2, 4, 3})), HasSubstr("cast"));
}

TEST(AttentionTest, WeighsValuesByTheSoftmaxOfScores) {
  // Scores ln 1 and ln 3: weights 1/4 and 3/4.
  const float ln3 = 1.0986123f;
  const Tensor q = F32({1, 1, 1, 1}, {1}), k = F32({1, 1, 2, 1}, {0, 2 * ln3}), v = F32({1, 1, 2, 2}, {4, 0, 0, 8});
  const auto y = RunOp(Op::kAttention, MakeAttrs({{"scale", 0.5}}), {q, k, v});
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_NEAR(y->at(0).f[0], 1, 1e-6);
  EXPECT_NEAR(y->at(0).f[1], 6, 1e-6);
  // A mask hides the second key.
  const auto masked = RunOp(Op::kAttention, MakeAttrs({{"scale", 0.5}}), {q, k, v, F32({2}, {0, -1000})});
  ASSERT_TRUE(masked.ok()) << masked.status();
  EXPECT_THAT(masked->at(0).f, ElementsAre(4, 0));
}

TEST(AttentionTest, RejectsWhatDoesNotFit) {
  const Attrs attrs = MakeAttrs({{"scale", 1.0}});
  const Tensor q = Zeros(DType::kF32, {1, 2, 3, 4}), k = Zeros(DType::kF32, {1, 2, 5, 4});
  const auto reject = [&](const Tensor& k, const Tensor& v) { return Rejection(Op::kAttention, attrs, {q, k, v}); };
  EXPECT_EQ(reject(k, k), "accepted");
  EXPECT_THAT(reject(Zeros(DType::kF32, {1, 2, 5, 3}), k), HasSubstr("operand 1"));
  EXPECT_THAT(reject(k, Zeros(DType::kF32, {1, 1, 5, 4})), HasSubstr("operand"));
  EXPECT_THAT(reject(Zeros(DType::kF32, {1, 2, 0, 4}), Zeros(DType::kF32, {1, 2, 0, 4})),
              HasSubstr("at least one key"));
  EXPECT_THAT(Rejection(Op::kAttention, attrs, {q, k, k, Zeros(DType::kF32, {2, 1, 1, 1, 1})}), HasSubstr("operand 3"));
}

}  // namespace
}  // namespace tessera
