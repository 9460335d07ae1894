// Streams read back: every kept element is there once, with its weight, and what else is there is zero.
#include "codegen/emit/gpu/mask_stream.h"

#include <gtest/gtest.h>

#include <bit>
#include <map>

#include "codegen/emit/gpu/testing/random_pattern.h"

namespace tessera {
namespace {

// (row, k) -> weight, of everything in the stream that is not zero.
std::map<std::pair<int64_t, int64_t>, uint32_t> Read(const MaskStream& stream, int64_t chunk, int64_t zeros) {
  std::map<uint32_t, int64_t> unit_of;
  for (int64_t k = 0; k <= zeros; ++k) unit_of[PlaceOf(k)] = k;
  std::map<std::pair<int64_t, int64_t>, uint32_t> result;
  for (int64_t g = 0; g < stream.groups * stream.chunks; ++g) {
    for (int32_t segment = stream.first[g]; segment < stream.first[g + 1]; ++segment) {
      const uint32_t* words = stream.words.data() + int64_t{segment} * (kSegmentBytes / 4);
      const uint32_t* at = words + kSegmentHead / 4;
      for (uint32_t run = 1; run <= words[0]; ++run) {
        const int mask = UsualMasks().masks[words[run] & 255], rows = std::popcount(static_cast<unsigned>(mask));
        for (uint32_t trip = 0; trip < words[run] >> 8; ++trip, at += TripBytes(rows) / 4) {
          for (int e = 0; e < kMaskTrip; ++e) {
            const uint32_t place = at[e];
            EXPECT_TRUE(unit_of.count(place) > 0) << place;
            const int64_t k = unit_of[place];
            for (int row = 0, number = 0; row < kMaskRows; ++row) {
              if ((mask >> row & 1) == 0) continue;
              const uint32_t weight = at[(1 + number++) * kMaskTrip + e];
              if (weight == 0) continue;
              EXPECT_NE(k, zeros);
              const auto key = std::pair(g / stream.chunks * kMaskRows + row, g % stream.chunks * chunk + k);
              EXPECT_TRUE(result.emplace(key, weight).second) << "twice";
            }
          }
        }
      }
      EXPECT_LE(at, words + kSegmentBytes / 4);
    }
  }
  return result;
}

TEST(MaskStream, HoldsEachKeptElementOnce) {
  for (const auto& [rows, depth, chunk, density] :
       {std::tuple{64, 256, 256, 0.1}, {13, 77, 80, 0.5}, {40, 500, 128, 0.02}, {8, 64, 64, 1.0}, {9, 30, 32, 0.0}}) {
    const ScatteredPattern pattern = RandomPattern(rows, depth, density, 3);
    const auto weight = [&](int64_t row, int64_t k) { return static_cast<uint32_t>(row * 10000 + k + 1); };
    const MaskStream stream = EncodeMaskStream(pattern, UsualMasks(), chunk, chunk, weight);
    const auto read = Read(stream, chunk, chunk);
    EXPECT_EQ(static_cast<int64_t>(read.size()), pattern.num_kept());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t j = pattern.begin[row]; j < pattern.begin[row + 1]; ++j) {
        const auto at = read.find({row, pattern.columns[j]});
        ASSERT_TRUE(at != read.end()) << row << " " << pattern.columns[j];
        EXPECT_EQ(at->second, weight(row, pattern.columns[j]));
      }
    }
  }
}

// What the emitter's speed rests on: a third of the elements that a row would read by itself.
TEST(MaskStream, SharesRowsOfThePanel) {
  const ScatteredPattern pattern = RandomPattern(256, 1024, 0.3, 5);
  const MaskStream stream = EncodeMaskStream(pattern, UsualMasks(), 1024, 1024, [](int64_t, int64_t) { return 1u; });
  int64_t trips = 0;
  for (size_t at = 0; at < stream.words.size(); at += kSegmentBytes / 4) {
    for (uint32_t run = 1; run <= stream.words[at]; ++run) trips += stream.words[at + run] >> 8;
  }
  EXPECT_LT(trips * kMaskTrip, pattern.num_kept() * 2 / 5);
  const double cycles = MaskStreamCycles(pattern, UsualMasks(), 1024);
  EXPECT_GT(cycles, 9.0 * static_cast<double>(trips));
  EXPECT_LT(cycles, 40.0 * static_cast<double>(trips));
}

// Rows that keep nothing take no time, however many there are.
TEST(MaskStream, CountsTheGroupsThatKeepSomething) {
  const ScatteredPattern dense = RandomPattern(48, 1024, 0.5, 6);
  ScatteredPattern below = dense;
  below.rows = 560;
  below.begin.insert(below.begin.begin(), 512, 0);
  const double cycles = MaskStreamCycles(dense, UsualMasks(), 1024);
  EXPECT_GT(cycles, 0);
  EXPECT_NEAR(MaskStreamCycles(below, UsualMasks(), 1024), cycles, 0.02 * cycles);
}

}  // namespace
}  // namespace tessera
