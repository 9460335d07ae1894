#include "models/quantize/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/quantize/range.h"

namespace tessera {
namespace {

// Products with an activation's scale stay far from denormal.
constexpr double kLeastScale = 0x1p-60;
constexpr int kCandidates = 32;  // scales that kMse tries

// Which scale each element has.
class ScaleMap {
 public:
  ScaleMap(const Shape& shape, const WeightOptions& options) : group_(options.group) {
    const int axis = group_ > 0 ? options.group_axis : options.axis;
    extent_ = shape[axis];
    for (int d = axis + 1; d < shape.rank(); ++d) inner_ *= shape[d];
    blocks_ = group_ > 0 ? (extent_ + group_ - 1) / group_ : extent_;
    scale_shape_ = group_ > 0 ? shape : Shape{extent_};
    if (group_ > 0) scale_shape_[axis] = blocks_;
  }
  const Shape& shape() const { return scale_shape_; }
  int64_t operator()(int64_t element) const {
    const int64_t index = element / inner_ % extent_;
    if (group_ == 0) return index;
    return (element / inner_ / extent_ * blocks_ + index / group_) * inner_ + element % inner_;
  }

 private:
  int64_t group_, extent_ = 1, inner_ = 1, blocks_ = 1;
  Shape scale_shape_;
};

double Positive(double scale) { return static_cast<float>(std::max(scale, kLeastScale)); }

// The magnitude that symmetric integers of the type reach.
double Reach(DType type) { return static_cast<double>(MaxInt(type)); }

double RoundSymmetric(double value, double scale, double reach) {
  return std::clamp(std::nearbyint(value / scale), -reach, reach);
}

// A channel's elements by magnitude, largest first, as far as outliers may go.
struct Channel {
  std::vector<std::pair<float, int64_t>> largest;  // magnitude, element
  int64_t kept = 0;

  // Squared error that is to be expected when the j largest are left out.
  double Error(size_t j, double reach) const {
    const double step = j < largest.size() ? largest[j].first / reach : 0;
    return static_cast<double>(kept - static_cast<int64_t>(j)) * step * step / 12;
  }
  // How many to give up at this price for each.
  size_t Best(double price, double reach) const {
    size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < largest.size(); ++j) {
      const double cost = Error(j, reach) + price * static_cast<double>(j);
      if (cost < least) {
        least = cost;
        best = j;
      }
    }
    return best;
  }
};

// true for each element that stays f32.
std::vector<bool> ChooseOutliers(std::span<const float> w, const ScaleMap& map, double share, double reach) {
  std::vector<bool> chosen(w.size(), false);
  std::vector<Channel> channels(static_cast<size_t>(map.shape().num_elements()));
  int64_t kept = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    if (w[i] == 0) continue;
    ++kept;
    Channel& channel = channels[static_cast<size_t>(map(static_cast<int64_t>(i)))];
    ++channel.kept;
    channel.largest.emplace_back(std::fabs(w[i]), static_cast<int64_t>(i));
  }
  const auto budget = static_cast<int64_t>(share * static_cast<double>(kept));
  if (budget == 0) return chosen;
  for (Channel& channel : channels) {
    // No channel gives up more than a quarter.
    const size_t most = std::min(channel.largest.size(), channel.largest.size() / 4 + 2);
    const auto larger = [](const auto& a, const auto& b) { return a > b; };
    std::partial_sort(channel.largest.begin(), channel.largest.begin() + static_cast<int64_t>(most),
                      channel.largest.end(), larger);
    channel.largest.resize(most);
  }
  const auto taken = [&](double price) {
    int64_t sum = 0;
    for (const Channel& channel : channels) sum += static_cast<int64_t>(channel.Best(price, reach));
    return sum;
  };
  double low = -200, high = 100;  // log2 of the price: at `high` within the budget
  for (int step = 0; step < 50; ++step) {
    const double middle = (low + high) / 2;
    (taken(std::exp2(middle)) <= budget ? high : low) = middle;
  }
  for (const Channel& channel : channels) {
    const size_t best = channel.Best(std::exp2(high), reach);
    for (size_t j = 0; j < best; ++j) chosen[static_cast<size_t>(channel.largest[j].second)] = true;
  }
  return chosen;
}

// Elements whose declared width is above 8 where others have at most 8: the user has said which stay f32.
std::optional<std::vector<bool>> DeclaredOutliers(const std::optional<Attribute>& declared, DType type) {
  if (!declared || type != DType::kI8) return std::nullopt;
  const std::vector<int> widths = declared->Widths();
  if (widths.empty() || widths.front() > 8 || widths.back() <= 8) return std::nullopt;
  std::vector<bool> chosen;
  for (const uint8_t bits : declared->Bits()) chosen.push_back(bits > 8);
  return chosen;
}

// The declared attribute at widths that the integers have, without what stays f32.
std::optional<Attribute> NarrowedTesa(const std::optional<Attribute>& declared, const Shape& shape, int bits,
                                      const std::vector<bool>& outliers, int64_t num_outliers) {
  if (!declared && num_outliers == 0) return std::nullopt;
  if (num_outliers == 0 && (declared->Widths().empty() || declared->Widths().front() >= bits)) {
    return Attribute::FromKept(shape, declared->KeptBitmap(), bits);
  }
  std::vector<uint8_t> widths =
      declared ? declared->Bits()
               : std::vector<uint8_t>(static_cast<size_t>(shape.num_elements()), static_cast<uint8_t>(bits));
  for (size_t i = 0; i < widths.size(); ++i) {
    widths[i] = outliers[i] ? uint8_t{0} : std::min(widths[i], static_cast<uint8_t>(bits));
  }
  return Attribute::FromBits(shape, widths);
}

// Scales of symmetric integers.
std::vector<double> SymmetricScales(std::span<const float> w, const ScaleMap& map, const WeightOptions& options) {
  const double reach = Reach(options.type);
  const auto count = static_cast<size_t>(map.shape().num_elements());
  std::vector<double> scales(count, 0);
  for (size_t i = 0; i < w.size(); ++i) {
    double& scale = scales[static_cast<size_t>(map(static_cast<int64_t>(i)))];
    scale = std::max(scale, std::fabs(static_cast<double>(w[i])) / reach);
  }
  if (options.range == RangeMethod::kMse) {
    const std::vector<double> full = scales;
    std::vector<double> least(count, std::numeric_limits<double>::infinity());
    for (int k = 0; k < kCandidates; ++k) {
      const double part = 1 - 0.5 * k / kCandidates;
      std::vector<double> error(count, 0);
      for (size_t i = 0; i < w.size(); ++i) {
        if (w[i] == 0) continue;
        const auto at = static_cast<size_t>(map(static_cast<int64_t>(i)));
        const double scale = Positive(full[at] * part);
        const double lost = w[i] - scale * RoundSymmetric(w[i], scale, reach);
        error[at] += lost * lost;
      }
      for (size_t at = 0; at < count; ++at) {
        if (error[at] >= least[at]) continue;
        least[at] = error[at];
        scales[at] = full[at] * part;
      }
    }
  }
  for (size_t at = 0; at < count; ++at) {
    const double floor = at < options.least_scales.size() ? options.least_scales[at] : 0;
    scales[at] = scales[at] == 0 && floor == 0 ? 1 : Positive(std::max(scales[at], floor));
  }
  return scales;
}

// Scales and zero points of u4.
void AffineScales(std::span<const float> w, const ScaleMap& map, DType type, Tensor& scales, Tensor& zero_points) {
  std::vector<Range> ranges(static_cast<size_t>(scales.num_elements()));
  for (size_t i = 0; i < w.size(); ++i) {
    Range& range = ranges[static_cast<size_t>(map(static_cast<int64_t>(i)))];
    range.low = std::min(range.low, static_cast<double>(w[i]));
    range.high = std::max(range.high, static_cast<double>(w[i]));
  }
  for (size_t at = 0; at < ranges.size(); ++at) {
    const Affine affine = AffineOf(ranges[at], type);
    scales.Set(static_cast<int64_t>(at), affine.scale);
    zero_points.SetInt(static_cast<int64_t>(at), affine.zero_point);
  }
}

}  // namespace

StatusOr<QuantizedWeight> QuantizeWeight(const Tensor& weight, const std::optional<Attribute>& declared,
                                         const WeightOptions& options) {
  const Shape& shape = weight.shape();
  std::vector<float> w(weight.data<float>().begin(), weight.data<float>().end());
  for (size_t i = 0; i < w.size(); ++i) {
    if (!std::isfinite(w[i]))
      return Error(ErrorCode::kValueInvalid, "expected finite numbers, found ", w[i], " as element ", i);
  }
  const bool pruned = declared && !declared->keeps_all();
  const DType type = options.type == DType::kU4 && pruned ? DType::kI4 : options.type;
  WeightOptions now = options;
  now.type = type;
  const ScaleMap map(shape, options);

  QuantizedWeight q;
  std::vector<bool> outlier(w.size(), false);
  if (std::optional<std::vector<bool>> said = DeclaredOutliers(declared, type)) {
    outlier = *std::move(said);
  } else if (options.outliers > 0) {
    outlier = ChooseOutliers(w, map, options.outliers, Reach(type));
  }
  q.num_outliers = std::count(outlier.begin(), outlier.end(), true);
  if (q.num_outliers > 0) {
    q.outliers = Tensor(DType::kF32, shape);
    std::vector<uint8_t> kept(w.size(), 0);
    for (size_t i = 0; i < w.size(); ++i) {
      if (!outlier[i]) continue;
      q.outliers.mutable_data<float>()[i] = w[i];
      kept[i] = 1;
      w[i] = 0;
    }
    q.outlier_tesa = Attribute::FromKept(shape, kept, 32);
  }
  q.tesa = NarrowedTesa(declared, shape, TypeInfo(type).bits, outlier, q.num_outliers);

  q.integers = Tensor(type, shape);
  q.scales = Tensor(DType::kF32, map.shape());
  if (type == DType::kU4) {
    q.zero_points = Tensor(type, map.shape());
    AffineScales(w, map, type, q.scales, *q.zero_points);
    for (size_t i = 0; i < w.size(); ++i) {
      const int64_t at = map(static_cast<int64_t>(i));
      const auto zero_point = static_cast<double>(q.zero_points->GetInt(at));
      q.integers.SetInt(static_cast<int64_t>(i),
                        static_cast<int64_t>(std::clamp(std::nearbyint(w[i] / q.scales.Get(at)) + zero_point, 0.0,
                                                        static_cast<double>(MaxInt(type)))));
    }
  } else {
    const std::vector<double> scales = SymmetricScales(w, map, now);
    for (size_t at = 0; at < scales.size(); ++at) q.scales.Set(static_cast<int64_t>(at), scales[at]);
    const double reach = Reach(type);
    for (size_t i = 0; i < w.size(); ++i) {
      if (w[i] == 0) continue;
      const double scale = scales[static_cast<size_t>(map(static_cast<int64_t>(i)))];
      q.integers.SetInt(static_cast<int64_t>(i), static_cast<int64_t>(RoundSymmetric(w[i], scale, reach)));
    }
  }

  const Tensor restored = Dequantized(q, now);
  double signal = 0, noise = 0;
  for (int64_t i = 0; i < weight.num_elements(); ++i) {
    const double value = weight.data<float>()[static_cast<size_t>(i)];
    const double lost = value - restored.data<float>()[static_cast<size_t>(i)];
    signal += value * value;
    noise += lost * lost;
  }
  q.signal_to_noise = noise == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / noise);
  return q;
}

Tensor Dequantized(const QuantizedWeight& weight, const WeightOptions& options) {
  const ScaleMap map(weight.integers.shape(), options);
  Tensor result(DType::kF32, weight.integers.shape());
  const std::span<float> out = result.mutable_data<float>();
  for (size_t i = 0; i < out.size(); ++i) {
    const auto element = static_cast<int64_t>(i);
    const int64_t at = map(element);
    const int64_t zero_point = weight.zero_points ? weight.zero_points->GetInt(at) : 0;
    out[i] =
        static_cast<float>(static_cast<double>(weight.integers.GetInt(element) - zero_point) * weight.scales.Get(at));
    if (weight.num_outliers > 0) out[i] += weight.outliers.data<float>()[i];
  }
  return result;
}

}  // namespace tessera
