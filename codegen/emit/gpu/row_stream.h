// RowStream: scattered weights as data for the kernel that gives a lane group of a warp one row at a time.
//
// The warp's four lane groups have a row each, a *quad*; its sets come one after the other. Rows of a block are sorted
// by how many elements they keep, so that the four of a quad have about as many, and sets are dealt to warps back and
// forth, so that all have as much to do.
//
//   trip   two elements of each of the set's rows: for lane group 0, 1, … a word with both places, the first in the low
//   half;
//          then for each both weights
//   place  where k's row of the panel begins, in pieces of 16 bytes (PlaceOf, mask_stream.h); rows that end sooner go
//   on
//          with zeros times a row of zeros behind the panel
//
// Places are halves of words because what lanes get from the first-level cache is what binds: every byte of it, be it
// the same for all lanes of a group, takes the place of a byte of X.
//
// A warp's trips follow each other: chunk of the depth by chunk, in each set by set. Pure functions. Tested by
// row_stream_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_ROW_STREAM_H_
#define TESSERA_CODEGEN_EMIT_GPU_ROW_STREAM_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "codegen/emit/scattered_stream.h"

namespace tessera {

constexpr int kRowSet = 8;        // rows of a set
constexpr int kTripElements = 2;  // of a row
constexpr int kPlaceUnit = 16;    // bytes
constexpr int kRowTripBytes = kRowSet * (4 + kTripElements * 4);

struct RowStreamShape {
  int warps = 32, sets = 2;  // of a block; of a warp
  int64_t chunk = 0;         // units of the depth whose panel is in shared memory at once
  int64_t zeros = 0;         // the panel's row of zeros

  int64_t block_rows() const { return int64_t{warps} * sets * kRowSet; }
};

struct RowStream {
  std::vector<uint32_t> words;  // all trips, and one behind them that may be read
  // The trip that ((block * warps + warp) * chunks + chunk) * sets + set begins with; and the end.
  std::vector<int32_t> first;
  // Which row lane group g of (block, warp, set) has, at ((block * warps + warp) * sets + set) * kRowSet + g; the
  // number of rows where it has none.
  std::vector<int32_t> rows;
};

// `weight(row, k)` gives the 32 bits of a kept element.
RowStream EncodeRowStream(const ScatteredPattern& pattern, const RowStreamShape& shape,
                          const std::function<uint32_t(int64_t row, int64_t k)>& weight);

// Trips of the warp that has most, of each block, added up.
double LongestTrips(const ScatteredPattern& pattern, const RowStreamShape& shape);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_ROW_STREAM_H_
