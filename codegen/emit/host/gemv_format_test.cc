// Formats of weights for few columns: what a kernel would read out of a stream is what was put in, for random patterns
// of odd sizes; and estimates that hold.
#include "codegen/emit/host/gemv_format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "base/status.h"
#include "tesa/random.h"

namespace tessera {
namespace {

GemvWeights MakeWeights(Random& random, DType type, int64_t rows, int64_t depth, double kept, bool by_rows,
                        int64_t largest = 127) {
  GemvWeights w = {.tensor = Tensor(type, Shape({rows, depth})), .rows = rows, .depth = depth, .kept = {}};
  w.row_step = by_rows ? depth : 1;
  w.depth_step = by_rows ? 1 : rows;
  w.kept = Bitmap(rows * depth);
  for (int64_t k = 0; k < rows * depth; ++k) {
    w.kept.Set(k, random.Chance(kept));
    if (!w.kept[k]) continue;
    if (type == DType::kI8) {
      const int64_t value = random.Int(-largest - 1, largest - 1);
      w.tensor.SetInt(k, value < 0 ? value : value + 1);
    } else {
      w.tensor.Set(k, random.Uniform(-1, 1));
    }
  }
  return w;
}

// One element of a stream: how a kernel would see it.
struct Element {
  int64_t row = 0, k = 0;
  double value = 0;
  friend bool operator<(const Element& a, const Element& b) {
    return std::tie(a.row, a.k, a.value) < std::tie(b.row, b.k, b.value);
  }
  friend bool operator==(const Element& a, const Element& b) = default;
};

// Walks a stream as gemv_kernel.cc does, and lists what is not padding.
class StreamReader {
 public:
  StreamReader(const GemvFormat& format, const GemvWeights& weights, const GemvStream& stream)
      : f_(format), w_(weights), s_(stream), bytes_(stream.values.data<uint8_t>()) {}

  std::multiset<Element> Read() {
    const auto tasks = s_.tasks.data<int32_t>();
    EXPECT_EQ(tasks.front(), 0);
    EXPECT_EQ(tasks.back(), w_.groups(f_.lanes));
    for (size_t t = 1; t < tasks.size(); ++t) EXPECT_LE(tasks[t - 1], tasks[t]);
    for (int64_t group = 0; group < w_.groups(f_.lanes); ++group) {
      if (f_.kind == GemvKind::kDense) {
        const int64_t units = (w_.depth + f_.elements() - 1) / f_.elements();
        const int64_t padded = (units + f_.shared() - 1) / f_.shared() * f_.shared();
        for (int64_t u = 0; u < padded; ++u) ReadVector(group, group * padded + u, u);
        continue;
      }
      const auto begin = s_.begin.data<int32_t>();
      for (int64_t at = begin[group]; at < begin[group + 1]; ++at) {
        if (f_.kind == GemvKind::kColumns) {
          ReadVector(group, at, s_.places.data<uint16_t>()[at]);
        } else {
          ReadBundle(group, at);
        }
      }
    }
    return std::move(found_);
  }

 private:
  uint8_t Byte(int64_t vector_start, int step, int64_t offset) const {
    const uint8_t byte = bytes_[vector_start + step / f_.shared() * f_.vector_bytes() + offset];
    if (f_.value_bits != 4) return byte;
    // As the upper half of a byte, sixteenfold.
    const auto wide = static_cast<int8_t>(step % 2 == 0 ? byte << 4 : byte & 0xf0);
    return static_cast<uint8_t>(wide / 16);
  }

  void Add(int64_t row, int64_t unit, int64_t vector_start, int step, int64_t offset) {
    if (f_.unit == GemvUnit::kF32) {
      float value;
      std::memcpy(&value, &bytes_[vector_start + step * f_.vector_bytes() + offset], 4);
      if (value != 0) found_.insert({row, unit, value});
      return;
    }
    for (int e = 0; e < f_.elements(); ++e) {
      const auto value = static_cast<int8_t>(Byte(vector_start, step, offset + e));
      if (value != 0) found_.insert({row, unit * f_.elements() + e, static_cast<double>(value)});
    }
  }

  void ReadVector(int64_t group, int64_t at, int64_t unit) {
    const int64_t start = at / f_.shared() * f_.vector_bytes();
    for (int l = 0; l < f_.lanes; ++l)
      Add(group * f_.lanes + l, unit, start, static_cast<int>(at % f_.shared()), l * 4);
  }

  void ReadBundle(int64_t group, int64_t bundle) {
    const int64_t start = bundle * f_.bundle_bytes(), values = start + f_.index_bytes();
    const int64_t window = int64_t{s_.places.data<uint16_t>()[bundle]} * kWindowAlign;
    for (int step = 0; step < f_.steps(); ++step) {
      for (int l = 0; l < f_.lanes; ++l) {
        for (int slot = 0; slot < f_.slots(); ++slot) {
          const bool bytes = f_.unit == GemvUnit::kByte;
          const int64_t index = bytes_[start + (bytes ? step * f_.vector_bytes() + l * 4 + slot : l * 4 + step)];
          // f32 padding points behind the window; what a window reaches behind x is not beyond what the kernel clears.
          EXPECT_LE(index, f_.unit == GemvUnit::kF32 ? 63 : f_.window() - 1);
          Add(group * f_.lanes + l, window + index, values, step, bytes ? l * 4 + slot : l * 4);
        }
      }
    }
    EXPECT_LT(window, w_.depth);
  }

  const GemvFormat& f_;
  const GemvWeights& w_;
  const GemvStream& s_;
  const std::span<const uint8_t> bytes_;
  std::multiset<Element> found_;
};

std::multiset<Element> Expected(const GemvWeights& w) {
  std::multiset<Element> expected;
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int64_t k = 0; k < w.depth; ++k) {
      const int64_t at = r * w.row_step + k * w.depth_step;
      if (w.kept[at] && w.tensor.Get(at) != 0) expected.insert({r, k, w.tensor.Get(at)});
    }
  }
  return expected;
}

TEST(GemvFormatTest, EveryKeptElementIsInTheStreamOnce) {
  Random random(1);
  for (int trial = 0; trial < 40; ++trial) {
    const int64_t rows = random.Int(1, 70), depth = random.Int(1, 700);
    const double kept = trial % 5 == 0 ? 0 : random.Uniform(0.01, 0.9);
    for (const GemvUnit unit : {GemvUnit::kF32, GemvUnit::kQuad, GemvUnit::kByte}) {
      const bool floats = unit == GemvUnit::kF32;
      const GemvWeights w = MakeWeights(random, floats ? DType::kF32 : DType::kI8, rows, depth, kept, trial % 2 == 0,
                                        trial % 3 == 0 ? 7 : 127);
      for (const GemvKind kind : {GemvKind::kDense, GemvKind::kColumns, GemvKind::kScattered}) {
        for (const int bits : {32, 8, 4}) {
          const GemvFormat format = {.kind = kind,
                                     .unit = unit,
                                     .lanes = kind == GemvKind::kScattered ? 16 : 8 << (trial % 2),
                                     .value_bits = bits};
          if (floats != (bits == 32) || (unit == GemvUnit::kByte && kind != GemvKind::kScattered)) continue;
          if (!CanStore(format, w)) {
            EXPECT_TRUE(bits == 4 || (kind == GemvKind::kColumns && floats)) << format.Name();
            continue;
          }
          SCOPED_TRACE(internal::Join(format.Name(), " ", rows, "x", depth, " kept ", kept, " trial ", trial));
          EXPECT_TRUE(StreamReader(format, w, PackGemv(format, w)).Read() == Expected(w));
        }
      }
    }
  }
}

TEST(GemvFormatTest, ColumnsOfF32AreExactOrRefused) {
  Random random(2);
  GemvWeights w = MakeWeights(random, DType::kF32, 40, 90, 1, true);
  for (int64_t k = 0; k < w.kept.size(); ++k) w.kept.Set(k, (k % 90) % 3 == 0);
  const GemvFormat columns = {.kind = GemvKind::kColumns};
  ASSERT_TRUE(CanStore(columns, w));
  EXPECT_TRUE(StreamReader(columns, w, PackGemv(columns, w)).Read() == Expected(w));
  w.kept.Set(3, false);
  EXPECT_FALSE(CanStore(columns, w));
}

TEST(GemvFormatTest, FourBitsWhereTheyFit) {
  Random random(3);
  const GemvFormat dense4 = {.kind = GemvKind::kDense, .unit = GemvUnit::kQuad, .value_bits = 4};
  GemvWeights w = MakeWeights(random, DType::kI8, 16, 20, 1, true, 7);
  EXPECT_TRUE(CanStore(dense4, w));
  w.tensor.SetInt(7, 8);
  EXPECT_FALSE(CanStore(dense4, w));
}

TEST(GemvFormatTest, EstimatesCountWhatIsPacked) {
  Random random(4);
  const GemvWeights w = MakeWeights(random, DType::kF32, 1000, 800, 0.1, true);
  const GemvFormat format = {.kind = GemvKind::kScattered};
  const GemvStream stream = PackGemv(format, w);
  const double bundles = stream.begin.data<int32_t>().back();
  EXPECT_NEAR(EstimateVectors(format, w) / bundles, 1, 0.03);
  // Random elements of this density fill most of the steps.
  EXPECT_LT(static_cast<double>(stream.values.byte_size()) / static_cast<double>(w.num_kept()), 7.5);
}

TEST(GemvFormatTest, TasksHaveAboutEqualBytes) {
  Random random(5);
  // The first rows keep all, the last ones nearly nothing.
  GemvWeights w = MakeWeights(random, DType::kI8, 4096, 256, 1, true);
  for (int64_t k = 0; k < w.kept.size(); ++k) {
    if (k / 256 > 1000 && !random.Chance(0.02)) w.kept.Set(k, false);
  }
  const GemvStream stream = PackGemv({.kind = GemvKind::kScattered, .unit = GemvUnit::kByte, .value_bits = 8}, w);
  const auto tasks = stream.tasks.data<int32_t>();
  const auto begin = stream.begin.data<int32_t>();
  const auto count = static_cast<int64_t>(tasks.size()) - 1;
  const double half = begin[tasks[count / 2]], all = begin[tasks[count]];
  EXPECT_NEAR(half / all, 0.5, 0.05);
}

}  // namespace
}  // namespace tessera
