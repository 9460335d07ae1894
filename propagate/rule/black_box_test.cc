#include "propagate/rule/black_box.h"

#include "gtest/gtest.h"

namespace tessera {
namespace {

// out0 = context times a; out1 = b + 1, as an i8.
int ScaleAndCount(void* context, const double* const* in, double* const* out) {
  for (int k = 0; k < 3; ++k) out[0][k] = *static_cast<double*>(context) * in[0][k];
  for (int k = 0; k < 2; ++k) out[1][k] = in[1] == nullptr ? 7 : in[1][k] + 1;
  return 0;
}

TEST(BlackBoxTest, ACFunctionSeesDoublesAndWrapsIntegers) {
  double factor = 2;
  const TensorType a = {DType::kF32, {3}}, b = {DType::kI8, {2}};
  const BlackBox box = MakeBlackBox("scale_and_count", {a, b}, {a, b}, &ScaleAndCount, &factor);
  RefTensor x(a), y(b);
  x.f = {1, -2, 0.5};
  y.i = {5, 127};
  std::vector<RefTensor> out = {RefTensor(a), RefTensor(b)};
  const RefTensor* in[] = {&x, &y};
  box.run(in, out);
  EXPECT_EQ(out[0].f, (std::vector<double>{2, -4, 1}));
  EXPECT_EQ(out[1].i, (std::vector<int64_t>{6, -128}));
  const RefTensor* without[] = {&x, nullptr};
  box.run(without, out);
  EXPECT_EQ(out[1].i, (std::vector<int64_t>{7, 7}));
}

}  // namespace
}  // namespace tessera
