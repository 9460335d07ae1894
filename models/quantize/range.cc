#include "models/quantize/range.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tessera {
namespace {

// Below this a scale of 0 or a denormal product with a weight's scale would come near.
constexpr double kLeastScale = 0x1p-50;
constexpr int kCandidates = 50;  // for each end of a range

}  // namespace

Affine AffineOf(const Range& range, DType type) {
  const double low = std::min(range.low, 0.0), high = std::max(range.high, 0.0);
  const auto least = static_cast<double>(MinInt(type)), most = static_cast<double>(MaxInt(type));
  Affine affine;
  if (low == high) {
    affine.zero_point = IsUnsigned(type) ? 0 : static_cast<int64_t>(least);
    return affine;
  }
  // Divided first: the span of two floats may be above the largest.
  affine.scale = static_cast<float>(std::clamp(high / (most - least) - low / (most - least), kLeastScale, 1e37));
  affine.zero_point = static_cast<int64_t>(std::clamp(std::nearbyint(least - low / affine.scale), least, most));
  return affine;
}

double RoundTrip(double value, const Affine& affine, DType type) {
  const auto zero_point = static_cast<double>(affine.zero_point);
  const double integer = std::clamp(std::nearbyint(value / affine.scale) + zero_point,
                                    static_cast<double>(MinInt(type)), static_cast<double>(MaxInt(type)));
  return (integer - zero_point) * affine.scale;
}

void RangeObserver::Cover(double magnitude) {
  if (width_ == 0) {
    // The first values fill between an eighth and a quarter of the bins on their side: room to grow without coarsening.
    width_ = std::exp2(std::max(-1000, std::ilogb(magnitude)) + 1) / (kBins / 8);
    return;
  }
  while (magnitude >= width_ * (kBins / 2 - 1)) {
    std::vector<int64_t> merged(kBins, 0);
    for (int bin = 0; bin < kBins; ++bin) merged[kBins / 4 + bin / 2] += counts_[bin];
    counts_ = std::move(merged);
    width_ *= 2;
  }
}

Status RangeObserver::Observe(std::span<const float> values) {
  double largest = 0;
  for (const float v : values) {
    if (!std::isfinite(v)) return Error(ErrorCode::kValueInvalid, "a value is ", v);
    largest = std::max(largest, std::fabs(static_cast<double>(v)));
  }
  if (largest > 0) Cover(largest);
  for (const float v : values) {
    ++count_;
    if (until_next_ == 0) {
      samples_.push_back(v);
      if (samples_.size() == kSamples) {
        for (size_t k = 0; 2 * k < kSamples; ++k) samples_[k] = samples_[2 * k];
        samples_.resize(kSamples / 2);
        stride_ *= 2;
      }
      until_next_ = stride_;
    }
    --until_next_;
    if (v == 0) {
      ++zeros_;
      continue;
    }
    min_ = std::min(min_, static_cast<double>(v));
    max_ = std::max(max_, static_cast<double>(v));
    ++counts_[static_cast<size_t>(std::floor(v / width_) + kBins / 2)];
  }
  return OkStatus();
}

Range RangeObserver::CutTails(double percentile) const {
  // The share beyond `percentile` is cut off at each end, zeros counting as values.
  const double cut = static_cast<double>(count_) * (1 - percentile / 100);
  Range range{min_, max_};
  double seen = 0;
  for (int bin = 0; bin < kBins / 2; ++bin) {
    seen += static_cast<double>(counts_[bin]);
    if (seen > cut) {
      range.low = std::max(min_, Center(bin) - width_ / 2);
      break;
    }
    range.low = 0;
  }
  seen = 0;
  for (int bin = kBins - 1; bin >= kBins / 2; --bin) {
    seen += static_cast<double>(counts_[bin]);
    if (seen > cut) {
      range.high = std::min(max_, Center(bin) + width_ / 2);
      break;
    }
    range.high = 0;
  }
  return range;
}

Range RangeObserver::LeastError() const {
  // What is lost beyond `end` on its side: the two ends do not touch each other.
  const auto cut = [&](double end) {
    double loss = 0;
    for (int bin = 0; bin < kBins; ++bin) {
      if (counts_[bin] == 0) continue;
      const double beyond = end > 0 ? Center(bin) - end : end - Center(bin);
      const bool this_side = (Center(bin) > 0) == (end > 0);
      if (this_side && beyond > 0) loss += static_cast<double>(counts_[bin]) * beyond * beyond;
    }
    return loss;
  };
  const auto candidates = [&](double end) {
    std::vector<std::pair<double, double>> all;  // end, loss
    if (end == 0) return std::vector<std::pair<double, double>>{{0.0, 0.0}};
    for (int k = 0; k < kCandidates; ++k) {
      const double at = end * (1 - static_cast<double>(k) / kCandidates);
      all.emplace_back(at, k == 0 ? 0.0 : cut(at));
    }
    return all;
  };
  const auto inside = static_cast<double>(count_ - zeros_);
  Range best{min_, max_};
  double least = std::numeric_limits<double>::infinity();
  const auto highs = candidates(max_);
  for (const auto& [low, low_loss] : candidates(min_)) {
    for (const auto& [high, high_loss] : highs) {
      const double step = (high - low) / 255;
      const double error = low_loss + high_loss + inside * step * step / 12;
      if (error < least) {
        least = error;
        best = {low, high};
      }
    }
  }
  return best;
}

Range RangeObserver::Choose(RangeMethod method, double percentile) const {
  switch (method) {
    case RangeMethod::kMinMax: break;
    case RangeMethod::kPercentile: return CutTails(percentile);
    case RangeMethod::kMse: return LeastError();
  }
  return {min_, max_};
}

double RangeObserver::SignalToNoise(const Affine& affine, DType type) const {
  double signal = 0, noise = 0;
  for (const float v : samples_) {
    const double lost = v - RoundTrip(v, affine, type);
    signal += static_cast<double>(v) * v;
    noise += lost * lost;
  }
  return noise == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / noise);
}

}  // namespace tessera
