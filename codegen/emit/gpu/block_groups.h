// Products with weights of blocks on warpgroups (sm_90a), several columns of blocks at once: which share activations.
//
//   Y[token, row] = epilogue(sum over the blocks (row, k) that are kept of X[token, k] * W[row, k])
//
// W's blocks are 64 rows by 128 bytes of the depth. A tile is `tokens` tokens by a *group* of block rows, one for each
// of its warpgroups, chosen so that they keep blocks at the same depths: X's part of a depth then comes once for all of
// them. Its *steps* are the depths at which any of the group keeps a block.
//
//   depth            0 1 2 3 4 5 6 7
//   block row 9      x . . x . x . .        warpgroup 0: steps 0, 1, 3
//   block row 30     x . . . x x . .        warpgroup 1: steps 0, 2, 3
//   steps            0     1 2 3            X comes four times instead of six
//
// Everything is known while compiling, and goes to the kernel as data: the groups, each tile's place and each block's
// tiles, longest first, so that all end together. Tested by block_groups_test.cc, gpu_blocks_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_BLOCK_GROUPS_H_
#define TESSERA_CODEGEN_EMIT_GPU_BLOCK_GROUPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/emit/gpu/matmul_kernel.h"

namespace tessera {

// Which blocks are kept, [block row][stage of the depth].
struct BlockPattern {
  int64_t rows = 0, stages = 0;
  std::vector<bool> kept;
  bool Keeps(int64_t row, int64_t stage) const { return kept[static_cast<size_t>(row * stages + stage)]; }
};

// Block rows that are made together: at most `size` of them, and the stages at which any of them keeps a block, in
// order. A row that keeps none is said to keep one (of zeros) at a stage of the group, so that each row has a block.
struct BlockGroup {
  std::vector<int64_t> rows;
  std::vector<int64_t> steps;
  std::vector<std::vector<bool>> kept;  // [row of the group][step]
  int64_t blocks() const;
};
// Every row is in one group; few steps in all (greedy, then exchanges while they help). The longest group first.
std::vector<BlockGroup> GroupBlocks(const BlockPattern& pattern, int size);

// Tiles of the product for each of `units` blocks of threads: as even as `cost` of a tile of each group allows, and
// neighbours in time share tokens. A tile is token tile * groups + group.
std::vector<std::vector<int64_t>> ScheduleTiles(const std::vector<double>& cost, int64_t token_tiles, int64_t units);

struct GroupedProduct {
  GpuMatmul matmul;  // tile_m tokens, tile_n 64, stages: of X
  int size = 2;      // warpgroups that multiply: block rows of a group
  int weight_stages = 8;
  int64_t blocks = 0;  // that are listed

  int tokens() const { return matmul.tiling.tile_m; }
  int threads() const { return 128 * size + 32; }
  int64_t shared_bytes() const;
  int64_t token_tiles() const { return matmul.tiles_m(); }
  // Blocks of threads.
  int64_t units() const {
    const int64_t groups = (matmul.tiles_n() + size - 1) / size;
    return std::min(matmul.resident, token_tiles() * groups);
  }
  std::string Name() const;  // "wgmma 256x64 by 2": names stay
};

// Sizes that a group may have: tokens, block rows, stages of X and of W.
struct GroupedTile {
  int tokens, size, stages, weight_stages;
};
extern const std::vector<GroupedTile> kGroupedTiles;

// What the kernel reads, i32 each. A tile's record: its first token, first step, number of steps, first block, number
// of blocks, the first step's entry; then for each warpgroup its first turn, number of turns (0: it has no row), first
// row of W and the first turn's entry.
struct GroupedTables {
  std::vector<int32_t> begins;  // of each block of threads its second tile, and the end; its first is its own number
  std::vector<int32_t> tiles;   // records
  std::vector<int32_t> steps;   // stage * 8 + blocks of the step, which lie in the order of warpgroups
  std::vector<int32_t> turns;   // step of the tile + its block's number in the tile << 16
};
GroupedTables TablesOf(const GroupedProduct& product, const std::vector<BlockGroup>& groups, int64_t units);
// Do a turn's numbers fit?
bool TablesFit(int64_t stages, int size);

// Arguments: X, the listed blocks, the four tables, then the epilogue's operands and Y; tensor maps of X and the
// blocks.
constexpr int kGroupedFirstEpilogueArg = 6;
KernelSpec GroupedKernel(const GroupedProduct& product, const TileEpilogue& epilogue);
std::vector<TensorMap> GroupedTensorMaps(const GroupedProduct& product);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_BLOCK_GROUPS_H_
