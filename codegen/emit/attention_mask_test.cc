// Lists of panels against what they stand for: every score that is not out is in exactly one listed panel, the packed
// mask says the same as the given one, and panels that nobody looks at are not listed.
#include "codegen/emit/attention_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace tessera {
namespace {

AttentionTiling Tiling(int64_t queries, int64_t keys, int64_t most_rows, int64_t width) {
  AttentionTiling tiling;
  tiling.queries = queries;
  tiling.keys = keys;
  tiling.width = width;
  tiling.tiles = (queries + most_rows - 1) / most_rows;
  tiling.tile_rows = (queries + tiling.tiles - 1) / tiling.tiles;
  tiling.full_tiles = queries - tiling.tiles * (tiling.tile_rows - 1);
  return tiling;
}

TEST(AttentionMaskTest, ListsAndPackedMaskSayWhatTheMaskSays) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 60; ++round) {
    const auto below = [&](int64_t bound) { return static_cast<int64_t>(random() % static_cast<uint64_t>(bound)); };
    const int64_t batch = 1 + below(2), heads = 1 + below(3), queries = 1 + below(40), keys = 1 + below(70);
    const bool by_batch = below(2) == 0, by_head = below(2) == 0;
    const AttentionTiling tiling = Tiling(queries, keys, 1 + below(7), int64_t{4} << below(4));
    Tensor mask(DType::kF32, Shape({by_batch ? batch : 1, by_head ? heads : 1, queries, keys}));
    const double out = below(2) == 0 ? -INFINITY : -std::numeric_limits<float>::max();
    for (int64_t k = 0; k < mask.num_elements(); ++k)
      mask.Set(k, below(12) == 0 ? 0.25 * static_cast<double>(k % 7) : out);
    for (int64_t row = 0; row < mask.num_elements() / keys; ++row) mask.Set(row * keys + below(keys), 0);
    const int64_t head_step = by_head ? queries * keys : 0;
    const int64_t batch_step = by_batch ? (by_head ? heads : 1) * queries * keys : 0;
    const int64_t steps[4] = {batch_step, head_step, keys, 1};

    const AttentionMaskLists lists = ListAttentionPanels(mask, steps, batch, heads, tiling);
    const Tensor packed = PackAttentionMask(mask, steps, heads, tiling, lists);
    ASSERT_EQ(lists.masks, (by_batch ? batch : 1) * (by_head ? heads : 1));
    ASSERT_EQ(static_cast<int64_t>(lists.starts.size()), lists.masks * tiling.tiles + 1);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t list = b * lists.batch_step + h * lists.head_step;
        for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
          const int64_t first = tiling.FirstRow(tile);
          const int64_t end = tile + 1 < tiling.tiles ? tiling.FirstRow(tile + 1) : queries;
          ASSERT_LE(end - first, tiling.tile_rows);
          for (int64_t panel = 0; panel < tiling.panels(); ++panel) {
            int64_t listed = -1;
            for (int64_t at = lists.starts[list * tiling.tiles + tile];
                 at < lists.starts[list * tiling.tiles + tile + 1]; ++at) {
              if (lists.panels[at] == panel) listed = at;
            }
            bool wanted = false;
            for (int64_t query = first; query < end; ++query) {
              for (int64_t k = 0; k < tiling.width; ++k) {
                const int64_t key = panel * tiling.width + k;
                double value = key < keys ? mask.Get(b * steps[0] + h * steps[1] + query * steps[2] + key) : -INFINITY;
                if (value < -1e38) value = -INFINITY;
                wanted |= value != -INFINITY;
                if (listed < 0) continue;
                const double found = packed.Get((listed * tiling.tile_rows + query - first) * tiling.width + k);
                ASSERT_EQ(found, value) << "query " << query << " key " << key;
              }
            }
            ASSERT_EQ(listed >= 0, wanted) << "tile " << tile << " panel " << panel;
          }
        }
      }
    }
  }
}

// A row that leaves out everything is not defined; a tile of such rows still has something to compute it from. A finite
// lowest value in all of a row weighs all keys alike: none is out.
TEST(AttentionMaskTest, RowsWithoutAnyKey) {
  const AttentionTiling tiling = Tiling(4, 8, 2, 4);
  const int64_t steps[4] = {0, 0, 8, 1};
  EXPECT_EQ(ListAttentionPanels(Tensor::Full(DType::kF32, {4, 8}, -INFINITY), steps, 1, 1, tiling).panels,
            (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(ListAttentionPanels(Tensor::Full(DType::kF32, {4, 8}, -3e38), steps, 1, 1, tiling).panels,
            (std::vector<int64_t>{0, 1, 0, 1}));
}

}  // namespace
}  // namespace tessera
