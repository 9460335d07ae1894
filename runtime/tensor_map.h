// TensorMap: how a kernel sees one of its step's arguments where it copies boxes of it (nv.tma.load of device_ops.def):
// NVIDIA's tensor map, as data.
//
//   f16 [rows 512, columns 1024], row by row, in boxes of 128 rows by 64 columns, whose 128 bytes a row lie swizzled:
//   {.arg = 0, .type = DType::kF16, .dims = {1024, 512}, .strides = {2048}, .box = {64, 128}, .swizzle = 128}
//
// A device with such copies makes its own description of it when a program is loaded, and the kernel gets that after
// its other parameters. Plain data. Tested by program_test.cc.
#ifndef TESSERA_RUNTIME_TENSOR_MAP_H_
#define TESSERA_RUNTIME_TENSOR_MAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tesa/types.h"

namespace tessera {

struct TensorMap {
  int arg = 0;                   // which of the step's arguments: the tensor starts where it does
  DType type = DType::kF32;      // of whole bytes
  std::vector<int64_t> dims;     // elements, the fastest dimension first: 1 to 5 of them
  std::vector<int64_t> strides;  // bytes from one element to the next along the second, third … dimension
  std::vector<int64_t> box;      // elements of a copy along each dimension
  // Bytes of the pattern in which a box lies in shared memory: 0 (densely), 32, 64 or 128. With 128, the 16-byte pieces
  // of each 128 bytes at address a are exchanged: piece p lies where p xor (a / 128 % 8) would.
  int64_t swizzle = 0;

  // Of a copy, in shared memory.
  int64_t box_bytes() const;
  friend bool operator==(const TensorMap&, const TensorMap&) = default;
};

// What is wrong with a map over an argument of `bytes` bytes that starts at a multiple of `align`, or empty: the limits
// of CUDA's cuTensorMapEncodeTiled, and that the tensor ends within its argument. For maps from anywhere.
std::string TensorMapError(const TensorMap& map, int64_t bytes, int64_t align);

// "0 f16 1024x512 strides 2048 box 64x128 swizzle 128".
std::string ToString(const TensorMap& map);

}  // namespace tessera

#endif  // TESSERA_RUNTIME_TENSOR_MAP_H_
