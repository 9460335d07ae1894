// MaskStream: scattered weights as data that a GPU multiplies without ever asking which rows keep an element.
//
// Rows are taken in groups of eight, whose sums are registers. Registers cannot be indexed by data, so whoever wants to
// read an element of X once for all rows of a group that keep it must have code for each set of rows. Here sets are few
// (a family of masks) and the depth is put in the order of its masks: all k that rows 2 and 5 keep follow each other,
// and one short loop that multiplies into rows 2 and 5 passes over them.
//
//   group of rows 0-7, depth 16, x: kept              mask      k               trips: kMaskTrip entries each
//     row 2   x..x....x...x..x                         2        3 12
//     row 5   x.......x..x....                         5        11
//     …                                                2, 5     0 8             an entry: k, and a weight for each row
//
// A set that is not in the family takes a superset that is, with zeros, or is cut into several. Which sets a group
// uses is chosen by expected cycles: a loop that would run for three elements is better closed.
//
//   rows in pairs: the 15 sets of the pairs 0-1, 2-3, 4-5, 6-7
//
// More sets would multiply fewer zeros and be slower: their code does not stay in the instruction cache (35 sets, 46
// KiB: half as long again), and their loops are short.
//
// The stream is made of segments that a warp copies to shared memory ahead of itself:
//
//   segment     kSegmentBytes: word 0 runs; words 1-15 mask of the family | trips << 8; from byte 64 on all runs' trips
//   trip        of p rows: 1 + p times eight words, one a lane group (of four lanes): places; a row's weights each
//   place       of k: where its row of the panel begins, in bytes (PlaceOf); the last trip of a run is filled up with a
//               row of zeros behind the panel
//
// Long depths are cut into chunks whose panels fit shared memory; a group has a stream for each. Pure functions. Tested
// by mask_stream_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_GPU_MASK_STREAM_H_
#define TESSERA_CODEGEN_EMIT_GPU_MASK_STREAM_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "codegen/emit/scattered_stream.h"

namespace tessera {

constexpr int kMaskRows = 8;                  // of a group
constexpr int kMaskLanes = 4, kMaskTrip = 8;  // lanes of a lane group; lane groups of a warp: entries of a trip
constexpr int kMaskColumns = 32;              // of a panel, 128 bytes a row
constexpr int kSegmentBytes = 2048, kSegmentHead = 64;
constexpr int TripBytes(int rows) { return kMaskTrip * 4 * (1 + rows); }

struct MaskFamily {
  std::vector<uint8_t> masks;  // by ascending number of rows
};
const MaskFamily& UsualMasks();

// Rows of a panel are turned by their number, so that writing a transposed X meets all banks: piece c of row k (columns
// 4 c to 4 c + 3) begins at byte PlaceOf(k) ^ (16 c) of the panel.
inline uint32_t PlaceOf(int64_t k) { return static_cast<uint32_t>(k * 128 + k / 4 % 4 * 16); }

struct MaskStream {
  std::vector<uint32_t> words;
  // Segment that the stream of (group, chunk) begins with, at group * chunks + chunk; and the end.
  std::vector<int32_t> first;
  int64_t groups = 0, chunks = 0;
};

// `weight(row, k)` gives the 32 bits of a kept element; `chunk` units of the depth are one chunk, whose row of zeros is
// number `zeros` of the panel.
MaskStream EncodeMaskStream(const ScatteredPattern& pattern, const MaskFamily& family, int64_t chunk, int64_t zeros,
                            const std::function<uint32_t(int64_t row, int64_t k)>& weight);

// Cycles of a multiprocessor that all groups take for one panel, by a sample of them.
double MaskStreamCycles(const ScatteredPattern& pattern, const MaskFamily& family, int64_t chunk);

// What a run of `trips` trips of `rows` rows takes.
double MaskRunCycles(int rows, int64_t trips);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_GPU_MASK_STREAM_H_
