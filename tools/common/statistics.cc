#include "tools/common/statistics.h"

#include <algorithm>
#include <cmath>

namespace tessera {

double Quantile(std::span<const double> sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Statistics Summarize(std::vector<double> samples) {
  Statistics s;
  s.samples = samples.size();
  if (samples.empty()) return s;
  std::sort(samples.begin(), samples.end());
  double sum = 0;
  for (double sample : samples) sum += sample;
  s.mean = sum / static_cast<double>(samples.size());
  double squares = 0;
  for (double sample : samples) squares += (sample - s.mean) * (sample - s.mean);
  if (samples.size() > 1 && s.mean != 0) s.cv = std::sqrt(squares / static_cast<double>(samples.size() - 1)) / s.mean;
  s.min = samples.front();
  s.max = samples.back();
  s.median = Quantile(samples, 0.5);
  s.p90 = Quantile(samples, 0.90);
  s.p95 = Quantile(samples, 0.95);
  s.p99 = Quantile(samples, 0.99);
  return s;
}

}  // namespace tessera
