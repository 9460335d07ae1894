#include "graph/ops/contraction.h"

namespace tessera {
namespace {

bool FitsI32(DType dtype) { return IsInteger(dtype) && ComputeType(dtype) == DType::kI32; }

}  // namespace

StatusOr<DType> ContractionType(const OpContext& c) {
  const DType a = c.dtype(0), b = c.dtype(1);
  if (IsFloat(a) && a == b) return a;
  if (FitsI32(a) && FitsI32(b)) return DType::kI32;
  return Error(ErrorCode::kTypeMismatch, "expected two operands of one float type, or integers that i32 holds, found ",
               c.input(0), " and ", c.input(1), "; insert a cast");
}

Body ProductBody(DType a, DType b) {
  BodyBuilder builder;
  const Scalar x = builder.Input(a), y = builder.Input(b);
  return builder.Finish(x * y);
}

}  // namespace tessera
