// RangeObserver: what values a tensor takes over calibration data, and which of them integers should span.
//
//   RangeObserver seen;
//   RETURN_IF_ERROR(seen.Observe(activations));                       // as often as there is data
//   const Range range = seen.Choose(RangeMethod::kMse, 99.99);        // always holds 0
//   const Affine q = AffineOf(range, DType::kU8);                     // real = (integer - q.zero_point) * q.scale
//
// Ranges hold 0 because padding, ReLU and pruned elements are exactly 0 and must stay so. `mse` searches the range of
// least expected squared error: what is cut off at both ends, exactly by the histogram, plus step^2 / 12 for each value
// within, zeros excepted (Banner et al., NeurIPS 2019, use a distribution where we use what was counted). Takes 40 KiB
// whatever it sees. Values only. Tested by range_test.cc.
#ifndef TESSERA_MODELS_QUANTIZE_RANGE_H_
#define TESSERA_MODELS_QUANTIZE_RANGE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "models/quantize/spec.h"
#include "tesa/types.h"

namespace tessera {

struct Range {
  double low = 0, high = 0;  // low <= 0 <= high
};

// How the integers of a type stand for reals.
struct Affine {
  double scale = 1;  // an f32 value, normal and positive
  int64_t zero_point = 0;
};

// The affine map whose integers span `range`. `type` has 4 or 8 bits.
Affine AffineOf(const Range& range, DType type);
// The real that stands for `value` after rounding and saturation to `type`.
double RoundTrip(double value, const Affine& affine, DType type);

class RangeObserver {
 public:
  RangeObserver() : counts_(kBins, 0) {}

  // TES-1109 where a value is infinite or no number; what came before it in `values` counts.
  Status Observe(std::span<const float> values);

  int64_t count() const { return count_; }
  double min() const { return min_; }  // of what was seen; 0 before that
  double max() const { return max_; }
  Range Choose(RangeMethod method, double percentile) const;
  // Mean squared rounding error over mean square, in decibels, on a sample of at most 65,536 of the values: how well
  // `affine` keeps them. Infinite where nothing is lost.
  double SignalToNoise(const Affine& affine, DType type) const;

 private:
  static constexpr int kBins = 4096;
  static constexpr size_t kSamples = 1 << 16;

  // Doubles the width of bins until `magnitude` has one.
  void Cover(double magnitude);
  double Center(int bin) const { return (bin - kBins / 2 + 0.5) * width_; }
  Range CutTails(double percentile) const;
  Range LeastError() const;

  std::vector<int64_t> counts_;  // of values other than 0, in bins of width_ from -kBins / 2 * width_ on
  double width_ = 0;             // a power of two; 0: no value but 0 so far
  int64_t count_ = 0, zeros_ = 0;
  double min_ = 0, max_ = 0;
  // Every stride_-th value.
  std::vector<float> samples_;
  int64_t stride_ = 1, until_next_ = 0;
};

}  // namespace tessera

#endif  // TESSERA_MODELS_QUANTIZE_RANGE_H_
