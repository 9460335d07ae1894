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
// Stateless functions and values. Tested by dot_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_DEPTHWISE_UNITS_H_
#define TESSERA_CODEGEN_EMIT_DEPTHWISE_UNITS_H_

#include <cstdint>

#include "codegen/emit/conv_geometry.h"
#include "codegen/emit/dot.h"
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

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_DEPTHWISE_UNITS_H_
