// Tests that CheckQuantParams takes every documented form and names what is wrong with the others.
#include "tesa/quant.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tesa/testing/status_matchers.h"

namespace tessera {
namespace {

using testing::HasSubstr;

const Shape kShape = {4, 10};

TEST(QuantParams, TakesEachForm) {
  EXPECT_OK(CheckQuantParams({.scales = {0.5}}, DType::kI8, kShape));
  EXPECT_OK(CheckQuantParams({.scales = {0.5}, .zero_points = {-128}}, DType::kI8, kShape));
  EXPECT_OK(CheckQuantParams({.scales = {1, 2, 3, 4}, .axis = 0}, DType::kU8, kShape));
  EXPECT_OK(CheckQuantParams({.scales = std::vector<double>(12, 1.0), .axis = 1, .block_size = 4}, DType::kI4, kShape));
  EXPECT_OK(CheckQuantParams({.scales = {0.5}}, DType::kU8, Shape()));
  EXPECT_OK(CheckQuantParams({.scales = {}, .axis = 0, .block_size = 4}, DType::kU8, {0, 3}));
}

TEST(QuantParams, NamesWhatIsWrong) {
  const auto check = [](const QuantParams& params, DType dtype = DType::kU8) {
    return CheckQuantParams(params, dtype, kShape);
  };
  EXPECT_THAT(check({.scales = {}}), StatusIs(ErrorCode::kValueInvalid, HasSubstr("expected 1 scales, found 0")));
  EXPECT_THAT(check({.scales = {1, 2}}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {1, 2, 3}, .axis = 0}), StatusIs(ErrorCode::kValueInvalid, HasSubstr("expected 4")));
  EXPECT_THAT(check({.scales = {1}, .axis = 2}), StatusIs(ErrorCode::kValueInvalid, HasSubstr("axis")));
  EXPECT_THAT(check({.scales = {1}, .axis = -2}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {1}, .block_size = 4}), StatusIs(ErrorCode::kValueInvalid, HasSubstr("axis beside")));
  EXPECT_THAT(check({.scales = {1}, .block_size = -1}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {0.0}}), StatusIs(ErrorCode::kValueInvalid, HasSubstr("above 0")));
  EXPECT_THAT(check({.scales = {-1.0}}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {NAN}}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {INFINITY}}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {1}, .zero_points = {256}}), StatusIs(ErrorCode::kValueInvalid, HasSubstr("0…255")));
  EXPECT_THAT(check({.scales = {1}, .zero_points = {-1}}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {1}, .zero_points = {1, 2}}), StatusIs(ErrorCode::kValueInvalid));
  EXPECT_THAT(check({.scales = {1}}, DType::kF32), StatusIs(ErrorCode::kValueInvalid, HasSubstr("integer")));
}

}  // namespace
}  // namespace tessera
