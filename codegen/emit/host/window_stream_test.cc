// Packed windows: every kept element lies in exactly one step of its row's group, within reach of its window; windows
// lie within x; there are no more steps than fixed windows would need, and as few as rows' own counts allow where one
// window sees everything.
#include "codegen/emit/host/window_stream.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tesa/bitmap.h"

namespace tessera {
namespace {

struct Packed {
  int64_t rows = 0, depth = 0;
  bool by_rows = true;  // how weights lie
  Bitmap kept;
  Tensor weights;
  ScatteredPattern pattern;
  WindowStream stream;

  int64_t At(int64_t row, int64_t k) const { return by_rows ? row * depth + k : k * rows + row; }
};

Packed Pack(uint64_t seed, int64_t rows, int64_t depth, double density, bool by_rows) {
  std::mt19937_64 rng(seed);
  Packed p = {.rows = rows, .depth = depth, .by_rows = by_rows, .kept = Bitmap(rows * depth)};
  p.weights = Tensor(DType::kI8, Shape({rows * depth}));
  for (int64_t at = 0; at < rows * depth; ++at) {
    p.kept.Set(at, std::bernoulli_distribution(density)(rng));
    // Pruned ones have values too, which must not appear; kept ones may be 0.
    p.weights.Set(at, static_cast<double>(std::uniform_int_distribution<int>(-128, 127)(rng)));
  }
  const int64_t row_step = by_rows ? depth : 1, depth_step = by_rows ? 1 : rows;
  p.pattern = ScatteredPattern::Make(p.kept, rows, depth, row_step, depth_step, 1);
  p.stream = PackWindowStream(p.pattern, p.weights, row_step, depth_step);
  return p;
}

void ExpectWhole(const Packed& p) {
  const std::span<const int32_t> begin = p.stream.begin.data<int32_t>();
  const std::span<const uint16_t> places = p.stream.places.data<uint16_t>();
  const std::span<const uint8_t> values = p.stream.values.data<uint8_t>();
  const int64_t groups = (p.rows + kWindowRows - 1) / kWindowRows;
  ASSERT_EQ(static_cast<int64_t>(begin.size()), groups + 1);
  ASSERT_GE(static_cast<int64_t>(values.size()), begin[groups] * kWindowStepBytes);
  std::map<std::pair<int64_t, int64_t>, int> found;  // values that are not 0
  for (int64_t group = 0; group < groups; ++group) {
    for (int32_t step = begin[group]; step < begin[group + 1]; ++step) {
      EXPECT_LE(places[step] + std::min<int64_t>(kWindow, p.depth), p.depth);
      for (int lane = 0; lane < kWindowRows; ++lane) {
        for (int slot = 0; slot < 4; ++slot) {
          const int64_t at = int64_t{step} * kWindowStepBytes + lane * 4 + slot;
          const auto value = static_cast<int8_t>(values[at + kWindow]);
          ASSERT_LT(values[at], kWindow);
          if (value == 0) continue;
          const int64_t k = places[step] + values[at];
          ASSERT_LT(k, p.depth);
          const bool is_new = found.emplace(std::make_pair(group * kWindowRows + lane, k), value).second;
          EXPECT_TRUE(is_new) << "element " << k << " of lane " << lane << " twice";
        }
      }
    }
  }
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t k = 0; k < p.depth; ++k) {
      const int64_t at = p.At(row, k);
      const int value = p.kept[at] ? static_cast<int>(p.weights.Get(at)) : 0;
      const auto it = found.find({row, k});
      ASSERT_EQ(it == found.end() ? 0 : it->second, value) << "row " << row << ", " << k;
      if (it != found.end()) found.erase(it);
    }
  }
  EXPECT_TRUE(found.empty()) << "values of rows that are not there";
}

TEST(WindowStreamTest, HoldsEachKeptElementOnce) {
  for (const bool by_rows : {true, false}) {
    uint64_t seed = 1;
    for (const int64_t rows : {1, 15, 16, 17, 61, 100}) {
      for (const int64_t depth : {1, 7, 61, 63, 64, 65, 200, 517}) {
        for (const double density : {0.0, 0.03, 0.1, 0.5, 1.0}) {
          SCOPED_TRACE(testing::Message() << rows << "x" << depth << " kept " << density << " by rows " << by_rows);
          ExpectWhole(Pack(++seed, rows, depth, density, by_rows));
        }
      }
    }
  }
}

// While one window sees all of x, the fullest row of a group decides.
TEST(WindowStreamTest, FewestStepsWhereOneWindowSeesEverything) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Packed p = Pack(seed, 48, kWindow, 0.2, true);
    const std::span<const int32_t> begin = p.stream.begin.data<int32_t>();
    for (int64_t group = 0; group < 3; ++group) {
      int64_t fullest = 0;
      for (int64_t row = group * kWindowRows; row < (group + 1) * kWindowRows; ++row) {
        fullest = std::max(fullest, p.pattern.begin[row + 1] - p.pattern.begin[row]);
      }
      EXPECT_EQ(begin[group + 1] - begin[group], (fullest + 3) / 4);
    }
  }
}

// Windows side by side, each met as often as its fullest row needs, are one way to do it; ours is never longer.
TEST(WindowStreamTest, NoMoreStepsThanFixedWindows) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Packed p = Pack(seed, 16, 512, 0.1, true);
    int64_t fixed = 0;
    for (int64_t first = 0; first < 512; first += kWindow) {
      int64_t fullest = 0;
      for (int64_t row = 0; row < 16; ++row) {
        int64_t count = 0;
        for (int64_t k = first; k < first + kWindow; ++k) count += p.kept[p.At(row, k)] ? 1 : 0;
        fullest = std::max(fullest, count);
      }
      fixed += (fullest + 3) / 4;
    }
    EXPECT_LE(p.stream.begin.data<int32_t>()[1], fixed);
    EXPECT_EQ(EstimateWindowSteps(p.pattern), static_cast<double>(p.stream.begin.data<int32_t>()[1]));
  }
}

}  // namespace
}  // namespace tessera
