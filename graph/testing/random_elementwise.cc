// Random cases of the families elementwise, activation and binary.
#include <limits>

#include "graph/testing/random_node.h"

namespace tessera {
namespace {

void Number(CaseBuilder& c, double low = -3, double high = 3) {
  c.Input(c.NumberType(), c.RandomShape(0, 4), low, high);
}
void Float(CaseBuilder& c, double low = -3, double high = 3) { c.Input(c.FloatType(), c.RandomShape(0, 4), low, high); }

// A float tensor of which some elements are NaN or infinite.
Tensor WithSpecials(CaseBuilder& c, Tensor tensor) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (int64_t k = 0; k < tensor.num_elements(); ++k) {
    if (c.Chance(0.4)) tensor.Set(k, c.Pick({std::numeric_limits<double>::quiet_NaN(), kInfinity, -kInfinity}));
  }
  return tensor;
}

}  // namespace

void RandomNeg(CaseBuilder& c) { Number(c, -200, 200); }
void RandomAbs(CaseBuilder& c) { Number(c, -200, 200); }
void RandomSign(CaseBuilder& c) { Number(c); }
void RandomFloor(CaseBuilder& c) { Float(c); }
void RandomCeil(CaseBuilder& c) { Float(c); }
void RandomRound(CaseBuilder& c) { Float(c); }
void RandomExp(CaseBuilder& c) { Float(c); }
void RandomLog(CaseBuilder& c) { Float(c, 0.1, 5); }
void RandomSqrt(CaseBuilder& c) { Float(c, 0, 5); }
void RandomReciprocal(CaseBuilder& c) { Float(c, 0.5, 4); }
void RandomSin(CaseBuilder& c) { Float(c); }
void RandomCos(CaseBuilder& c) { Float(c); }
void RandomErf(CaseBuilder& c) { Float(c); }
void RandomTanh(CaseBuilder& c) { Float(c); }
void RandomNot(CaseBuilder& c) {
  c.Input(c.Chance(0.5) ? DType::kBool : c.IntegerType(), c.RandomShape(0, 4), -200, 200);
}
void RandomIsNan(CaseBuilder& c) { c.Input(WithSpecials(c, c.RandomTensor(c.FloatType(), c.RandomShape(0, 4)))); }
void RandomIsInf(CaseBuilder& c) {
  c.Input(WithSpecials(c, c.RandomTensor(c.FloatType(), c.RandomShape(0, 4))));
  if (c.Chance(0.6)) c.attrs.Set("positive", c.Int(0, 1));
  if (c.Chance(0.6)) c.attrs.Set("negative", c.Int(0, 1));
}
void RandomCast(CaseBuilder& c) {
  const DType from = c.Chance(0.2) ? DType::kBool : c.NumberType();
  c.Input(from, c.RandomShape(0, 4), -400, 400);
  c.attrs.Set("to", c.Chance(0.2) ? DType::kBool : c.NumberType());
}

}  // namespace tessera
