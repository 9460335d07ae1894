#include "graph/passes/constants.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "gtest/gtest.h"

namespace tessera {
namespace {

TEST(Constants, TransposesEveryWidthAsTheDefinitionSays) {
  std::mt19937_64 rng(1);
  constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kBF16, DType::kI8, DType::kI4, DType::kBool};
  for (int round = 0; round < 200; ++round) {
    const DType dtype = kTypes[round % 6];
    std::vector<int64_t> dims(rng() % 5), perm(dims.size());
    for (int64_t& d : dims) d = static_cast<int64_t>(rng() % 5);
    std::iota(perm.begin(), perm.end(), 0);
    std::shuffle(perm.begin(), perm.end(), rng);
    Tensor x(dtype, Shape(dims));
    for (int64_t k = 0; k < x.num_elements(); ++k) x.SetInt(k, static_cast<int64_t>(rng() % 7) - 3);
    const Tensor y = TransposedTensor(x, perm);
    ASSERT_EQ(y.shape(), PermutedShape(x.shape(), perm));
    const std::vector<int64_t> strides = x.shape().Strides();
    int64_t k = 0;
    ForEachIndex(y.shape(), [&](const std::vector<int64_t>& at) {
      int64_t position = 0;
      for (size_t d = 0; d < at.size(); ++d) position += at[d] * strides[perm[d]];
      ASSERT_EQ(y.Get(k++), x.Get(position));
    });
    EXPECT_EQ(TransposedTensor(y, InversePerm(perm)), x);
    EXPECT_TRUE(IsIdentityPerm(ComposePerms(perm, InversePerm(perm))));
    if (KeepsOrder(x.shape(), perm)) {
      EXPECT_EQ(x.Reshaped(y.shape()), y);
    }
  }
}

}  // namespace
}  // namespace tessera
