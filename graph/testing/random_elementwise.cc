// Random cases of the families elementwise, activation and binary.
#include <limits>
#include <string>

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
  c.attrs.Set("to", c.Chance(0.3) ? c.Pick({DType::kBool, DType::kF8E4M3, DType::kF8E5M2}) : c.NumberType());
}

void RandomRelu(CaseBuilder& c) { Number(c); }
void RandomClip(CaseBuilder& c) {
  const DType dtype = c.NumberType();
  c.Input(dtype, c.RandomShape(0, 4), -20, 20);
  // Integral bounds suit every type; some lie outside the range of a narrow one, some the wrong way round.
  if (c.Chance(0.8)) c.attrs.Set("min", static_cast<double>(c.Int(-12, 3)));
  if (c.Chance(0.8)) c.attrs.Set("max", c.Chance(0.1) ? 1e30 : static_cast<double>(c.Int(-1, 12)));
}
void RandomLeakyRelu(CaseBuilder& c) {
  Float(c);
  if (c.Chance(0.7)) c.attrs.Set("alpha", c.Real(-0.5, 1.5));
}
void RandomElu(CaseBuilder& c) {
  Float(c);
  if (c.Chance(0.7)) c.attrs.Set("alpha", c.Real(0.1, 2));
}
void RandomSelu(CaseBuilder& c) {
  Float(c);
  if (c.Chance(0.5)) c.attrs.Set("alpha", c.Real(0.1, 2));
  if (c.Chance(0.5)) c.attrs.Set("gamma", c.Real(0.5, 2));
}
void RandomSigmoid(CaseBuilder& c) { Float(c, -30, 30); }
void RandomHardSigmoid(CaseBuilder& c) {
  Float(c, -6, 6);
  if (c.Chance(0.5)) c.attrs.Set("alpha", c.Real(0.05, 0.5));
  if (c.Chance(0.5)) c.attrs.Set("beta", c.Real(0, 1));
}
void RandomHardSwish(CaseBuilder& c) { Float(c, -6, 6); }
void RandomSilu(CaseBuilder& c) { Float(c, -20, 20); }
void RandomGelu(CaseBuilder& c) {
  Float(c, -6, 6);
  if (c.Chance(0.7)) c.attrs.Set("approximate", c.Pick<std::string>({"none", "tanh"}));
}
void RandomSoftplus(CaseBuilder& c) { Float(c, -40, 40); }
void RandomSoftsign(CaseBuilder& c) { Float(c); }
void RandomPrelu(CaseBuilder& c) {
  const DType dtype = c.NumberType();
  const Shape shape = c.RandomShape(0, 4);
  c.Input(dtype, shape);
  c.Input(dtype, c.RandomBroadcast(shape), -1, 1);
}

namespace {

// Two operands of one type that broadcast, either of them the smaller.
void Pair(CaseBuilder& c, DType dtype, double low, double high, double second_low, double second_high) {
  const Shape shape = c.RandomShape(0, 4);
  const bool first_whole = c.Chance(0.6);
  c.Input(dtype, first_whole ? shape : c.RandomBroadcast(shape), low, high);
  c.Input(dtype, !first_whole || c.Chance(0.4) ? shape : c.RandomBroadcast(shape), second_low, second_high);
}
void NumberPair(CaseBuilder& c, double low = -200, double high = 200) {
  const DType dtype = c.NumberType();
  if (IsFloat(dtype)) {
    Pair(c, dtype, -3, 3, -3, 3);
  } else {
    Pair(c, dtype, low, high, low, high);
  }
}
void BitwisePair(CaseBuilder& c) { Pair(c, c.Chance(0.4) ? DType::kBool : c.IntegerType(), -200, 200, -200, 200); }

}  // namespace

void RandomAdd(CaseBuilder& c) { NumberPair(c); }
void RandomSub(CaseBuilder& c) { NumberPair(c); }
void RandomMul(CaseBuilder& c) { NumberPair(c); }
void RandomDiv(CaseBuilder& c) {
  const DType dtype = c.NumberType();
  if (IsFloat(dtype)) {
    Pair(c, dtype, -3, 3, 0.5, 4);
  } else {
    Pair(c, dtype, -200, 200, -9, 9);
  }
}
void RandomMod(CaseBuilder& c) {
  const DType dtype = c.NumberType();
  if (IsFloat(dtype)) {
    Pair(c, dtype, -9, 9, 0.5, 4);
    c.attrs.Set("fmod", int64_t{1});
    return;
  }
  Pair(c, dtype, -200, 200, -9, 9);
  if (c.Chance(0.6)) c.attrs.Set("fmod", c.Int(0, 1));
}
void RandomPow(CaseBuilder& c) {
  const DType dtype = c.NumberType();
  if (IsFloat(dtype)) {
    Pair(c, dtype, 0.3, 3, -2, 3);
  } else {
    Pair(c, dtype, -9, 9, -2, 9);
  }
}
void RandomMin(CaseBuilder& c) { NumberPair(c); }
void RandomMax(CaseBuilder& c) { NumberPair(c); }
void RandomEqual(CaseBuilder& c) {
  if (c.Chance(0.2)) {
    BitwisePair(c);
  } else {
    NumberPair(c, -2, 2);
  }
}
void RandomLess(CaseBuilder& c) { NumberPair(c, -9, 9); }
void RandomLessEqual(CaseBuilder& c) { NumberPair(c, -3, 3); }
void RandomAnd(CaseBuilder& c) { BitwisePair(c); }
void RandomOr(CaseBuilder& c) { BitwisePair(c); }
void RandomXor(CaseBuilder& c) { BitwisePair(c); }
void RandomWhere(CaseBuilder& c) {
  const DType dtype = c.Chance(0.1) ? DType::kBool : c.NumberType();
  const Shape shape = c.RandomShape(0, 4);
  const int64_t whole = c.Int(0, 2);
  c.Input(DType::kBool, whole == 0 ? shape : c.RandomBroadcast(shape));
  c.Input(dtype, whole == 1 ? shape : c.RandomBroadcast(shape));
  c.Input(dtype, whole == 2 ? shape : c.RandomBroadcast(shape));
}

}  // namespace tessera
