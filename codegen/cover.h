// Cover: how a matrix of weights is cut into parts, each of one pattern and one precision, that a kernel handles well.
//
//   for (const CoverCandidate& c : CoverCandidates(matrix, costs)) …      // "blocks 32x32 + scattered", 61 ns, why
//   ASSIGN_OR_RETURN(Cover cover, MakeCover(matrix, "blocks 32x32 + scattered", costs));
//   cover.parts[0].pattern == Pattern::Block(32, 32);  cover.parts[1].pattern == Pattern::Scattered();
//
// A cover is exact: each kept element is in exactly one part. A part stores the kept elements that are its own, and
// perhaps zeros between them where its pattern is coarser than what is kept (zero-fill): they cost time and change
// nothing, unless an activation is infinite, which is as with dense kernels.
//
//   dense                        everything, one part
//   scattered                    the kept elements, one by one
//   rows and columns             a dense matrix of the rows and columns that keep anything
//   blocks 8x8                   every 8x8 block that keeps anything, filled
//   blocks 8x8 + scattered       those that are cheaper as blocks than their elements are one by one, and the rest
//   blocks + scattered           the same with blocks of several sizes at once, the cheapest of all ways to cut
//   2:4, 2:4 + scattered         two of each four along the depth, filled; what a group has beyond them is scattered
//
// What is cheaper is a matter of numbers that were measured on the machine (CoverCosts) and come as an argument.
//
// Blocks of several sizes are not chosen greedily, as SparTA does (OSDI 2022), but best. They lie on grids of powers of
// two. A block across the middle of a 64x64 square's width is as wide as the square, one across the middle of its
// height is as high; disjoint blocks are never both. So every choice can be had by halving squares, along one axis or
// the other, until each piece is a block, or scattered; and what a piece costs at best follows from what its halves do.
// Pure functions. Tested by cover_test.cc.
#ifndef TESSERA_CODEGEN_COVER_H_
#define TESSERA_CODEGEN_COVER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tesa/attribute.h"
#include "tesa/bitmap.h"
#include "tesa/pattern.h"

namespace tessera {

// Which elements of W[rows, depth] are kept: bit row * depth + k. An element is what a kernel multiplies at a time: one
// number, or a unit of several (four 8-bit integers).
struct CoverMatrix {
  int64_t rows = 0, depth = 0;
  Bitmap kept;

  // Element (row, k) is bit row * row_step + k * depth_step of `bits`.
  static CoverMatrix Of(const Bitmap& bits, int64_t rows, int64_t depth, int64_t row_step, int64_t depth_step);
};

// The extents of blocks are powers of two up to this.
inline constexpr int64_t kMaxCoverBlock = 64;

// What things cost, in nanoseconds for one panel of activations on one core.
struct CoverCosts {
  struct Block {
    int64_t height = 1, width = 1;  // powers of two, at most kMaxCoverBlock
    double ns = 1;                  // of one block, however much of it is kept
  };
  double dense_ns = 1;      // of an element of the whole matrix
  double scattered_ns = 1;  // of a kept element
  double slices_ns = 1;     // of an element that a dense matrix of live rows and columns stores
  double nm_ns = 1;         // of an element that n:m stores
  std::vector<Block> blocks;
};

struct CoverPart {
  Pattern pattern;
  int bits = 32;
  Bitmap kept;    // the elements that are this part's own
  Bitmap stored;  // those, and the zeros between them
};

struct Cover {
  std::string name;
  std::vector<CoverPart> parts;  // none is empty; no parts where nothing is kept
};

struct CoverCandidate {
  std::string name;
  double ns = 0;    // by `costs`, for one panel
  std::string why;  // what was counted: "fill 94 %, 1 % scattered"
};

// Every cover worth a thought, the cheapest first. Covers that would be equal to a simpler one are left out.
std::vector<CoverCandidate> CoverCandidates(const CoverMatrix& matrix, const CoverCosts& costs);

// The cover of that name, which need not be a candidate: any extents that are powers of two, any n:m (a group that
// keeps more than n must have "+ scattered"). kInvalidArgument for names that are none.
StatusOr<Cover> MakeCover(const CoverMatrix& matrix, std::string_view name, const CoverCosts& costs);

// Whether each kept element is in exactly one part, and each part stores what it keeps.
Status CheckCover(const CoverMatrix& matrix, const Cover& cover);

// Bit widths rounded up to what a machine multiplies: with widths {4, 8}, {3, 5, 7} become {4, 8}, one share each.
struct PrecisionShare {
  int bits = 0;
  Bitmap kept;  // of the attribute's elements, as they lie
};
// By ascending bits; each kept element is in exactly one share. `widths` ascend. kTesaInvalid where an element needs
// more bits than the largest of them.
StatusOr<std::vector<PrecisionShare>> SplitByPrecision(const Attribute& attribute, std::span<const int> widths);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_COVER_H_
