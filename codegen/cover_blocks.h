// The block half of a cover: which blocks of a matrix to take.
//
//   std::vector<CoverBlock> all = NonEmptyBlocks(matrix, 32, 32);                   // zero-fill
//   std::vector<CoverBlock> some = BlocksWorthTaking(matrix, block, scattered_ns);  // of one size
//   std::vector<CoverBlock> best = CheapestBlocks(matrix, blocks, scattered_ns);    // of several sizes
//
// Blocks lie on the grid of their size from the matrix' origin; those at the far edges hang over and cost as much as
// whole ones. Pure functions. Tested by cover_test.cc.
#ifndef TESSERA_CODEGEN_COVER_BLOCKS_H_
#define TESSERA_CODEGEN_COVER_BLOCKS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "codegen/cover.h"
#include "tesa/bitmap.h"

namespace tessera {

struct CoverBlock {
  int64_t row = 0, k = 0;         // of its first element
  int64_t height = 1, width = 1;  // of the grid; the block may hang over the edge
  int64_t kept = 0;               // elements in it
};

// Calls visit for every block that keeps something, by rows. Networks have millions of small ones: nothing is stored.
void ForEachBlock(const BitMatrix& kept, int64_t height, int64_t width,
                  const std::function<void(const CoverBlock&)>& visit);
std::vector<CoverBlock> NonEmptyBlocks(const BitMatrix& kept, int64_t height, int64_t width);
// Those that cost less than their kept elements do one by one.
std::vector<CoverBlock> BlocksWorthTaking(const BitMatrix& kept, const CoverCosts::Block& block, double scattered_ns);
// Disjoint blocks of the given sizes such that they and the elements outside cost the least.
std::vector<CoverBlock> CheapestBlocks(const BitMatrix& kept, std::span<const CoverCosts::Block> blocks,
                                       double scattered_ns);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_COVER_BLOCKS_H_
