// Static masks of attention: which panels of keys the rows of a tile look at, from a constant that is added to scores.
//
//   a band of 2 keys to each side, tiles of 2 rows, panels of 4 keys        lists
//        keys 0 1 2 3 | 4 5 6 7 | 8 9 …
//   row 0     . . . - | - - - - | -                                        tile 0: panel 0
//   row 1     . . . . | - - - - | -
//   row 2     . . . . | . - - - | -                                        tile 1: panels 0, 1
//   row 3     - . . . | . . - - | -                        (- is -infinity)
//
// A key is out of a row when the mask is -infinity there, or -1e38 or less in a row that has keys above -1e37: for such
// a key to weigh anything, scores would have to differ by more than 9e37. Panels that all rows of a tile leave out
// are never computed; of the others the mask is stored, in the order in which a kernel walks through it. A row that
// leaves out all keys has no defined result and gets NaN, as without lists: its tile keeps one panel.
// Tested by attention_mask_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_ATTENTION_MASK_H_
#define TESSERA_CODEGEN_EMIT_ATTENTION_MASK_H_

#include <cstdint>
#include <vector>

#include "tesa/tensor.h"

namespace tessera {

// How queries are cut into tiles and keys into panels.
struct AttentionTiling {
  int64_t queries = 1, keys = 1;
  int64_t tile_rows = 1, tiles = 1, full_tiles = 1;  // tiles from full_tiles on have one row less
  int64_t width = 1;                                 // keys of a panel

  int64_t panels() const { return (keys + width - 1) / width; }
  int64_t FirstRow(int64_t tile) const {
    return tile < full_tiles ? tile * tile_rows : tile * (tile_rows - 1) + full_tiles;
  }
};

// Masks that differ between batches or heads have a list of tiles each, all batches' heads in order.
struct AttentionMaskLists {
  int64_t masks = 1;  // distinct ones: list = batch * batch_step + head * head_step
  int64_t batch_step = 0, head_step = 0;
  int64_t max_panels = 0;       // of a tile
  std::vector<int64_t> starts;  // of list * tiles + tile, and the end: positions in `panels`
  std::vector<int64_t> panels;  // ascending within a tile

  // Share of all (tile, panel) pairs that is kept.
  double kept(const AttentionTiling& tiling) const {
    return static_cast<double>(panels.size()) / static_cast<double>(masks * tiling.tiles * tiling.panels());
  }
};

// `mask` is of a float type; `steps` are its elements along batch, head, query and key, 0 where it broadcasts; batch
// and heads are those of the attention.
AttentionMaskLists ListAttentionPanels(const Tensor& mask, const int64_t (&steps)[4], int64_t batch, int64_t heads,
                                       const AttentionTiling& tiling);
// The mask of what is kept, [panels.size(), tile_rows, width] in the mask's type: -infinity for keys that do not exist
// and for those that are out.
Tensor PackAttentionMask(const Tensor& mask, const int64_t (&steps)[4], int64_t heads, const AttentionTiling& tiling,
                         const AttentionMaskLists& lists);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_ATTENTION_MASK_H_
