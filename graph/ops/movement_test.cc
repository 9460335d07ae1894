// Known values and rejections of movement and gather.
#include <string>

#include "gmock/gmock.h"
#include "graph/op.h"
#include "graph/testing/run_op.h"
#include "gtest/gtest.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ints = std::vector<int64_t>;

Tensor I32(Shape shape, const std::vector<int32_t>& values) {
  return Tensor::FromVector<int32_t>(std::move(shape), values);
}

// The values of the result, or nothing with a failed test.
Ints Values(Op op, const Attrs& attrs, const std::vector<std::optional<Tensor>>& operands) {
  const auto result = RunOp(op, attrs, operands);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? result->at(0).i : Ints();
}

std::string Rejection(Op op, const Attrs& attrs, const std::vector<std::optional<Tensor>>& operands) {
  const auto result = RunOp(op, attrs, operands);
  return result.ok() ? "accepted" : result.status().message();
}

TEST(ReshapeTest, KeepsTheElements) {
  EXPECT_THAT(Values(Op::kReshape, MakeAttrs({{"shape", Ints{3, 1, 2}}}), {I32({2, 3}, {1, 2, 3, 4, 5, 6})}),
              ElementsAre(1, 2, 3, 4, 5, 6));
  const auto reject = [](const Ints& shape) {
    return Rejection(Op::kReshape, MakeAttrs({{"shape", shape}}), {I32({2}, {1, 2})});
  };
  EXPECT_THAT(reject({3}), HasSubstr("(2), found [3]"));
  EXPECT_THAT(reject({-1}), HasSubstr("extents >= 0"));
  EXPECT_THAT(reject({int64_t{1} << 40, int64_t{1} << 40}), HasSubstr("limit"));
}

TEST(TransposeTest, PutsDimensionsInOrder) {
  EXPECT_THAT(Values(Op::kTranspose, MakeAttrs({{"perm", Ints{1, 0}}}), {I32({2, 3}, {1, 2, 3, 4, 5, 6})}),
              ElementsAre(1, 4, 2, 5, 3, 6));
  // A cycle of three tells perm from its inverse: result [i, j, k] = x[j, k, i] for perm 2, 0, 1.
  EXPECT_THAT(Values(Op::kTranspose, MakeAttrs({{"perm", Ints{2, 0, 1}}}), {I32({1, 2, 3}, {1, 2, 3, 4, 5, 6})}),
              ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(Rejection(Op::kTranspose, MakeAttrs({{"perm", Ints{0, 0}}}), {I32({1, 1}, {1})}), HasSubstr("once"));
}

TEST(ExpandTest, Broadcasts) {
  EXPECT_THAT(Values(Op::kExpand, MakeAttrs({{"shape", Ints{2, 2}}}), {I32({2, 1}, {1, 2})}), ElementsAre(1, 1, 2, 2));
  EXPECT_THAT(Rejection(Op::kExpand, MakeAttrs({{"shape", Ints{1}}}), {I32({2}, {1, 2})}), HasSubstr("broadcasts"));
}

TEST(TileTest, RepeatsWholes) {
  EXPECT_THAT(Values(Op::kTile, MakeAttrs({{"repeats", Ints{2, 2}}}), {I32({1, 2}, {1, 2})}),
              ElementsAre(1, 2, 1, 2, 1, 2, 1, 2));
  EXPECT_THAT(Values(Op::kTile, MakeAttrs({{"repeats", Ints{0}}}), {I32({2}, {1, 2})}), ElementsAre());
  EXPECT_THAT(Rejection(Op::kTile, MakeAttrs({{"repeats", Ints{INT64_MAX}}}), {I32({2}, {1, 2})}), HasSubstr("size"));
  EXPECT_THAT(Rejection(Op::kTile, MakeAttrs({{"repeats", Ints{-1}}}), {I32({2}, {1, 2})}), HasSubstr("found -1"));
}

Attrs SliceAttrs(const Ints& starts, const Ints& steps, const Ints& sizes) {
  return MakeAttrs({{"starts", starts}, {"steps", steps}, {"sizes", sizes}});
}

TEST(SliceTest, StepsEitherWay) {
  const Tensor x = I32({5}, {0, 1, 2, 3, 4});
  EXPECT_THAT(Values(Op::kSlice, SliceAttrs({1}, {2}, {2}), {x}), ElementsAre(1, 3));
  EXPECT_THAT(Values(Op::kSlice, SliceAttrs({4}, {-2}, {3}), {x}), ElementsAre(4, 2, 0));
  EXPECT_THAT(Values(Op::kSlice, SliceAttrs({5}, {1}, {0}), {x}), ElementsAre());
  EXPECT_THAT(Values(Op::kSlice, SliceAttrs({3}, {INT64_MIN}, {1}), {x}), ElementsAre(3));
}

TEST(SliceTest, RejectsWhatIsOutOfRange) {
  const Tensor x = I32({5}, {0, 1, 2, 3, 4});
  const auto reject = [&](int64_t start, int64_t step, int64_t size) {
    return Rejection(Op::kSlice, SliceAttrs({start}, {step}, {size}), {x});
  };
  EXPECT_THAT(reject(3, 1, 3), HasSubstr("within 5 elements"));
  EXPECT_THAT(reject(5, 1, 1), HasSubstr("within 5 elements"));
  EXPECT_THAT(reject(1, -1, 3), HasSubstr("within 5 elements"));
  EXPECT_THAT(reject(-1, 1, 1), HasSubstr("start -1"));
  EXPECT_THAT(reject(0, 0, 1), HasSubstr("step 0"));
  EXPECT_THAT(reject(0, 1, -1), HasSubstr("size -1"));
  EXPECT_THAT(reject(4, INT64_MAX, 3), HasSubstr("within 5 elements"));
}

TEST(ConcatTest, PutsOperandsBehindEachOther) {
  EXPECT_THAT(Values(Op::kConcat, MakeAttrs({{"axis", int64_t{1}}}),
                     {I32({2, 1}, {1, 2}), I32({2, 0}, {}), I32({2, 2}, {3, 4, 5, 6})}),
              ElementsAre(1, 3, 4, 2, 5, 6));
  const auto reject = [](int64_t axis, const std::optional<Tensor>& other) {
    return Rejection(Op::kConcat, MakeAttrs({{"axis", axis}}), {I32({1, 2}, {1, 2}), other});
  };
  EXPECT_THAT(reject(1, I32({2, 1}, {1, 2})), HasSubstr("except along axis 1"));
  EXPECT_THAT(reject(2, I32({1, 2}, {1, 2})), HasSubstr("axis from 0 to 1"));
  EXPECT_THAT(reject(0, Tensor::FromVector<float>({1, 2}, {1, 2})), HasSubstr("cast"));
  EXPECT_THAT(reject(0, std::nullopt), HasSubstr("found none"));
}

Ints Pad(const std::vector<int32_t>& x, int64_t begin, int64_t end, const std::string& mode) {
  return Values(Op::kPad, MakeAttrs({{"pads", Ints{begin, end}}, {"mode", mode}, {"value", 9.0}}),
                {I32({static_cast<int64_t>(x.size())}, x)});
}

TEST(PadTest, FillsByMode) {
  EXPECT_THAT(Pad({1, 2, 3}, 1, 2, "constant"), ElementsAre(9, 1, 2, 3, 9, 9));
  EXPECT_THAT(Pad({1, 2, 3}, 2, 2, "reflect"), ElementsAre(3, 2, 1, 2, 3, 2, 1));
  EXPECT_THAT(Pad({1, 2, 3}, 2, 1, "edge"), ElementsAre(1, 1, 1, 2, 3, 3));
  EXPECT_THAT(Pad({1, 2, 3}, 2, 1, "wrap"), ElementsAre(2, 3, 1, 2, 3, 1));
}

TEST(PadTest, RepeatsShortInputsAsOftenAsNeeded) {
  EXPECT_THAT(Pad({1, 2}, 3, 3, "reflect"), ElementsAre(2, 1, 2, 1, 2, 1, 2, 1));
  EXPECT_THAT(Pad({1, 2, 3}, 5, 0, "reflect"), ElementsAre(2, 1, 2, 3, 2, 1, 2, 3));
  EXPECT_THAT(Pad({1}, 2, 1, "reflect"), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(Pad({1, 2}, 3, 3, "wrap"), ElementsAre(2, 1, 2, 1, 2, 1, 2, 1));
}

TEST(PadTest, ConstantCrops) {
  EXPECT_THAT(Pad({1, 2, 3}, -1, 1, "constant"), ElementsAre(2, 3, 9));
  EXPECT_THAT(Pad({1, 2, 3}, -3, 2, "constant"), ElementsAre(9, 9));
}

TEST(PadTest, Rejects) {
  const auto reject = [](const Ints& pads, const std::string& mode, double value, const Tensor& x) {
    return Rejection(Op::kPad, MakeAttrs({{"pads", pads}, {"mode", mode}, {"value", value}}), {x});
  };
  const Tensor x = I32({2}, {1, 2});
  EXPECT_THAT(reject({-1, 0}, "edge", 0, x), HasSubstr("crop with slice"));
  EXPECT_THAT(reject({-2, -1}, "constant", 0, x), HasSubstr("extent >= 0"));
  EXPECT_THAT(reject({-3, 3}, "constant", 0, x), HasSubstr("extent >= 0"));
  EXPECT_THAT(reject({INT64_MAX, 0}, "constant", 0, x), HasSubstr("extent >= 0"));
  EXPECT_THAT(reject({1, 0}, "reflect", 0, I32({0}, {})), HasSubstr("found none"));
  EXPECT_THAT(reject({1, 0}, "mirror", 0, x), HasSubstr("\"mirror\""));
  EXPECT_THAT(reject({1, 0}, "constant", 0.5, x), HasSubstr("i32 holds, found 0.5"));
  EXPECT_THAT(reject({1, 0}, "constant", 3e9, x), HasSubstr("i32 holds"));
  EXPECT_THAT(reject({1}, "constant", 0, x), HasSubstr("expected 2 values"));
}

TEST(GatherTest, PicksSlices) {
  const Tensor x = I32({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(Values(Op::kGather, MakeAttrs({{"axis", int64_t{1}}}), {x, I32({2}, {2, 0})}), ElementsAre(3, 1, 6, 4));
  EXPECT_THAT(Values(Op::kGather, MakeAttrs({{"axis", int64_t{0}}}), {x, I32({}, {-1})}), ElementsAre(4, 5, 6));
}

TEST(GatherTest, OutOfRangeGivesZero) {
  const Tensor x = I32({2}, {7, 8});
  EXPECT_THAT(Values(Op::kGather, MakeAttrs({{"axis", int64_t{0}}}), {x, I32({5}, {-3, -2, 1, 2, INT32_MIN})}),
              ElementsAre(0, 7, 8, 0, 0));
  EXPECT_THAT(Values(Op::kGather, MakeAttrs({{"axis", int64_t{0}}}),
                     {x, Tensor::FromVector<int64_t>({3}, {INT64_MIN, INT64_MAX, -1})}),
              ElementsAre(0, 0, 8));
  EXPECT_THAT(Values(Op::kGather, MakeAttrs({{"axis", int64_t{0}}}), {I32({0}, {}), I32({2}, {0, -1})}),
              ElementsAre(0, 0));
}

TEST(GatherElementsTest, PicksElements) {
  const Tensor x = I32({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(Values(Op::kGatherElements, MakeAttrs({{"axis", int64_t{1}}}), {x, I32({2, 2}, {2, 0, -1, 3})}),
              ElementsAre(3, 1, 6, 0));
  EXPECT_THAT(Values(Op::kGatherElements, MakeAttrs({{"axis", int64_t{0}}}), {x, I32({1, 3}, {1, 0, 1})}),
              ElementsAre(4, 2, 6));
}

TEST(GatherTest, Rejects) {
  const Tensor x = I32({2, 3}, {1, 2, 3, 4, 5, 6});
  const auto reject = [&](Op op, int64_t axis, const Tensor& indices) {
    return Rejection(op, MakeAttrs({{"axis", axis}}), {x, indices});
  };
  EXPECT_THAT(reject(Op::kGather, 2, I32({1}, {0})), HasSubstr("axis from 0 to 1"));
  EXPECT_THAT(reject(Op::kGather, 0, Tensor(DType::kI8, {1})), HasSubstr("i32 or i64"));
  EXPECT_THAT(reject(Op::kGatherElements, 1, I32({3, 1}, {0, 0, 0})), HasSubstr("except along axis 1"));
  EXPECT_THAT(reject(Op::kGatherElements, 1, I32({2}, {0, 0})), HasSubstr("rank"));
}

}  // namespace
}  // namespace tessera
