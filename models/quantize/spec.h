// QuantizeSpec: what a user asks of quantisation, as text.
//
//   i8                              u8 activations, i8 weights with a scale per output channel, ranges by min and max
//   i8+range=mse+float=fc*,head     another way to choose ranges; these layers stay in float
//   i8+outliers=1%                  8 bits, and the 1 % of the weights that cost most precision in f32 beside them
//   w8, w8g64                       weights alone: 8 bits per output channel, or per 64 of what is summed over
//   w4g32, u4g32                    4 bits, a scale per 32; u4: with a zero point, for weights that lie to one side
//   bf16, f16                       every float is stored in 16 bits
//   f32                             the reverse of i8 and w8: quantised values become floats again
//
// Options follow the scheme, each behind a `+`:
//   range=minmax|percentile|percentile:99.9|mse      what of an activation's values the integers span
//   weights=minmax|mse                               the same for weights
//   act=u8|i8                                        the integers of activations
//   outliers=P%                                      of i8 only, 0 to 5
//   float=NAME,NAME…                                 nodes or weights, where `*` stands for any text
//
// Values only. Tested by spec_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_SPEC_H_
#define TESSERA_MODELS_QUANTIZE_SPEC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tesa/types.h"

namespace tessera {

enum class QuantizeScheme : uint8_t {
  kNone,         // everything stays as it is
  kIntegers,     // activations and weights
  kWeightsOnly,  // weights alone
  kCast,         // another float type
  kFloats,       // what is quantised becomes f32
};

enum class RangeMethod : uint8_t {
  kMinMax,      // everything that was seen
  kPercentile,  // without the same share of the smallest and the largest
  kMse,         // of least mean squared error
};

struct QuantizeSpec {
  QuantizeScheme scheme = QuantizeScheme::kNone;
  DType weights = DType::kI8;      // i8, i4 or u4; of kCast the float type
  DType activations = DType::kU8;  // of kIntegers: u8 or i8
  int64_t group = 0;               // of kWeightsOnly: elements along the summed axis that share a scale; 0: all
  RangeMethod range = RangeMethod::kMinMax;
  double percentile = 99.99;  // kept between both ends, of kPercentile
  RangeMethod weight_range = RangeMethod::kMinMax;
  double outliers = 0;  // share of the kept weights
  std::vector<std::string> floats;
  std::string text = "none";

  bool needs_calibration() const { return scheme == QuantizeScheme::kIntegers; }
  // Is this node, or the weight that it reads, among `floats`?
  bool KeepsFloat(std::string_view node, std::string_view weight) const;
};

// TES-2001 says what was expected.
StatusOr<QuantizeSpec> ParseQuantizeSpec(std::string_view text);

// Does `text` match `pattern`, in which each `*` stands for any text, also none?
bool MatchesGlob(std::string_view pattern, std::string_view text);

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_SPEC_H_
