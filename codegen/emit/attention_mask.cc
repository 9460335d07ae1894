#include "codegen/emit/attention_mask.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera {
namespace {

constexpr double kOut = -1e38, kIn = -1e37;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One row of one mask, with -infinity for every key that is out.
class MaskRows {
 public:
  MaskRows(const Tensor& mask, const int64_t (&steps)[4], int64_t keys) : mask_(mask), steps_(steps), row_(keys) {}

  const std::vector<double>& Read(int64_t batch, int64_t head, int64_t query) {
    const int64_t start = batch * steps_[0] + head * steps_[1] + query * steps_[2];
    double highest = -kInfinity;
    for (size_t key = 0; key < row_.size(); ++key) {
      row_[key] = mask_.Get(start + static_cast<int64_t>(key) * steps_[3]);
      if (row_[key] > highest) highest = row_[key];
    }
    if (highest > kIn) {
      // Not !(value > kOut): a NaN stays.
      for (double& value : row_) value = value <= kOut ? -kInfinity : value;
    }
    return row_;
  }

 private:
  const Tensor& mask_;
  const int64_t (&steps_)[4];
  std::vector<double> row_;
};

int64_t EndRow(const AttentionTiling& tiling, int64_t tile) {
  return tile + 1 == tiling.tiles ? tiling.queries : tiling.FirstRow(tile + 1);
}

}  // namespace

AttentionMaskLists ListAttentionPanels(const Tensor& mask, const int64_t (&steps)[4], int64_t batch, int64_t heads,
                                       const AttentionTiling& tiling) {
  AttentionMaskLists lists;
  const int64_t distinct_heads = steps[1] == 0 ? 1 : heads, distinct_batches = steps[0] == 0 ? 1 : batch;
  lists.masks = distinct_heads * distinct_batches;
  lists.head_step = steps[1] == 0 ? 0 : 1;
  lists.batch_step = steps[0] == 0 ? 0 : distinct_heads;
  MaskRows rows(mask, steps, tiling.keys);
  std::vector<bool> kept(tiling.panels());
  for (int64_t list = 0; list < lists.masks; ++list) {
    for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
      std::fill(kept.begin(), kept.end(), false);
      for (int64_t query = tiling.FirstRow(tile); query < EndRow(tiling, tile); ++query) {
        const std::vector<double>& row = rows.Read(list / distinct_heads, list % distinct_heads, query);
        bool any = false;
        for (int64_t key = 0; key < tiling.keys; ++key) {
          if (row[key] == -kInfinity) continue;
          kept[key / tiling.width] = true;
          any = true;
        }
        if (!any) kept[0] = true;
      }
      lists.starts.push_back(static_cast<int64_t>(lists.panels.size()));
      for (int64_t panel = 0; panel < tiling.panels(); ++panel) {
        if (kept[panel]) lists.panels.push_back(panel);
      }
      lists.max_panels = std::max(lists.max_panels, static_cast<int64_t>(lists.panels.size()) - lists.starts.back());
    }
  }
  lists.starts.push_back(static_cast<int64_t>(lists.panels.size()));
  return lists;
}

Tensor PackAttentionMask(const Tensor& mask, const int64_t (&steps)[4], int64_t heads, const AttentionTiling& tiling,
                         const AttentionMaskLists& lists) {
  Tensor packed = Tensor::Full(
      mask.dtype(), Shape({static_cast<int64_t>(lists.panels.size()), tiling.tile_rows, tiling.width}), -kInfinity);
  const int64_t distinct_heads = lists.head_step == 0 ? 1 : heads;
  MaskRows rows(mask, steps, tiling.keys);
  for (int64_t list = 0; list < lists.masks; ++list) {
    for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
      const int64_t begin = lists.starts[list * tiling.tiles + tile],
                    end = lists.starts[list * tiling.tiles + tile + 1];
      const int64_t first = tiling.FirstRow(tile);
      for (int64_t query = first; query < EndRow(tiling, tile); ++query) {
        const std::vector<double>& row = rows.Read(list / distinct_heads, list % distinct_heads, query);
        for (int64_t at = begin; at < end; ++at) {
          const int64_t key = lists.panels[at] * tiling.width;
          const int64_t to = (at * tiling.tile_rows + query - first) * tiling.width;
          for (int64_t k = 0; k < std::min(tiling.width, tiling.keys - key); ++k) packed.Set(to + k, row[key + k]);
        }
      }
    }
  }
  return packed;
}

}  // namespace tessera
