#include "tesa/quant.h"

#include <cmath>

namespace tessera {

Status CheckQuantParams(const QuantParams& params, DType dtype, const Shape& shape) {
  const auto fail = [&](const auto&... pieces) {
    return Error(ErrorCode::kValueInvalid, "quantisation of ", TensorType{dtype, shape}, ": ", pieces...);
  };
  if (!IsInteger(dtype)) return fail("expected an integer type");
  if (params.axis < -1 || params.axis >= shape.rank()) {
    return fail("expected an axis of -1…", shape.rank() - 1, ", found ", params.axis);
  }
  if (params.block_size < 0) return fail("expected a block size >= 0, found ", params.block_size);
  if (params.block_size > 0 && params.axis < 0) return fail("expected an axis beside block size ", params.block_size);
  // How many scales: one, one for each index of the axis, or one for each block along it.
  int64_t expected = 1;
  if (params.axis >= 0) {
    const int64_t extent = shape[params.axis];
    expected = extent;
    if (params.block_size > 0) {
      const int64_t blocks = extent / params.block_size + (extent % params.block_size != 0);
      expected = extent == 0 ? 0 : shape.num_elements() / extent * blocks;
    }
  }
  if (static_cast<int64_t>(params.scales.size()) != expected) {
    return fail("expected ", expected, " scales, found ", params.scales.size());
  }
  if (!params.zero_points.empty() && params.zero_points.size() != params.scales.size()) {
    return fail("expected ", expected, " zero points or none, found ", params.zero_points.size());
  }
  for (size_t k = 0; k < params.scales.size(); ++k) {
    if (!std::isfinite(params.scales[k]) || params.scales[k] <= 0) {
      return fail("expected finite scales above 0, found ", params.scales[k], " at ", k);
    }
  }
  for (size_t k = 0; k < params.zero_points.size(); ++k) {
    const int64_t zero_point = params.zero_points[k];
    if (zero_point < MinInt(dtype) || zero_point > MaxInt(dtype)) {
      return fail("expected zero points of ", MinInt(dtype), "…", MaxInt(dtype), ", found ", zero_point, " at ", k);
    }
  }
  return OkStatus();
}

}  // namespace tessera
