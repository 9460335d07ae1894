// Depthwise filters over bytes: how taps above each other make the units (dot.h) that a product takes in each lane.
//
//   image rows        y+0:  a0 a1 a2 …     a lane is a channel; its unit, of column x, is the bytes of four rows there
//                     y+1:  b0 b1 b2 …
//                     y+2:  c0 c1 c2 …     unit[x] = a[x] b[x] c[x] d[x]
//                     y+3:  d0 d1 d2 …
//   3x3 filter:       sum[y]   += unit[x] · (w0 w1 w2 0)      one product for each kx
//                     sum[y+1] += unit[x] · (0 w0 w1 w2)      the row below sees the same unit with another filter
//
// So a unit that is made once, of four loads and a shuffle, serves as many rows of the result as its four rows of the
// image hold windows for, and each of the tile's pixels that see the column: with 3x3 windows one after the other, six
// products. Filters of more rows take several units.
//
// Where a unit holds all of a window's rows, 64 channels go at once: interleaving four rows of 64 bytes, byte by byte
// and then two by two, gives the units of four vectors, in eight instructions instead of sixteen. Interleaving works
// within the 128-bit quarters of registers, so that a vector's lanes are not neighbours (WideChannel); filters and what
// results are finished with are stored in that order, and packing results to bytes, which works within quarters too,
// brings them back to their own.
//
//   rows  r0: channels 0 … 15 | 16 … 31 | …       vector 0's lanes: 0 1 2 3 | 16 17 18 19 | 32 33 34 35 | 48 49 50 51
//
// Stateless functions and values. Tested by dot_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_DEPTHWISE_UNITS_H_
#define TESSERA_CODEGEN_EMIT_HOST_DEPTHWISE_UNITS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/dot.h"
#include "codegen/emit/epilogue.h"
#include "codegen/emit/kernel_builder.h"
#include "tesa/tensor.h"

namespace tessera {

struct DepthwiseUnits {
  Dot dot;           // bytes by bytes
  int64_t taps = 1;  // ky
  int64_t stride = 1, dilation = 1;
  int64_t rows = 1;  // of the result, computed together

  static DepthwiseUnits Make(const ConvGeometry& g, const Dot& dot);

  // Rows of the image that one lane's units hold, `dilation` apart.
  int64_t image_rows() const { return (rows - 1) * stride + taps; }
  int64_t units() const { return dot.units(image_rows()); }
  // Words of the packed filter for each channel, and which one part `part` of unit `unit` meets.
  int64_t words(int64_t x_taps) const { return rows * x_taps * units() * dot.parts(); }
  int64_t Word(int64_t row, int64_t kx, int64_t x_taps, int64_t unit, int part) const {
    return ((row * x_taps + kx) * units() + unit) * dot.parts() + part;
  }
};

// [channels, 1, ky, kx] as i32 [words][channels].
Tensor PackFilterUnits(const Tensor& weights, const ConvGeometry& g, const DepthwiseUnits& units);

// Lane l of the result is a unit: the bytes that each of `rows`, at most four vectors of bytes, has in lane l; zeros
// for the rows that are not there.
IrValue EmitRowsUnit(KernelBuilder& b, const IrValues& rows);

// ---- 64 channels at once.
inline constexpr int kWideChannels = 64, kWideVectors = 4;

// The channel, of a block of 64, that lane `lane` of vector `vector` is.
inline int WideChannel(int vector, int lane) { return lane / 4 * 16 + vector * 4 + lane % 4; }

// Finishing sums as u8: round(f32(sum) * scale) within [0, 255], and nothing else.
struct PlainRequantization {
  int scale = 0;  // the epilogue's operand
};
// nullopt where the epilogue says something else, or where `constants`, the operands' values (of no elements where they
// are no constants), do not all keep the product within i32: then the clamps are what saturating packing does.
std::optional<PlainRequantization> ReadPlainRequantization(const TileEpilogue& epilogue,
                                                           const std::vector<Tensor>& constants);

// i32 [words + 2][channels], `channels` a multiple of 64: the filter's words as `packed` has them, what sums start
// with, and the scales' bits, all in the order of WideChannel.
Tensor PackWide(const Tensor& packed, int64_t channels, const TileEpilogue& epilogue,
                const PlainRequantization& requantization, const std::vector<Tensor>& constants);

// Units of 64 channels: of `rows`, at most four vectors of 64 bytes.
IrValues EmitWideUnits(KernelBuilder& b, const IrValues& rows);
// Four vectors of sums and their scales as 64 bytes, in the channels' own order.
IrValue EmitWideBytes(KernelBuilder& b, const IrValues& sums, const IrValues& scales);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_DEPTHWISE_UNITS_H_
