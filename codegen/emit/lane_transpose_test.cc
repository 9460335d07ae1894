// Squares of every size and element width, read as rows and written as columns.
#include "codegen/emit/lane_transpose.h"

#include <gtest/gtest.h>

#include "codegen/emit/testing/kernel_runner.h"
#include "tesa/tensor.h"

namespace tessera {
namespace {

TEST(LaneTransposeTest, RowsBecomeColumns) {
  const StatusOr<Target> target = MakeTarget("host");
  ASSERT_TRUE(target.ok());
  for (DType type : {DType::kF64, DType::kF32, DType::kI64, DType::kI32}) {
    for (int lanes : {1, 2, 4, 8, 16}) {
      KernelSpec spec;
      spec.family = "transpose";
      spec.num_args = 2;
      spec.emit = [&](KernelBuilder& b) {
        IrValues rows;
        for (int r = 0; r < lanes; ++r) rows.push_back(b.Load(b.arg(0), b.I64(r * lanes), type, lanes));
        rows = EmitLaneTranspose(b, rows);
        for (int r = 0; r < lanes; ++r) b.Store(b.arg(1), b.I64(r * lanes), type, rows[r]);
      };
      const StatusOr<KernelRunner> run = KernelRunner::Make(spec, *target);
      ASSERT_TRUE(run.ok()) << run.status();
      Tensor x(type, {lanes, lanes}), y(type, {lanes, lanes});
      for (int64_t k = 0; k < lanes * lanes; ++k) IsFloat(type) ? x.Set(k, k) : x.SetInt(k, k);
      (*run)({x.mutable_bytes().data(), y.mutable_bytes().data()}, 0, 1);
      for (int64_t r = 0; r < lanes; ++r) {
        for (int64_t c = 0; c < lanes; ++c) {
          EXPECT_EQ(IsFloat(type) ? y.Get(r * lanes + c) : static_cast<double>(y.GetInt(r * lanes + c)), c * lanes + r)
              << type << " " << lanes;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera
