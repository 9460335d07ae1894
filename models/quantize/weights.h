// weights: one constant as integers with scales, its sparsity kept exactly.
//
//   QuantizedWeight q = *QuantizeWeight(w, declared, {.type = DType::kI8, .axis = 0});           // w: [out, in…]
//   Dequantized(q) ~ w                              // each element within half a step of its scale
//
//   i8, i4   symmetric: w ~ scale[c] * integer, integers of [-127, 127] or [-7, 7]; 0 stays 0
//   u4       w ~ scale * (integer - zero_point): for groups that lie to one side of 0. A weight with declared sparsity
//            is made i4 instead, because its pruned elements are stored as 0 and have to mean 0
//
// Scales are per index of `axis`, or, with a group, per `group` consecutive elements along `group_axis` (and index of
// all others), as quantize and dequantize know them. `outliers` is the share of the kept elements that may stay f32:
// those that stand out of their channel and would make everybody's step coarse. A channel gives up its j largest where
// what it wins, (n - j) * step(j)^2 / 12, is worth the most; one price for all channels meets the budget (Lagrange). An
// attribute that declares widths on both sides of 8 bits says itself which elements these are.
// Pure functions. Tested by weights_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_WEIGHTS_H_
#define TESSERA_MODELS_QUANTIZE_WEIGHTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "base/status.h"
#include "models/quantize/spec.h"
#include "tesa/attribute.h"
#include "tesa/tensor.h"

namespace tessera {

struct WeightOptions {
  DType type = DType::kI8;  // i8, i4, u4
  int axis = 0;             // that has a scale per index; not used with a group
  int64_t group = 0;        // 0: not grouped
  int group_axis = 1;
  RangeMethod range = RangeMethod::kMinMax;  // or kMse
  double outliers = 0;                       // share of the kept elements
  std::vector<double> least_scales;          // per index of `axis`; empty: none
};

struct QuantizedWeight {
  Tensor integers;                        // i8, i4 or u4, of the weight's shape
  Tensor scales;                          // f32: [extent of axis], or the weight's shape with group_axis divided
  std::optional<Tensor> zero_points;      // of u4, as scales
  std::optional<Attribute> tesa;          // of `integers`, where something is pruned or another width was declared
  int64_t num_outliers = 0;               // elements of `outliers`
  Tensor outliers;                        // f32, of the weight's shape: 0 but for these; empty scalar without any
  std::optional<Attribute> outlier_tesa;  // which these are, at 32 bits
  double signal_to_noise = 0;             // decibels; infinite where nothing is lost
};

// `weight` is f32; `declared`, where given, has its shape. TES-1109 where an element is infinite or no number.
StatusOr<QuantizedWeight> QuantizeWeight(const Tensor& weight, const std::optional<Attribute>& declared,
                                         const WeightOptions& options);

// What the integers stand for, outliers included: f32.
Tensor Dequantized(const QuantizedWeight& weight, const WeightOptions& options);

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_WEIGHTS_H_
