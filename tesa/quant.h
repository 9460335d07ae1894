// QuantParams: how the integers of a tensor stand for real numbers: real = (integer - zero_point) * scale.
//
// Per tensor (axis -1, one scale), per axis (one scale for each index of `axis`), or blocked (block_size elements along
// `axis` share a scale; scales then have the tensor's shape with that axis divided, rounded up). As in ONNX
// QuantizeLinear-21 and TFLite's quantisation parameters. Values only. Tested by quant_test.cc.
#ifndef TESSERA_TESA_QUANT_H_
#define TESSERA_TESA_QUANT_H_

#include <cstdint>
#include <vector>

#include "tesa/types.h"

namespace tessera {

struct QuantParams {
  std::vector<double> scales;
  std::vector<int64_t> zero_points;  // as many as scales, or empty for all zero
  int axis = -1;
  int64_t block_size = 0;
  friend bool operator==(const QuantParams&, const QuantParams&) = default;
};

// Do the counts fit a tensor of `shape`, are scales positive and finite, zero points within `dtype`, an integer type?
Status CheckQuantParams(const QuantParams& params, DType dtype, const Shape& shape);

}  // namespace tessera

#endif  // TESSERA_TESA_QUANT_H_
