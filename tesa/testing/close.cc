#include "tesa/testing/close.h"

#include <cmath>
#include <limits>
#include <string>

namespace tessera {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// |y - r|, where equal infinities and two NaNs do not differ.
double Difference(double y, double r) {
  if (std::isnan(y) || std::isnan(r)) return std::isnan(y) && std::isnan(r) ? 0 : kInfinity;
  if (y == r) return 0;
  return std::fabs(y - r);
}

struct Comparison {
  double worst = 0;      // max|y - r|
  double reference = 0;  // max|r| over finite r
  int64_t worst_index = 0;
  double relative() const {
    if (worst == 0) return 0;
    return reference > 0 ? worst / reference : kInfinity;
  }
};

Comparison Compare(const Tensor& y, const Tensor& r) {
  Comparison result;
  for (int64_t i = 0; i < y.num_elements(); ++i) {
    const double difference = Difference(y.Get(i), r.Get(i));
    if (difference > result.worst) {
      result.worst = difference;
      result.worst_index = i;
    }
    if (std::isfinite(r.Get(i))) result.reference = std::max(result.reference, std::fabs(r.Get(i)));
  }
  return result;
}

std::string IndexText(const Shape& shape, int64_t i) {
  std::vector<int64_t> index(shape.rank());
  for (int d = shape.rank() - 1; d >= 0; --d) {
    index[d] = i % shape[d];
    i /= shape[d];
  }
  return Shape(std::move(index)).ToString();
}

}  // namespace

double RelativeError(const Tensor& y, const Tensor& r) {
  TES_CHECK(y.shape() == r.shape(), y.type(), " and ", r.type());
  return Compare(y, r).relative();
}

testing::AssertionResult Close(const Tensor& y, const Tensor& r, double allowed) {
  const bool floats = IsFloat(y.dtype()) && IsFloat(r.dtype());
  if (y.shape() != r.shape() || (!floats && y.dtype() != r.dtype())) {
    return testing::AssertionFailure() << "found a tensor " << y.type() << ", expected " << r.type();
  }
  if (!floats) {
    int64_t count = 0, first = -1;
    for (int64_t i = 0; i < y.num_elements(); ++i) {
      if (y.GetInt(i) == r.GetInt(i)) continue;
      if (first < 0) first = i;
      ++count;
    }
    if (count == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "y" << IndexText(y.shape(), first) << " = " << y.GetInt(first)
                                       << ", expected " << r.GetInt(first) << "; " << count << " of "
                                       << y.num_elements() << " differ";
  }
  const Comparison comparison = Compare(y, r);
  if (comparison.relative() <= allowed) return testing::AssertionSuccess();
  int64_t count = 0;
  for (int64_t i = 0; i < y.num_elements(); ++i) {
    count += Difference(y.Get(i), r.Get(i)) > allowed * comparison.reference;
  }
  const int64_t at = comparison.worst_index;
  return testing::AssertionFailure() << "y" << IndexText(y.shape(), at) << " = " << y.Get(at) << ", expected "
                                     << r.Get(at) << ": relative error " << comparison.relative()
                                     << " (max|y-r| = " << comparison.worst << ", max|r| = " << comparison.reference
                                     << "), allowed " << allowed << "; " << count << " of " << y.num_elements()
                                     << " are off";
}

}  // namespace tessera
