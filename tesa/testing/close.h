// Near-equality of tensors that explains itself.
//
//   EXPECT_TRUE(Close(result, reference, 1e-5));
//   // y[3,17] = 0.25, expected 0.5: relative error 0.1 (max|y-r| = 0.25, max|r| = 2.5), allowed 1e-05; 4 of 90 are off
//
// The relative error of y is max|y - r| / max|r| over all elements, as every figure of this project defines it; the
// worst element is named. NaN must meet NaN and an infinity the same infinity. Integers and bool are exact whatever is
// allowed. Tested by testing_test.cc.
#ifndef TESSERA_TESA_TESTING_CLOSE_H_
#define TESSERA_TESA_TESTING_CLOSE_H_

#include "gtest/gtest.h"
#include "tesa/tensor.h"

namespace tessera {

// Same shape; types may differ when both are floats (an f32 result and its f64 reference).
testing::AssertionResult Close(const Tensor& y, const Tensor& r, double allowed);

// max|y - r| / max|r|; 0 for equal tensors, infinity where NaN or infinities disagree. Same shape.
double RelativeError(const Tensor& y, const Tensor& r);

inline void ExpectClose(const Tensor& y, const Tensor& r, double allowed) { EXPECT_TRUE(Close(y, r, allowed)); }

}  // namespace tessera

#endif  // TESSERA_TESA_TESTING_CLOSE_H_
