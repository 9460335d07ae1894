// Streams read back: every kept element is there once, in the row that its lane group has, and what else is there is
// zero; warps have about as much to do.
#include "codegen/emit/gpu/row_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "codegen/emit/gpu/mask_stream.h"
#include "codegen/emit/gpu/testing/random_pattern.h"

namespace tessera {
namespace {

uint32_t Weight(int64_t row, int64_t k) { return static_cast<uint32_t>(row * 10000 + k + 1); }

TEST(RowStream, HoldsEachKeptElementOnce) {
  for (const auto& [rows, depth, chunk, density] :
       {std::tuple{64, 256, 256, 0.1}, {13, 77, 80, 0.5}, {100, 500, 128, 0.02}, {33, 64, 64, 1.0}, {9, 30, 32, 0.0}}) {
    const ScatteredPattern pattern = RandomPattern(rows, depth, density, 5);
    const RowStreamShape shape = {.warps = 8, .sets = 2, .chunk = chunk, .zeros = chunk};
    const RowStream stream = EncodeRowStream(pattern, shape, Weight);
    const int64_t block = shape.block_rows(), blocks = (rows + block - 1) / block, chunks = (depth + chunk - 1) / chunk;
    ASSERT_EQ(static_cast<int64_t>(stream.rows.size()), blocks * block);
    ASSERT_EQ(static_cast<int64_t>(stream.first.size()), blocks * 8 * chunks * 2 + 1);
    // The trip behind the last may be read.
    ASSERT_EQ(stream.words.size() * 4, (static_cast<size_t>(stream.first.back()) + 1) * kRowTripBytes);
    std::multiset<int32_t> dealt(stream.rows.begin(), stream.rows.end());
    for (int32_t row = 0; row < rows; ++row) EXPECT_EQ(dealt.count(row), 1u) << row;
    std::map<uint32_t, int64_t> unit_of;
    for (int64_t k = 0; k <= chunk; ++k) unit_of[PlaceOf(k)] = k;
    int64_t found = 0;
    for (int64_t at = 0; at + 1 < static_cast<int64_t>(stream.first.size()); ++at) {
      const int64_t set = at % 2, chunk_number = at / 2 % chunks, unit = at / 2 / chunks;
      for (int32_t trip = stream.first[at]; trip < stream.first[at + 1]; ++trip) {
        for (int g = 0; g < kRowSet; ++g) {
          const int64_t row = stream.rows[(unit * 2 + set) * kRowSet + g];
          for (int e = 0; e < kTripElements; ++e) {
            const size_t begin = static_cast<size_t>(trip) * kRowTripBytes / 4;
            const uint32_t place = (stream.words[begin + g] >> 16 * e & 0xffff) * kPlaceUnit;
            const uint32_t weight = stream.words[begin + kRowSet + g * kTripElements + e];
            ASSERT_TRUE(unit_of.count(place) > 0);
            if (weight == 0) continue;
            const int64_t k = unit_of[place] + chunk_number * chunk;
            EXPECT_EQ(weight, Weight(row, k));
            const auto from = pattern.columns.begin() + pattern.begin[row];
            EXPECT_TRUE(std::binary_search(from, pattern.columns.begin() + pattern.begin[row + 1], k));
            ++found;
          }
        }
      }
    }
    EXPECT_EQ(found, static_cast<int64_t>(pattern.columns.size()));
  }
}

TEST(RowStream, WarpsHaveAboutAsMuchToDo) {
  const ScatteredPattern pattern = RandomPattern(512, 1024, 0.1, 5);
  const RowStreamShape shape = {.warps = 32, .sets = 2, .chunk = 1024, .zeros = 1024};
  const RowStream stream = EncodeRowStream(pattern, shape, Weight);
  int32_t longest = 0;
  for (size_t warp = 0; warp < 32; ++warp) {
    longest = std::max(longest, stream.first[warp * 2 + 2] - stream.first[warp * 2]);
  }
  EXPECT_LE(longest, 1.1 * stream.first.back() / 32);
  EXPECT_NEAR(LongestTrips(pattern, shape), longest, 3);
}

}  // namespace
}  // namespace tessera
