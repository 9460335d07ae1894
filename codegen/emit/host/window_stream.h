// WindowStream: byte weights whose kept elements follow no pattern, as a product with many columns reads them: each
// lane of a register, one row of W, gathers four bytes of its own out of 64 of x.
//
//   y[column][row] += sum over kept (row, k) of W[row, k] * x[column][k]        16 rows at a time, a *group*
//
//   step:  taken = permute(x[column][place .. place + 64), indices)      lane l: bytes of x that row l keeps, any four
//          sum  += taken · values                                        vpdpbusd
//
// A step's window begins at the first element that any of the group's rows has not met yet, and each row takes its next
// four elements that lie in it. That is the fewest steps that 64 bytes allow: windows begin as late as they may, and a
// row takes first what others could not take later. With 10 % kept at random, steps for 16 rows (of `depth` / 4 units
// of 1x4 a third would hold an element: each of those is as much arithmetic as a step):
//
//   depth              32    64   128   256   512   1024
//   steps             2.2   3.1   5.0   9.4    18     34
//   units kept        2.8   5.5    11    22    44     88
//
// Tried and left out: rows sorted by what they keep (2 to 5 % fewer steps, against a permutation of the result);
// windows at multiples of 16 bytes (3 % more steps; of 64, 40 %); windows of 128 bytes (vpermi2b: 10 % fewer steps,
// each 1.4 times as long).
//
// The stream is read once for each tile of columns, front to back. Values only; functions are stateless. Tested by
// window_stream_test.cc.
#ifndef TESSERA_CODEGEN_EMIT_HOST_WINDOW_STREAM_H_
#define TESSERA_CODEGEN_EMIT_HOST_WINDOW_STREAM_H_

#include <cstdint>

#include "codegen/emit/scattered_stream.h"
#include "tesa/tensor.h"

namespace tessera {

inline constexpr int kWindow = 64;                        // bytes of x that a step sees
inline constexpr int kWindowRows = 16;                    // of a group
inline constexpr int kWindowStepBytes = 2 * kWindow;      // indices, then values
inline constexpr int64_t kMaxWindowDepth = 0xffff + 64l;  // places are u16

struct WindowStream {
  Tensor values;  // u8 [steps][2][64]
  Tensor places;  // u16 [steps]: a window's first byte of x; windows lie within x where that has as many bytes
  Tensor begin;   // i32 [groups + 1]: a group's first step
};

// Steps of all groups, by a sample of at most `sample` of them.
double EstimateWindowSteps(const ScatteredPattern& kept, int64_t sample = 64);

// i8 `weights` whose element (row, k) lies at row * row_step + k * depth_step; `kept` are single elements.
WindowStream PackWindowStream(const ScatteredPattern& kept, const Tensor& weights, int64_t row_step,
                              int64_t depth_step);

}  // namespace tessera

#endif  // TESSERA_CODEGEN_EMIT_HOST_WINDOW_STREAM_H_
