#include "tesa/known.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>

#include "gtest/gtest.h"
#include "tesa/testing/random.h"

namespace tessera {
namespace {

constexpr uint8_t kZ = 0, kC = 1, kU = 2;
const double kNan = std::numeric_limits<double>::quiet_NaN();

struct Elements {
  TensorType type;
  std::vector<uint8_t> kinds;
  std::vector<double> values;
};

// Small shapes, extents 0 and 1, rank 0; each kind, few values.
Elements AnyElements(std::mt19937& rng, DType dtype = DType::kF32) {
  Elements e;
  std::vector<int64_t> extents(rng() % 4);
  for (int64_t& extent : extents) extent = rng() % 12 == 0 ? 0 : static_cast<int64_t>(1 + rng() % 5);
  e.type = {dtype, Shape(extents)};
  const uint32_t kinds = 1 + rng() % 3;
  for (int64_t i = 0; i < e.type.shape.num_elements(); ++i) {
    e.kinds.push_back(static_cast<uint8_t>(rng() % kinds));
    e.values.push_back(e.kinds.back() == kC ? 1 + static_cast<double>(rng() % 3) : 0);
  }
  return e;
}

void ExpectIs(const Known& known, const Elements& e) {
  ASSERT_EQ(known.type, e.type);
  ASSERT_EQ(known.kind.Elements(), e.kinds);
  size_t i = 0;
  ForEachIndex(e.type.shape, [&](const std::vector<int64_t>& index) {
    EXPECT_EQ(known.at(index), static_cast<Certainty>(e.kinds[i]));
    if (e.kinds[i] != kU) {
      EXPECT_EQ(known.ValueAt(index), e.values[i]);
    }
    ++i;
  });
  for (uint8_t kind = 0; kind < 3; ++kind) {
    EXPECT_EQ(known.CountOf(static_cast<Certainty>(kind)), std::count(e.kinds.begin(), e.kinds.end(), kind));
  }
  EXPECT_EQ(known.all_known(), std::count(e.kinds.begin(), e.kinds.end(), kU) == 0);
  for (double value : {0.0, 1.0, 2.0, 7.0}) {
    std::vector<uint8_t> equal;
    for (size_t k = 0; k < e.kinds.size(); ++k) equal.push_back(e.kinds[k] != kU && e.values[k] == value);
    EXPECT_EQ(known.EqualTo(value).Elements(), equal) << value;
  }
}

TEST(KnownTest, FromElementsAndBack) {
  std::mt19937 rng(1);
  for (int trial = 0; trial < 300; ++trial) {
    const Elements e = AnyElements(rng, trial % 2 == 0 ? DType::kF32 : DType::kI32);
    const Known known = Known::FromElements(e.type, e.kinds, e.values);
    ExpectIs(known, e);
    EXPECT_EQ(known, known.WithValues());
    for (size_t i = 0; i < e.values.size(); ++i) {
      if (e.kinds[i] == kU) continue;
      EXPECT_LE(known.range.low, e.values[i]);
      EXPECT_GE(known.range.high, e.values[i]);
    }
  }
}

TEST(KnownTest, FromElementsNormalises) {
  const std::vector<uint8_t> kinds = {kC, kC, kC, kC};
  const Known f = Known::FromElements({DType::kF32, {4}}, kinds, std::vector<double>{-0.0, kNan, 3, HUGE_VAL});
  EXPECT_EQ(f.kind.Elements(), (std::vector<uint8_t>{kZ, kU, kC, kC}));
  const Known i = Known::FromElements({DType::kI64, {4}}, kinds, std::vector<double>{0, 9.1e15, -9.1e15, 9e15});
  EXPECT_EQ(i.kind.Elements(), (std::vector<uint8_t>{kZ, kU, kU, kC}));
}

TEST(KnownTest, UnknownHasTheRangeOfItsType) {
  EXPECT_EQ(Known::Unknown({DType::kF32, {2}}).range, Interval());
  EXPECT_EQ(Known::Unknown({DType::kI8, {2}}).range, (Interval{-128, 127}));
  EXPECT_EQ(Known::Unknown({DType::kU4, {2}}).range, (Interval{0, 15}));
  EXPECT_EQ(Known::Unknown({DType::kBool, {2}}).range, (Interval{0, 1}));
  EXPECT_EQ(Known::Unknown({DType::kU64, {}}).range, (Interval{0, 18446744073709551616.0}));
  EXPECT_TRUE(Known::Unknown({DType::kF32, {2, 3}}).nothing_known());
}

TEST(KnownTest, ConstantsOfEveryType) {
  const DType types[] = {
#define TES_DTYPE(name, text, bits, kind) DType::k##name,
#include "tesa/dtypes.def"
#undef TES_DTYPE
  };
  std::mt19937 rng(2);
  for (DType dtype : types) {
    for (int trial = 0; trial < 20; ++trial) {
      SCOPED_TRACE(Name(dtype));
      Elements e = AnyElements(rng, dtype);
      Tensor tensor(dtype, e.type.shape);
      std::vector<uint8_t> kept(e.kinds.size(), 1);
      for (size_t i = 0; i < e.kinds.size(); ++i) {
        if (e.kinds[i] == kU) {  // pruned by declaration, though the data says 1
          kept[i] = 0;
          e.kinds[i] = kZ;
          tensor.Set(static_cast<int64_t>(i), 1);
        } else {
          if (IsBool(dtype)) e.values[i] = e.values[i] != 0;
          tensor.Set(static_cast<int64_t>(i), e.values[i]);
        }
      }
      const Attribute declared = Attribute::FromKept(e.type.shape, kept, TypeInfo(dtype).bits);
      const Known known = Known::OfConstant(tensor, &declared);
      ExpectIs(known, e);
      EXPECT_TRUE(known.data.has_value());
      const Known with_values = known.WithValues();
      EXPECT_FALSE(with_values.data.has_value());
      ExpectIs(with_values, e);
      EXPECT_EQ(with_values, known);
      const Attribute dense = Attribute::Dense(e.type.shape, 4);
      EXPECT_EQ(Known::OfConstant(tensor, &dense), Known::OfConstant(tensor));
    }
  }
}

TEST(KnownTest, ConstantsThatAreNotCertain) {
  const Known f = Known::OfConstant(Tensor::FromVector<float>({2, 2}, {1, static_cast<float>(kNan), -0.0f, 5}));
  EXPECT_EQ(f.kind.Elements(), (std::vector<uint8_t>{kC, kU, kZ, kC}));
  EXPECT_EQ(f.range, Interval());
  const Known i = Known::OfConstant(Tensor::FromVector<int64_t>({3}, {int64_t{1} << 60, 0, 7}));
  EXPECT_EQ(i.kind.Elements(), (std::vector<uint8_t>{kU, kZ, kC}));
  EXPECT_EQ(Known::OfConstant(Tensor::FromVector<float>({3}, {-2, 5, 1})).range, (Interval{-2, 5}));
}

// A weight of a million values with ten dead rows is two cells.
TEST(KnownTest, DeadRowsOfALargeWeight) {
  Random random(3);
  Tensor weight = RandomTensor(random, {DType::kF32, {1024, 1024}});
  float* data = weight.mutable_data<float>().data();
  for (int64_t i = 0; i < weight.num_elements(); ++i) {
    if (data[i] == 0) data[i] = 1;
    if (i / 1024 % 100 == 3) data[i] = 0;
  }
  const Known known = Known::OfConstant(weight);
  EXPECT_EQ(known.kind.num_cells(), 2);
  EXPECT_EQ(known.CountOf(Certainty::kZero), 11 * 1024);
  EXPECT_LT(known.byte_size(), 16 * 1024);
  EXPECT_EQ(known.ToString(), "constants with zero rows {3, 103, 203, 303, 403, 503, 603, 703, … (11 in all)}");
}

Known Of(const Elements& e) { return Known::FromElements(e.type, e.kinds, e.values); }

TEST(KnownTest, MeetTakesWhatEitherKnows) {
  std::mt19937 rng(4);
  int contradictions = 0;
  for (int trial = 0; trial < 400; ++trial) {
    Elements a = AnyElements(rng), b = a, both = a;
    bool contradiction = false;
    for (size_t i = 0; i < a.kinds.size(); ++i) {
      if (rng() % 2 == 0) {
        b.kinds[i] = kU;
        b.values[i] = 0;
      } else if (a.kinds[i] == kU) {
        b.kinds[i] = both.kinds[i] = kC;
        b.values[i] = both.values[i] = 2;
      } else if (rng() % 40 == 0) {
        b.kinds[i] = kC;
        b.values[i] = 9;
        contradiction = true;
      }
    }
    contradictions += contradiction;
    Known x = Of(a), y = Of(b);
    x.range = y.range = {};
    const std::optional<Known> met = Meet(x, y), turned = Meet(y, x);
    ASSERT_EQ(met.has_value(), !contradiction);
    ASSERT_EQ(turned.has_value(), !contradiction);
    if (contradiction) continue;
    ExpectIs(*met, both);
    EXPECT_EQ(*met, *turned);
  }
  EXPECT_GT(contradictions, 20);
}

TEST(KnownTest, MeetWithData) {
  const Known data = Known::OfConstant(Tensor::FromVector<float>({3}, {1, 0, 2}));
  const TensorType type = data.type;
  EXPECT_EQ(*Meet(data, Known::Unknown(type)), data);
  EXPECT_EQ(*Meet(Known::Unknown(type), data), data);
  Known part = Known::FromElements(type, std::vector<uint8_t>{kU, kZ, kC}, std::vector<double>{0, 0, 2});
  EXPECT_EQ(*Meet(data, part), data);
  part = Known::FromElements(type, std::vector<uint8_t>{kU, kZ, kC}, std::vector<double>{0, 0, 3});
  EXPECT_EQ(Meet(data, part), std::nullopt);
  Known low = Known::Unknown(type), high = low;
  low.range = {0, 1};
  high.range = {2, 3};
  EXPECT_EQ(Meet(low, high), std::nullopt);
  high.range = {0.5, 3};
  EXPECT_EQ(Meet(low, high)->range, (Interval{0.5, 1}));
}

TEST(KnownTest, EqualityIsOfFacts) {
  const Known a = Known::OfConstant(Tensor::FromVector<float>({2, 2}, {1, 0, 2, 0}));
  const Known b = Known::OfConstant(Tensor::FromVector<float>({2, 2}, {1, 0, 3, 0}));
  EXPECT_FALSE(a == b);
  EXPECT_TRUE(a == a.WithValues());
  EXPECT_FALSE(a == b.WithValues());
  Known c = a;
  c.range.high = 100;
  EXPECT_FALSE(a == c);
}

TEST(KnownTest, ForPeople) {
  const TensorType type = {DType::kF32, {2, 3}};
  EXPECT_EQ(Known::Unknown(type).ToString(), "unknown");
  EXPECT_EQ(Known::OfConstant(Tensor(DType::kF32, {2, 3})).ToString(), "zero");
  EXPECT_EQ(Known::OfConstant(Tensor::Full(DType::kF32, {2, 3}, 3)).WithValues().ToString(), "constant 3");
  EXPECT_EQ(Known::OfConstant(Tensor::Full(DType::kF32, {2, 3}, 3)).ToString(), "constants");
  EXPECT_EQ(Known::FromElements(type, std::vector<uint8_t>{2, 0, 2, 2, 0, 2}, std::vector<double>(6)).ToString(),
            "unknown with zero columns {1}");
  EXPECT_EQ(Known::FromElements(type, std::vector<uint8_t>{2, 0, 2, 2, 0, 1}, std::vector<double>(6, 1.5)).ToString(),
            "unknown with zero columns {1} and constant 1.5 in 1 of 6 elements");
  Known relu = Known::Unknown({DType::kF32, {1, 4, 1, 1}});
  relu.range = {0, 6};
  EXPECT_EQ(relu.ToString(), "unknown, within [0, 6]");
}

// What a large network's weights cost: a few passes over the data, none over the cells.
TEST(KnownTest, SpeedOfLargeConstants) {
  Random random(5);
  const Tensor weight = RandomTensor(random, {DType::kF32, {3072, 768}});
  const auto time = [](auto work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  };
  const double dense = time([&] { EXPECT_TRUE(Known::OfConstant(weight).all_known()); });
  const Attribute declared = RandomAttribute(random, weight.shape(), Pattern::Scattered(), 0.1, 32);
  const double sparse = time([&] { EXPECT_TRUE(Known::OfConstant(weight, &declared).all_known()); });
  printf("3072x768 f32: dense %.2f ms, scattered %.2f ms\n", dense, sparse);
  EXPECT_LT(dense, 200);
  EXPECT_LT(sparse, 500);
}

}  // namespace
}  // namespace tessera
