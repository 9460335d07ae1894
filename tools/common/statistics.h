// Statistics: what a list of measured times comes to.
//
//   Statistics s = Summarize({12.1, 12.0, 12.4});      s.median == 12.1;  s.cv == 0.0139…
//
// Quantiles interpolate between neighbours (Hyndman & Fan 1996, type 7, as NumPy does). Pure functions. Tested by
// statistics_test.cc.
#ifndef TESSERA_TOOLS_COMMON_STATISTICS_H_
#define TESSERA_TOOLS_COMMON_STATISTICS_H_

#include <span>
#include <vector>

namespace tessera {

struct Statistics {
  double min = 0, median = 0, mean = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
  double cv = 0;  // sample standard deviation / mean: the spread
  size_t samples = 0;
};

// All zero for no samples.
Statistics Summarize(std::vector<double> samples);
// `sorted` is ascending and not empty; share in [0, 1].
double Quantile(std::span<const double> sorted, double share);

}  // namespace tessera

#endif  // TESSERA_TOOLS_COMMON_STATISTICS_H_
